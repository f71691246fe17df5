"""Published results stand below a table's rule, told apart from what was measured, and decide nothing above it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rows_factory import make_row

from dmlbench.cli import run
from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.results.row_files import write_row
from dmlbench.tables.formats import csv, html, latex, markdown
from dmlbench.tables.formats.cells import all_digits
from dmlbench.tables.table import Table, compare

ALIKE = "Below the rule: published results, not made alike"


def study(**columns: object) -> list[Row]:
    """The untrained trunk and two losses on CUB with BN-Inception, one seed; far below what is published."""
    same = {"dataset": "cub", "trunk": "bn_inception", "split_rule": "zero_shot", **columns}
    losses = ("untrained", "contrastive", "arcface")
    return [make_row(0.1 * (i + 1), **{"loss": loss, **same}) for i, loss in enumerate(losses)]


def one(rows: list[Row], **asked: object) -> Table:
    (table,) = compare(rows, **asked)  # type: ignore[arg-type]
    return table


def lines(text: str) -> list[list[str]]:
    """The cells of a markdown table, line by line, below its head."""
    cut = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return cut[2:]


def below(text: str) -> list[list[str]]:
    cells = lines(text)
    rule = next((i for i, line in enumerate(cells) if set(line) == {"---"}), len(cells))
    return cells[rule + 1 :]


def test_measured_lines_come_first_then_a_rule_then_what_was_published() -> None:
    cells = lines(markdown([one(study())]))
    assert [line[0].split(" [")[0] for line in cells[:3]] == ["Untrained trunk", "Contrastive", "ArcFace"]
    assert set(cells[3]) == {"---"}
    assert len(cells) > 20


def test_a_published_line_tells_its_trunk_and_size_and_has_no_seeds_and_no_interval() -> None:
    (line,) = [line for line in below(markdown([one(study())])) if line[0].startswith("Proxy Anchor")]
    assert line == ["Proxy Anchor (BN-Inception, 512-d) [1]", "--", "68.4", "79.2", "86.8", "91.6", "--", "--"]


def test_p_at_1_of_the_reality_check_stands_in_the_column_of_recall_at_1() -> None:
    (line,) = [line for line in below(markdown([one(study())])) if line[0].startswith("ArcFace")]
    assert line[2:] == ["60.17", "--", "--", "--", "32.37", "21.49"]


def test_its_source_is_a_footnote_and_one_sentence_says_that_it_was_not_made_alike() -> None:
    text = markdown([one(study())])
    assert text.count(ALIKE) == 1
    assert "- [1] Best practice DML, lecture slides" in text
    assert re.search(r"- \[\d\] Musgrave, Belongie & Lim.*arXiv:2003\.08505", text)


def test_nothing_below_the_rule_is_bold_however_high_and_the_best_above_it_stays_so() -> None:
    table = one(study())
    assert table.best("recall_at_1") == pytest.approx(0.3)
    text = markdown([table])
    assert not any("**" in cell for line in below(text) for cell in line)
    assert any("**30.0**" in line for line in lines(text))


def test_a_published_trunk_as_it_came_is_no_floor_for_the_methods() -> None:
    table = one([row for row in study() if row["loss"] != "untrained"])
    assert any(line.label == "Untrained trunk" for line in table.published)
    assert not any("untrained" in note for note in table.notes)


def test_the_same_trunk_is_the_default_and_all_brings_other_trunks_and_ablations() -> None:
    assert {line.trunk for line in one(study()).published} == {"bn_inception"}
    everything = one(study(), published="all").published
    assert {"resnet50", "googlenet", None} <= {line.trunk for line in everything}
    assert "ablation" in {line.source.kind for line in everything}
    assert one(study(), published="none").published == ()


def test_validation_numbers_are_never_below_a_rule() -> None:
    assert "validation" not in {line.source.kind for line in one(study(), published="all").published}


def test_without_published_results_there_is_no_rule_and_no_sentence() -> None:
    for rows, asked in ((study(dataset="digits"), "all"), (study(), "none")):
        text = markdown([one(rows, published=asked)])
        assert ALIKE not in text
        assert below(text) == []


def test_another_split_is_another_task() -> None:
    rows = [
        Row({**row.columns, "precision_at_5": 0.5, "retrieved_at_5": 0.05})
        for row in study(split_rule="half_per_class", trunk="resnet50")
    ]
    table = one(rows, metrics=("precision_at_5", "retrieved_at_5"))
    assert [(line.label, line.source.where) for line in table.published] == [("Cosface", "Table III"), ("Arcface", "Table III")]


def test_a_line_without_any_printed_metric_is_left_out() -> None:
    table = one(study(), metrics=("map_at_r",))
    assert {line.source.cite.split(",")[0] for line in table.published} == {"Musgrave"}


def test_only_tables_of_methods_have_published_lines() -> None:
    rows = [make_row(0.2, dataset="cub", trunk=trunk) for trunk in ("bn_inception", "resnet50")]
    assert one(rows, vary="trunk").published == ()


def test_a_table_of_presets_has_those_of_every_trunk_that_its_lines_have() -> None:
    rows = [
        make_row(0.2, dataset="cub", trunk="bn_inception", preset="paper"),
        make_row(0.2, dataset="cub", trunk="resnet50", preset="none"),
    ]
    assert {line.trunk for line in one(rows, vary="preset").published} == {"bn_inception", "resnet50"}


def test_an_unknown_choice_is_refused_with_a_near_name() -> None:
    with pytest.raises(UserError, match="--published al is not known; did you mean 'all'"):
        compare(study(), published="al")


def test_a_csv_has_no_line_that_was_not_measured() -> None:
    assert csv([one(study())]) == csv([one(study(), published="none")])


def test_html_sets_them_apart_in_a_body_of_their_own() -> None:
    text = html([one(study())])
    bodies = re.findall(r"<tbody>(.*?)</tbody>", text, re.DOTALL)
    assert len(bodies) == 3
    assert bodies[-1].count("<tr>") == len(one(study()).published)
    assert "<strong>" not in bodies[-1]
    assert ALIKE in text


def test_latex_has_a_rule_before_them_and_every_line_has_as_many_cells() -> None:
    text = latex([one(study(), published="all")])
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    assert body.count(r"\midrule") == 3
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len({len(re.split(r"(?<!\\)&", line)) for line in rows}) == 1
    assert ALIKE in text


def test_the_latex_of_all_that_was_published_compiles(tmp_path: Path) -> None:
    compiler = next(filter(None, map(shutil.which, ("pdflatex", "tectonic"))), None)
    if compiler is None:
        pytest.skip("neither pdflatex nor tectonic is on PATH: the LaTeX is not compiled")
    tables = [one(study(dataset=dataset), published="all") for dataset in ("cub", "cars", "sop", "inshop")]
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "page.tex").write_text(head + latex(tables) + "\\end{document}\n", encoding="utf-8")
    options = ["-halt-on-error", "-interaction=nonstopmode"] if "pdflatex" in compiler else []
    done = subprocess.run([compiler, *options, "page.tex"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


# --- the command line


def runs_of(rows: list[Row], tmp_path: Path) -> str:
    for i, row in enumerate(rows):
        (tmp_path / "runs" / f"{i}").mkdir(parents=True)
        write_row(tmp_path / "runs" / f"{i}", row)
    return str(tmp_path / "runs")


def test_the_command_prints_those_of_the_same_trunk_unless_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = runs_of(study(), tmp_path)
    printed = {}
    for choice in ("", "--published=none", "--published=same", "--published=all"):
        assert run(["table", runs, *filter(None, [choice])]) == 0
        printed[choice] = len(below(capsys.readouterr().out))
    assert printed[""] == printed["--published=same"]
    assert 0 == printed["--published=none"] < printed["--published=same"] < printed["--published=all"]


def test_results_of_ones_own_choice_come_from_the_config_dir_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = runs_of([make_row(0.5)], tmp_path)
    (tmp_path / "my_conf" / "published").mkdir(parents=True)
    own = tmp_path / "my_conf" / "published" / "theirs.yaml"
    text = """
        cite: Theirs, 2026
        tables:
          - where: Table 1
            kind: comparison
            unit: percent
            columns: {digits: [recall_at_1]}
            rows: [{label: Their loss, trunk: convnet, digits: [77.7]}]
    """
    own.write_text(text)
    assert run(["table", runs, "--config-dir", str(tmp_path / "my_conf")]) == 0
    ((label, _, number, *_),) = below(capsys.readouterr().out)
    assert (label, number) == ("Their loss (ConvNet) [1]", "77.7")
    own.write_text(text.replace("unit", "units"))
    assert run(["table", runs, "--config-dir", str(tmp_path / "my_conf")]) == 2
    assert "theirs.yaml, table 1: 'units' is not known here; did you mean 'unit'?" in capsys.readouterr().err


def test_a_choice_that_does_not_exist_ends_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table", runs_of(study(), tmp_path), "--published", "some"]) == 2
    assert "--published some is not known; did you mean 'same'?" in capsys.readouterr().err


def test_every_digit_that_was_published_is_printed() -> None:
    assert [all_digits(value) for value in (0.2955, 0.83, 0.0006, None)] == ["29.55", "83.0", "0.06", "--"]
