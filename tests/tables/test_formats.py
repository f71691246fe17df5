"""Tables in markdown, LaTeX, HTML and CSV."""

from __future__ import annotations

import csv as csv_reader
import doctest
import importlib
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rows_factory import COST, METRICS, make_row, make_study

from dmlbench.errors import UserError
from dmlbench.results.columns import column
from dmlbench.results.row import Row
from dmlbench.tables.formats import FORMATS, csv, html, latex, markdown, render
from dmlbench.tables.table import compare

GOLDEN = Path(__file__).parents[1] / "golden"
HOSTILE = r"A&B_{50%}$x$ #1 ~^\ <tag> |pipe| *star* [box]"


def difficult_study() -> list[Row]:
    """Make rows with variants, a failure, a missing seed, two devices, missing costs, overrides, and of two tables."""
    rows = make_study(**COST)
    rows += [make_row(0.43 + 0.01 * seed, loss_make_neg_margin=1.0, seed=seed, **COST) for seed in range(2)]
    rows += [make_row(0.05 + 0.01 * seed, loss="softtriple", seed=seed, device="cuda", **COST) for seed in range(3)]
    rows += [
        make_row(0.3, loss="cosface"),
        make_row(loss="cosface", seed=1, status="failed", reason="nan in epoch 2"),
    ]
    overridden = {"protocol_epochs": 12, "overrides": '["optimizer.weight_decay=0.0001", "protocol.epochs=12"]'}
    return [*rows, make_row(0.1, loss="untrained", **overridden), make_row(0.4, **overridden)]


def cells(text: str) -> dict[str, list[str]]:
    """Read the cells of markdown tables, by method."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


@pytest.mark.parametrize(("form", "suffix"), FORMATS.items())
def test_the_tables_of_a_difficult_study_equal_the_golden_files(form: str, suffix: str) -> None:
    expected = (GOLDEN / f"tables{suffix}").read_text(encoding="utf-8")
    found = render(compare(difficult_study(), tested=False), form)  # without the test, some numbers are bold
    assert (without_later_columns(found) if form == "csv" else found) == expected


def without_later_columns(text: str) -> str:
    """Remove the columns of a CSV table that a new version of the row schema adds or changes."""
    header, *lines = csv_reader.reader(io.StringIO(text))
    kept = [i for i, name in enumerate(header) if name != "schema_version" and column(name).since == 1]
    found = io.StringIO()
    csv_reader.writer(found, lineterminator="\n").writerows([line[i] for i in kept] for line in [header, *lines])
    return found.getvalue()


def test_an_unknown_format_is_refused_with_a_similar_name() -> None:
    with pytest.raises(UserError, match="--format latx is not known; did you mean 'latex'"):
        render(compare([make_row()]), "latx")


# --- markdown


def two_seeds(scores: dict[str, float], difference: float = 0.0) -> list[Row]:
    """Make two rows of each loss, whose scores differ from the given one by half of the difference."""
    return [
        make_row(score + sign * difference / 2, loss=loss, seed=seed)
        for loss, score in scores.items()
        for seed, sign in enumerate((-1, 1))
    ]


def test_percent_has_one_decimal() -> None:
    table = cells(markdown(compare([make_row(0.48123), make_row(0.3999, loss="triplet")])))
    assert table["Contrastive"] == ["1", *["48.1"] * 6]
    assert table["Triplet"] == ["1", *["40.0"] * 6]


def test_the_interval_is_bold_together_with_the_mean() -> None:
    rows = two_seeds({"contrastive": 0.41, "triplet": 0.2}, difference=0.02)
    # Two seeds 0.02 apart: 12.7062 * 0.01.
    assert cells(markdown(compare(rows, tested=False)))["Contrastive"][-1] == "**41.0 ± 12.7**"


def test_methods_with_the_same_printed_score_are_all_bold() -> None:
    rows = two_seeds({"contrastive": 0.48123, "triplet": 0.48101, "arcface": 0.4789})
    table = cells(markdown(compare(rows, tested=False)))
    assert [table[name][-1][:8] for name in ("Contrastive", "Triplet", "ArcFace")] == ["**48.1 ±", "**48.1 ±", "47.9 ± 0"]


def test_the_untrained_trunk_is_never_bold_and_a_note_says_if_no_method_exceeds_it() -> None:
    rows = two_seeds({"untrained": 0.9, "contrastive": 0.5, "triplet": 0.4})
    text = markdown(compare(rows, tested=False))
    assert cells(text)["Untrained trunk"][-1] == "90.0 ± 0.0"
    assert cells(text)["Contrastive [1]"][-1] == "**50.0 ± 0.0**"
    assert "- No method exceeds the untrained trunk in R@1, R@2, R@4, R@8, RP, MAP@R" in text


def test_an_untrained_trunk_with_the_best_score_is_not_bold() -> None:
    table = cells(markdown(compare([make_row(0.5, loss="untrained"), make_row(0.5)])))
    assert table["Untrained trunk"][-1] == "50.0"


def test_a_missing_score_is_visible_and_its_footnote_says_why() -> None:
    text = markdown(compare(difficult_study()))
    (label,) = [label for label in cells(text) if label.startswith("CosFace")]
    (marks,) = re.findall(r"\[(.*)\]", label)
    assert set(cells(text)[label][1:]) == {"--"}
    assert "seed 1 failed: nan in epoch 2" in "".join(
        line for line in text.splitlines() if any(line.startswith(f"- [{mark}]") for mark in marks.split(", "))
    )


def test_the_columns_of_a_markdown_table_are_aligned() -> None:
    text = markdown(compare(difficult_study()))
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in block.splitlines()}) == 1


def test_a_pipe_in_a_label_does_not_start_a_column() -> None:
    text = markdown(compare([make_row(loss_label="a|b")]))
    assert r"| a\|b" in text


def test_brackets_have_no_backslashes_outside_of_tables() -> None:
    text = markdown(compare([make_row(), make_row(optimizer_betas="[0.9, 0.999]")]))
    assert "- optimizer_betas: [0.9, 0.999] | not set\n" in text
    assert "\n- In this table: optimizer_betas = [0.9, 0.999]\n" in text


def test_a_label_cannot_become_a_link() -> None:
    assert r"[a\](https://example.org)" in markdown(compare([make_row(loss_label="[a](https://example.org)")]))


def test_several_tables_are_preceded_by_the_columns_in_which_they_differ() -> None:
    text = markdown(compare([make_row(), make_row(protocol_epochs=12, optimizer_weight_decay=0.1)]))
    assert "- optimizer_weight_decay: 0.0001 | 0.1\n- protocol_epochs: 6 | 12\n" in text.replace(r"\_", "_")
    unwrapped = " ".join(text.split())
    assert "Table 1. Digit pairs" in unwrapped
    assert "- In this table: optimizer_weight_decay = 0.0001 -" in unwrapped
    assert "- In this table: optimizer_weight_decay = 0.1 -" in unwrapped


# --- LaTeX


def assert_environments_balance(text: str) -> None:
    opened = []
    for verb, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if verb == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")


def test_a_float_is_complete_and_its_environments_are_balanced() -> None:
    text = latex(compare(difficult_study(), tested=False))
    assert_environments_balance(text)
    for part in (r"\begin{table}", r"\caption{", r"\toprule", r"\midrule", r"\bottomrule", r"\end{table}"):
        assert text.count(part) >= 2, part
    assert r"\textbf{43.5 $\pm$ 6.4}" in text


def test_every_line_of_a_latex_table_has_one_cell_per_column() -> None:
    text = latex(compare(difficult_study()))
    for columns, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {len(columns)}


def test_labels_of_floats_are_unique_and_consist_of_plain_characters() -> None:
    rows = [make_row(), make_row(protocol_epochs=12), make_row(dataset="Ä_b c")]
    labels = re.findall(r"\\label\{(.*?)\}", latex(compare(rows)))
    assert len(set(labels)) == 3
    assert all(re.fullmatch(r"tab:[a-z0-9-]+", label) for label in labels)


def test_special_characters_are_escaped_in_labels_captions_and_footnotes() -> None:
    names = {"dataset_label": HOSTILE, "trunk_label": HOSTILE}
    rows = [
        make_row(loss_label=HOSTILE, **names),
        make_row(loss="triplet", status="failed", reason=HOSTILE, **names),
    ]
    text = latex(compare(rows))
    assert_environments_balance(text)
    escaped = (
        r"A\&B\_\{50\%\}\$x\$ \#1 \textasciitilde{}\textasciicircum{}\textbackslash{} "
        r"\textless{}tag\textgreater{} \textbar{}pipe\textbar{} {*}star{*} {[}box]"
    )
    assert text.count(escaped) == 4


def test_notes_below_latex_tables_contain_the_columns_in_which_tables_differ() -> None:
    text = latex(compare([make_row(), make_row(optimizer_weight_decay=0.1)]))
    assert re.findall(r"footnotesize In this table: optimizer\\_weight\\_decay = (\S+) ", text) == ["0.0001", "0.1"]


def test_captions_have_three_sentences_also_if_there_are_several_tables() -> None:
    rows = [make_row(), make_row(optimizer_weight_decay=0.1), make_row(tuning_trials=3, protocol_fold="none")]
    first, *_ = markdown(compare(rows)).partition("Table 1. ")[2].split("\n\n")
    assert len(re.findall(r"\.(?= |$)", " ".join(first.split()))) == 3


def test_the_latex_compiles(tmp_path: Path) -> None:
    compiler = next(filter(None, map(shutil.which, ("pdflatex", "tectonic"))), None)
    if compiler is None:
        pytest.skip("neither pdflatex nor tectonic is on PATH: the LaTeX is not compiled")
    rows = [*difficult_study(), make_row(loss="mine", loss_label=HOSTILE + " éßüÅő αΩ ± ≤ 中文")]
    body = latex(compare(rows))
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "page.tex").write_text(head + body + "\\end{document}\n", encoding="utf-8")
    options = ["-halt-on-error", "-interaction=nonstopmode"] if "pdflatex" in compiler else []
    done = subprocess.run([compiler, *options, "page.tex"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "page.pdf").stat().st_size > 0


def test_all_printable_ascii_characters_and_hundreds_of_others_compile(tmp_path: Path) -> None:
    compiler = shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("pdflatex is not on PATH: the characters are not compiled")
    ascii_characters = [chr(code) for code in range(32, 127)]
    others = [chr(code) for code in (*range(0xA0, 0x180), *range(0x1E00, 0x1F00), *range(0x370, 0x400), *range(0x2010, 0x2040))]
    others += list("€→←∞≈≠≤≥√∈中文กא🙂\u200b\u0301\ufffd\x07")
    # Each at the start, inside and at the end of a label, because some are special only at the start of a line.
    rows = [make_row(loss=f"l{i}", loss_label=f"{one}a{one}{one}b{one}") for i, one in enumerate(ascii_characters)]
    texts = ["".join(others[i : i + 20]) for i in range(0, len(others), 20)]
    rows += [make_row(loss=f"m{i}", loss_label=one, status="failed", reason=one) for i, one in enumerate(texts)]
    text = latex(compare(rows, metrics=["map_at_r"]))
    assert text.isascii()
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "page.tex").write_text(head + text + "\\end{document}\n", encoding="ascii")
    options = ["-halt-on-error", "-interaction=nonstopmode", "page.tex"]
    done = subprocess.run([compiler, *options], cwd=tmp_path, check=False, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "page.log").read_text(encoding="latin-1")


# --- HTML


class Page(HTMLParser):
    """The content of a page: tags with their attributes, the text within tags, and table rows. Nesting is checked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[tuple[str, ...], str]] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.opened == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag != "meta":
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append((tuple(self.opened), data))
        if {"td", "th"} & set(self.opened) and "sup" not in self.opened:
            self.rows[-1][-1] += data

    def inside(self, *tags: str) -> list[str]:
        return [text for opened, text in self.text if opened[-len(tags) :] == tags]


def test_an_html_page_is_well_nested_and_requests_nothing() -> None:
    published = {"dataset": "cub", "trunk": "bn_inception", "split_rule": "zero_shot"}
    for text in (html(compare(difficult_study())), html(compare(make_study(**published, **COST)))):
        page = Page(text)
        names = {name for _, attributes in page.tags for name in attributes}
        assert names <= {"lang", "charset", "name", "content", "class", "scope", "style"}
        assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "a", "base", "object"})
        assert not re.search(r"https?:|url\(|@import", text)


def test_every_row_of_an_html_table_has_one_cell_per_column_in_the_order_of_the_heading() -> None:
    rows = make_study(**COST)
    page = Page(html(compare(rows)))
    assert {len(row) for row in page.rows} == {12}
    assert page.rows[0][:3] == ["Method", "n", "R@1"]
    assert page.rows[1][:3] == ["Untrained trunk", "3", "11.0 ± 2.5"]
    assert page.rows[-1][-4:] == ["120", "61.5", "1.25", "2.40"]


@pytest.mark.parametrize("line_break", [" ", "\n", "\x85", "\u2028"])
def test_labels_with_markup_and_line_breaks_are_plain_text_in_an_html_page(line_break: str) -> None:
    label = f"""<script>alert(1)</script> "double"{line_break}'single' & &amp; </td></table>"""
    columns = {"dataset_label": label, "trunk_label": label, "dataset": label}
    failed = make_row(loss="triplet", loss_label="T", status="failed", reason=label, **columns)
    text = html(compare([make_row(loss_label=label, **columns), failed, make_row(**columns, protocol_lr=0.5, optimizer=label)]))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    page, label = Page(text), label.replace(line_break, " ")
    assert label in [row[0].strip() for row in page.rows]
    assert any(label in caption for caption in page.inside("figcaption"))
    assert any(label in note for note in page.inside("li"))
    assert any(label in title for title in page.inside("title"))


def test_an_html_table_has_rules_after_the_untrained_trunk_and_before_published_results() -> None:
    columns = {"dataset": "cub", "trunk": "bn_inception", "split_rule": "zero_shot"}
    text = html(compare(make_study(**columns), tested=False))
    assert set(Page(text).inside("td", "strong")) == {"41.0 ± 2.5"}
    untrained, measured, published = (body.count("<tr>") for body in re.findall(r"<tbody>(.*?)</tbody>", text, re.DOTALL))
    assert (untrained, measured) == (1, 3)
    assert published > 10
    assert "tbody + tbody { border-top" in text
    assert "<strong>" not in text.rpartition("<tbody>")[2].partition("</tbody>")[0]


def test_a_line_break_in_a_label_does_not_move_the_rules_of_an_html_table() -> None:
    rows = [make_row(loss=loss, loss_label=f"{loss}\nlabel") for loss in ("untrained", "contrastive", "triplet")]
    bodies = re.findall(r"<tbody>(.*?)</tbody>", html(compare(rows)), re.DOTALL)
    assert [body.count("<tr>") for body in bodies] == [1, 2]


def test_every_footnote_number_of_an_html_table_has_a_footnote_and_the_reverse() -> None:
    for figure in html(compare(difficult_study())).split("<figure>")[1:]:
        table, _, notes = figure.partition("</table>")
        marks = {mark for group in re.findall(r"<sup>(.*?)</sup>", table) for mark in group.split(", ")}
        assert marks == set(re.findall(r"<li><sup>(\d+)</sup> \S", notes))


# --- CSV


def test_csv_has_one_line_per_method_and_table_with_every_metric_as_a_fraction() -> None:
    rows = difficult_study()
    lines = list(csv_reader.DictReader(io.StringIO(csv(compare(rows)))))
    assert len(lines) == 7 + 2
    triplet = next(line for line in lines if line["loss"] == "triplet")
    assert [float(triplet[metric]) for metric in METRICS] == pytest.approx([0.31] * len(METRICS))
    assert [float(triplet[f"{metric}_half_width"]) for metric in METRICS] == pytest.approx([0.0248414] * len(METRICS))
    assert (triplet["n"], triplet["seeds"], triplet["protocol_epochs"]) == ("3", "0 1 2", "6")
    assert set(rows[0].shared) <= set(triplet)


def test_csv_leaves_missing_scores_empty_and_says_why() -> None:
    lines = list(csv_reader.DictReader(io.StringIO(csv(compare(difficult_study())))))
    failed = next(line for line in lines if line["loss"] == "cosface")
    assert failed["map_at_r"] == failed["map_at_r_half_width"] == ""
    assert "nan in epoch 2" in failed["notes"]


def read_csv(rows: list[Row]) -> list[dict[str, str]]:
    return list(csv_reader.DictReader(io.StringIO(csv(compare(rows)))))


def test_csv_contains_every_column_of_every_row() -> None:
    rows = [
        *difficult_study(),
        make_row(loss="mine", loss_make_alpha=3, oracle_map_at_r=0.5, undeclared="x", n_dead_proxies=2),
    ]
    lines = read_csv(rows)
    assert {name for row in rows for name in row.columns} - {"seed"} <= set(lines[0])
    (mine,) = [line for line in lines if line["loss"] == "mine"]
    for name, value in make_row(loss="mine", undeclared="x", **COST).columns.items():
        if name not in (*COST, "seed", "method_digest", "run_id"):
            assert mine[name] == ("" if value is None else str(value)), name


def test_csv_contains_the_means_of_each_table_with_all_digits() -> None:
    tables = compare(difficult_study())
    cells = [(metric, cell) for table in tables for row in table.rows for metric, cell in row.cells.items()]
    lines = read_csv(difficult_study())
    per_line = [(line, metric) for line in lines for metric in METRICS]
    assert len(cells) == len(per_line)
    found = {(line["label"], line["protocol_epochs"], metric): line[metric] for line, metric in per_line}
    for table in tables:
        for row in table.rows:
            for metric, cell in row.cells.items():
                text = found[row.label, str(table.shared["protocol_epochs"]), metric]
                assert text == ("" if cell is None else str(cell.mean))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1, 2, 6), "3.0"),
        ((4, 4, 4), "4"),
        ((1, None, 6), ""),
        ((1.0, float("nan"), 6.0), ""),
        ((True, False, True), "True | False"),
        (("a", "b", "a"), "a | b"),
        ((None, None, None), ""),
    ],
)
def test_csv_merges_values_of_several_seeds_without_averaging_over_missing_ones(values: tuple[Any, ...], text: str) -> None:
    (line,) = read_csv([make_row(seed=seed, undeclared=value) for seed, value in enumerate(values)])
    assert line["undeclared"] == text


def test_csv_has_no_mean_cost_of_a_method_with_a_failed_run() -> None:
    rows = [make_row(train_seconds=1.0), make_row(seed=1, train_seconds=3.0, status="failed", reason="nan")]
    (line,) = read_csv(rows)
    assert (line["train_seconds"], line["map_at_r"], line["reason"]) == ("", "", "nan")


def test_csv_quotes_special_characters_in_labels() -> None:
    label = 'a,b "c"\nd; | \u4e2d'
    (line,) = read_csv([make_row(loss_label=label)])
    assert line["label"] == line["loss_label"] == label


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("vary", "labels", "n_tables"),
    [
        ("preset", ["Triplet, preset paper", "Triplet, fixed protocol quick"], 1),
        ("trunk", ["one", "two"], 4),
        ("loss.make.margin", ["margin = 0.1", "margin = 0.2"], 4),
    ],
)
def test_every_format_has_tables_of_other_axes(form: str, vary: str, labels: list[str], n_tables: int) -> None:
    rows = [
        make_row(seed=seed, trunk=trunk, trunk_label=trunk, loss="triplet", loss_make_margin=margin, preset=preset, **COST)
        for seed in range(2)
        for trunk in ("one", "two")
        for margin in (0.1, 0.2)
        for preset in ("none", "paper")
    ]
    tables = compare(rows, vary=vary)
    assert len(tables) == n_tables
    text = render(tables, form)
    assert all(label in text for label in labels)
    assert "50.0 " in text or form == "csv"


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_ends_with_one_newline(form: str) -> None:
    text = render(compare(make_study()), form)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize(
    "module", ["cells", "markdown", "latex", "latex_escape", "html", "csv", "text", "run_text", "pairwise_verdict"]
)
def test_the_examples_in_the_docstrings_are_correct(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"dmlbench.tables.formats.{module}")).failed == 0
