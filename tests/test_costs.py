"""What a line cost, beside its scores; and what choosing the epoch on the test set would have claimed."""

import csv as csv_reader
import io
import re
from html.parser import HTMLParser

import pytest
from rows_factory import COST, make_row, make_study

from dmlbench.cli import run
from dmlbench.costs import COSTS
from dmlbench.errors import UserError
from dmlbench.render import FORMATS, csv, html, latex, markdown, render
from dmlbench.rows import write_row
from dmlbench.table import Table, compare


def one(rows, **options) -> Table:
    [table] = compare(rows, **options)
    return table


def cells(table: Table) -> dict[str, list[str]]:
    """Method to the last cells of its line in markdown: the costs."""
    lines = [line.strip("|").split("|") for line in markdown([table]).splitlines() if line.startswith("| ")]
    return {re.sub(r" \[.*", "", line[0].strip()): [cell.strip() for cell in line[-len(table.costs) :]] for line in lines}


def test_costs_are_means_over_seeds_in_their_unit() -> None:
    seconds = [100.0, 200.0, 330.0]
    rows = [make_row(seed=seed, **{**COST, "train_seconds": seconds[seed]}) for seed in range(3)]
    table = cells(one(rows))
    assert table["Method"] == ["Train (s)", "Images/s", "GiB", "Par. (M)"]
    assert table["Contrastive"] == ["210", "61.5", "1.25", "2.40"]


def test_hours_of_tuning_are_a_cost_of_what_was_tuned() -> None:
    rows = [make_row(loss=loss, tuning_trials=20, tuned_hours=1.5, **COST) for loss in ("contrastive", "triplet")]
    table = one([*rows, make_row(loss="untrained", tuning_trials=20, **COST)])
    assert [line.costs["hours of tuning"] for line in table.lines] == [None, 1.5, 1.5]
    assert "method values tuned with 20 trials each on folds of the training classes" in table.caption
    assert not any("tuning" in note for line in table.lines for note in line.notes)


def test_a_cost_is_never_bold_and_has_no_interval() -> None:
    rows = [make_row(seed=seed, **{**COST, "train_seconds": 100.0 + seed}) for seed in range(3)]
    for text in cells(one(rows))["Contrastive"]:
        assert re.fullmatch(r"[\d.,]+", text)


@pytest.mark.parametrize("value", [None, "many", True, float("nan"), float("inf")])
def test_a_seed_without_a_cost_leaves_its_cell_empty_and_a_note(value) -> None:
    rows = [make_row(seed=0, **COST), make_row(seed=1, **{**COST, "memory_gib": value})]
    table = one(rows)
    assert cells(table)["Contrastive"][2] == "--"
    assert "no memory for seed 1" in table.lines[0].notes


def test_a_method_that_failed_on_the_way_has_no_cost() -> None:
    table = one([make_row(**COST), make_row(seed=1, status="failed", reason="nan", **COST)])
    assert set(table.lines[0].costs.values()) == {None}


def test_rows_that_tell_no_cost_have_no_columns_for_it() -> None:
    assert one([make_row()]).costs == ()
    assert one([make_row(**COST)], cost=False).costs == ()


@pytest.mark.parametrize(("other", "where"), [({"hostname": "beta"}, "2 machines"), ({"device": "cuda"}, "2 kinds of device")])
def test_costs_of_several_machines_are_told_to_be_not_comparable(other, where: str) -> None:
    table = one([make_row(**COST), make_row(loss="triplet", **{**COST, **other})])
    assert f"time, speed and memory are not comparable: the rows come from {where}" in table.notes
    assert not any("not comparable" in note for note in one([make_row(**COST)]).notes)


def test_latex_has_the_costs_in_a_tabular_of_their_own() -> None:
    text = latex([one(make_study(**COST))])
    scores, costs = re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert "MAP@R" in scores
    assert "MAP@R" not in costs
    assert "Train (s)" in costs
    for part in (scores, costs):
        lines = [line for line in part.splitlines() if line.endswith(r"\\")]
        assert len(lines) == 5
        assert len({line.count("&") for line in lines}) == 1


def test_every_cost_says_what_it_is_in_the_caption() -> None:
    columns = {name: 1.0 for cost in COSTS for name in cost.columns}
    caption = one([make_row(**columns)]).caption
    assert all(cost.name in caption for cost in COSTS)


# --- how the models were chosen


def test_how_models_were_chosen_is_in_the_caption_where_all_were_chosen_alike() -> None:
    table = one([make_row(), make_row(loss="untrained", selected_on="none")])
    assert "Selected: last epoch, fixed protocol." in table.caption
    assert not table.chosen_apart


def test_how_models_were_chosen_is_a_column_where_lines_differ() -> None:
    rows = [make_row(preset="paper", selected_on="validation"), make_row(preset="none", selected_on="last")]
    table = one(rows, vary="preset")
    assert table.chosen_apart
    text = markdown([table])
    assert "| Chosen " in text
    assert "| last epoch " in text
    assert "| validation " in text


# --- the oracle


def oracle_rows() -> list:
    gaps = {0: 0.02, 1: 0.04}
    rows = [make_row(0.4, seed=seed, oracle_map_at_r=0.4 + gap, oracle_epoch=3) for seed, gap in gaps.items()]
    rows += [make_row(0.3, seed=seed, loss="triplet", **({"oracle_map_at_r": 0.35} if not seed else {})) for seed in (0, 1)]
    return [*rows, *(make_row(0.1, seed=seed, loss="untrained", selected_on="none") for seed in (0, 1))]


def test_the_oracle_gap_is_a_mean_over_seeds_with_its_interval_and_never_bold() -> None:
    table = one(oracle_rows(), oracle=True)
    gaps = {line.loss: line.oracle_gap for line in table.lines}
    assert gaps["contrastive"] is not None
    assert gaps["contrastive"].mean == pytest.approx(0.03)
    assert gaps["contrastive"].half_width == pytest.approx(12.706 * 0.01, rel=1e-3)
    assert gaps["untrained"] is None
    line = next(line for line in markdown([table]).splitlines() if line.startswith("| Contrastive"))
    assert line.strip("| ").split("|")[-1].strip() == "3.0 ± 12.7"
    assert "choosing the epoch on the test set would have claimed; nothing was chosen so" in table.caption


def test_a_seed_without_the_oracle_leaves_the_gap_empty_and_a_note() -> None:
    triplet = next(line for line in one(oracle_rows(), oracle=True).lines if line.loss == "triplet")
    assert triplet.oracle_gap is None
    assert "no oracle gap for seed 1" in triplet.notes


def test_nothing_of_the_oracle_is_shown_unasked() -> None:
    for form in ("markdown", "latex", "html"):
        assert "racle" not in render([one(oracle_rows())], form)


def test_an_oracle_that_no_row_has_is_refused_with_what_writes_it() -> None:
    with pytest.raises(UserError, match=r"--oracle: no row has the column oracle_map_at_r; .* oracle=true"):
        compare([make_row()], oracle=True)


# --- CSV and HTML


def test_csv_carries_every_column_of_the_rows() -> None:
    rows = make_study(**COST, own_column="x", tuned_score=0.5)
    [header, *_] = csv_reader.reader(io.StringIO(csv(compare(rows))))
    assert {name for row in rows for name in row.columns} - {"seed"} <= set(header)
    assert len(header) == len(set(header))


def test_csv_holds_the_mean_of_what_differs_between_seeds() -> None:
    rows = [make_row(seed=seed, **{**COST, "train_seconds": 10.0 * seed, "hostname": f"h{seed}"}) for seed in range(3)]
    [line] = csv_reader.DictReader(io.StringIO(csv(compare(rows))))
    assert float(line["train_seconds"]) == pytest.approx(10)
    assert line["hostname"] == "h0 | h1 | h2"


class Reader(HTMLParser):
    """Collects tags, attributes and text; complains where tags do not close as they open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_html_is_one_file_without_a_network_in_which_labels_are_text() -> None:
    hostile = "<script>alert('x')</script> & \"quotes\" <b>"
    rows = [
        make_row(loss_label=hostile, dataset_label=hostile, **COST),
        make_row(loss="triplet", status="failed", reason=hostile),
    ]
    page = Reader(html(compare(rows)))
    tags = {tag for tag, _ in page.found}
    assert not tags & {"script", "link", "img", "iframe", "b"}
    assert not any(name in ("src", "href", "onclick") for _, attributes in page.found for name in attributes)
    assert "http" not in page.text
    assert page.text.count("<script>alert('x')</script>") >= 3


def test_every_footnote_that_html_marks_exists() -> None:
    page = html(compare([*make_study(), make_row(loss="cosface", status="failed", reason="nan")]))
    marks = {number for marks in re.findall(r"<sup>([\d, ]+)</sup></th>", page) for number in marks.split(", ")}
    notes = set(re.findall(r"<li><sup>(\d+)</sup>", page))
    assert marks == notes != set()


# --- words


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for row in make_study(**COST):
        write_row(tmp_path / "runs" / str(row["run_id"]), row)
    return tmp_path


def test_metrics_stand_in_the_order_in_which_they_are_asked_for(runs, capsys) -> None:
    assert run(["table", "--metrics", "map_at_r,recall_at_1", "--no-cost"]) == 0
    head = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| Method"))
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["Method", "n", "MAP@R", "R@1"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--metrics", "map_at"], "metrics=map_at: no row has this metric; did you mean 'map_at_r'?"),
        (["--metrics"], "--metrics needs a value, such as --metrics=recall_at_1,map_at_r"),
        (["--format"], "--format needs a value, such as --format=markdown"),
        (["--format", "htm"], "format=htm is no format of a table; did you mean 'html'?"),
        (["--published", "al"], "--published al is not known; did you mean 'all'?"),
        (["--expain"], "dmlbench table does not know '--expain'; did you mean '--explain'?"),
        (["--oracle"], "--oracle: no row has the column oracle_map_at_r; "),
    ],
)
def test_a_misspelt_word_of_a_table_is_one_sentence(words, sentence, runs, capsys) -> None:
    assert run(["table", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"dmlbench: {sentence}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_prints_a_table_without_costs_too(form, runs, capsys) -> None:
    assert run(["table", "--format", form, "--no-cost"]) == 0
    assert capsys.readouterr().out.endswith("\n")
