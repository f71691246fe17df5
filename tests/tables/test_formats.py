import csv as csv_reader
import doctest
import importlib
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rows_factory import COST, METRICS, make_row, make_study

from dmlbench.errors import UserError
from dmlbench.tables.formats import FORMATS, csv, html, latex, markdown, render
from dmlbench.tables.table import compare

GOLDEN = Path(__file__).parents[1] / "golden"
HOSTILE = r"A&B_{50%}$x$ #1 ~^\ <tag> |pipe| *star* [box]"


def difficult_study():
    """Rows that call for everything at once: variants, a failure, a missing seed, two devices, no cost, two tables."""
    rows = make_study(**COST)
    rows += [make_row(0.43 + 0.01 * seed, loss_make_neg_margin=1.0, seed=seed, **COST) for seed in range(2)]
    rows += [make_row(0.05 + 0.01 * seed, loss="softtriple", seed=seed, device="cuda", **COST) for seed in range(3)]
    rows += [
        make_row(0.3, loss="cosface"),
        make_row(loss="cosface", seed=1, status="failed", reason="nan in epoch 2"),
    ]
    return [*rows, make_row(0.1, loss="untrained", protocol_epochs=12), make_row(0.4, protocol_epochs=12)]


def cells(text):
    """Method to cells, read back from a markdown table."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


@pytest.mark.parametrize(("form", "suffix"), FORMATS.items())
def test_a_difficult_study_looks_as_it_did(form, suffix):
    expected = (GOLDEN / f"tables{suffix}").read_text(encoding="utf-8")
    assert render(compare(difficult_study()), form) == expected


def test_an_unknown_format_is_refused_with_a_near_name():
    with pytest.raises(UserError, match="format=latx is no format of a table; did you mean 'latex'"):
        render(compare([make_row()]), "latx")


# --- markdown


def test_percent_has_one_decimal_and_the_best_is_bold():
    table = cells(markdown(compare([make_row(0.48123), make_row(0.3999, loss="triplet")])))
    assert table["Contrastive"] == ["1", *["**48.1**"] * 6]
    assert table["Triplet"] == ["1", *["40.0"] * 6]


def test_the_interval_stands_inside_the_bold():
    table = cells(markdown(compare([make_row(0.40, seed=0), make_row(0.42, seed=1)])))
    # Two seeds 0.02 apart: 12.7062 * 0.01.
    assert table["Contrastive"][-1] == "**41.0 ± 12.7**"


def test_methods_that_tie_as_printed_are_all_bold():
    rows = [make_row(0.48123), make_row(0.48101, loss="triplet"), make_row(0.4789, loss="arcface")]
    table = cells(markdown(compare(rows)))
    assert [table[name][-1] for name in ("Contrastive", "Triplet", "ArcFace")] == [
        "**48.1**",
        "**48.1**",
        "47.9",
    ]


def test_the_untrained_trunk_is_never_bold_and_its_lead_is_told():
    text = markdown(compare([make_row(0.9, loss="untrained"), make_row(0.5)]))
    assert cells(text)["Untrained trunk"][-1] == "90.0"
    assert cells(text)["Contrastive [1]"][-1] == "**50.0**"
    assert "- no method is above the untrained trunk in R@1, R@2, R@4, R@8, RP, MAP@R" in text


def test_an_untrained_trunk_that_ties_with_the_best_is_not_bold():
    table = cells(markdown(compare([make_row(0.5, loss="untrained"), make_row(0.5)])))
    assert table["Untrained trunk"][-1] == "50.0"


def test_a_missing_number_is_visible_and_its_footnote_says_why():
    text = markdown(compare(difficult_study()))
    (label,) = [label for label in cells(text) if label.startswith("CosFace")]
    (marks,) = re.findall(r"\[(.*)\]", label)
    assert set(cells(text)[label][1:]) == {"--"}
    assert "seed 1 failed: nan in epoch 2" in "".join(
        line for line in text.splitlines() if any(line.startswith(f"- [{mark}]") for mark in marks.split(", "))
    )


def test_the_columns_of_a_markdown_table_stand_below_each_other():
    text = markdown(compare(difficult_study()))
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in block.splitlines()}) == 1


def test_a_pipe_in_a_label_does_not_open_a_column():
    text = markdown(compare([make_row(loss_label="a|b")]))
    assert r"| a\|b" in text


def test_several_tables_say_in_which_fields_they_differ():
    text = markdown(compare([make_row(), make_row(protocol_epochs=12, optimizer_weight_decay=0.1)]))
    assert "- optimizer_weight_decay: 0.0001 | 0.1\n- protocol_epochs: 6 | 12\n" in text.replace(r"\_", "_")
    unwrapped = " ".join(text.split())
    assert "Table 1. Digit pairs" in unwrapped
    assert "Here optimizer_weight_decay = 0.0001." in unwrapped
    assert "Here optimizer_weight_decay = 0.1." in unwrapped


# --- LaTeX


def assert_environments_balance(text):
    opened = []
    for verb, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if verb == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")


def test_a_float_is_complete_and_its_environments_balance():
    text = latex(compare(difficult_study()))
    assert_environments_balance(text)
    for part in (r"\begin{table}", r"\caption{", r"\toprule", r"\midrule", r"\bottomrule", r"\end{table}"):
        assert text.count(part) >= 2, part
    assert r"\textbf{43.5 $\pm$ 6.4}" in text


def test_every_line_of_a_latex_table_has_as_many_cells_as_columns():
    text = latex(compare(difficult_study()))
    for columns, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {len(columns)}


def test_labels_of_floats_are_unique_and_plain():
    rows = [make_row(), make_row(protocol_epochs=12), make_row(dataset="Ä_b c")]
    labels = re.findall(r"\\label\{(.*?)\}", latex(compare(rows)))
    assert len(set(labels)) == 3
    assert all(re.fullmatch(r"tab:[a-z0-9-]+", label) for label in labels)


def test_special_characters_are_escaped_in_labels_captions_and_notes():
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


def test_what_differs_stands_in_the_captions_for_a_printed_page_has_no_list():
    text = latex(compare([make_row(), make_row(optimizer_weight_decay=0.1)]))
    assert re.findall(r"Here optimizer\\_weight\\_decay = (\S+)\. ", text) == ["0.0001", "0.1"]


def test_latex_compiles(tmp_path):
    compiler = next(filter(None, map(shutil.which, ("pdflatex", "tectonic"))), None)
    if compiler is None:
        pytest.skip("neither pdflatex nor tectonic is on PATH: the LaTeX is not compiled")
    rows = [*difficult_study(), make_row(loss="mine", loss_label=HOSTILE + " éßüÅő αΩ ± ≤ 中文")]
    body = latex(compare(rows))
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "page.tex").write_text(head + body + "\\end{document}\n", encoding="utf-8")
    options = ["-halt-on-error", "-interaction=nonstopmode"] if "pdflatex" in compiler else []
    done = subprocess.run([compiler, *options, "page.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "page.pdf").stat().st_size > 0


def test_every_printable_letter_of_ascii_and_hundreds_of_others_compile_in_one_page(tmp_path):
    compiler = shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("pdflatex is not on PATH: the letters are not compiled")
    ascii_letters = [chr(code) for code in range(32, 127)]
    others = [chr(code) for code in (*range(0xA0, 0x180), *range(0x1E00, 0x1F00), *range(0x370, 0x400), *range(0x2010, 0x2040))]
    others += list("€→←∞≈≠≤≥√∈中文กא🙂\u200b\u0301\ufffd\x07")
    # Each at the beginning, amid and at the end of a label, for some mean something only after the end of a line.
    rows = [make_row(loss=f"l{i}", loss_label=f"{letter}a{letter}{letter}b{letter}") for i, letter in enumerate(ascii_letters)]
    words = ["".join(others[i : i + 20]) for i in range(0, len(others), 20)]
    rows += [make_row(loss=f"m{i}", loss_label=word, status="failed", reason=word) for i, word in enumerate(words)]
    text = latex(compare(rows, metrics=["map_at_r"]))
    assert text.isascii()
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "page.tex").write_text(head + text + "\\end{document}\n", encoding="ascii")
    options = ["-halt-on-error", "-interaction=nonstopmode", "page.tex"]
    done = subprocess.run([compiler, *options], cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "page.log").read_text(encoding="latin-1")


# --- HTML


class Page(HTMLParser):
    """What stands on a page: tags with their attributes, and the text in each kind of them; it must be well nested."""

    def __init__(self, text):
        super().__init__()
        self.opened, self.tags, self.text, self.rows = [], [], [], []
        self.feed(text)
        self.close()
        assert self.opened == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag != "meta":
            self.opened.append(tag)

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag

    def handle_data(self, data):
        self.text.append((tuple(self.opened), data))
        if {"td", "th"} & set(self.opened) and "sup" not in self.opened:
            self.rows[-1][-1] += data

    def inside(self, *tags):
        return [text for opened, text in self.text if opened[-len(tags) :] == tags]


def test_an_html_page_is_well_nested_and_needs_no_network():
    published = {"dataset": "cub", "trunk": "bn_inception", "split_rule": "zero_shot"}
    for text in (html(compare(difficult_study())), html(compare(make_study(**published, **COST)))):
        page = Page(text)
        names = {name for _, attributes in page.tags for name in attributes}
        assert names <= {"lang", "charset", "name", "content", "class", "scope"}
        assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "a", "base", "object"})
        assert not re.search(r"https?:|url\(|@import", text)


def test_every_line_of_an_html_table_has_as_many_cells_as_its_head_and_each_number_its_place():
    rows = make_study(**COST)
    page = Page(html(compare(rows)))
    assert {len(row) for row in page.rows} == {12}
    assert page.rows[0][:3] == ["Method", "n", "R@1"]
    assert page.rows[1][:3] == ["Untrained trunk", "3", "11.0 ± 2.5"]
    assert page.rows[-1][-4:] == ["120", "61.5", "1.25", "2.40"]


def test_hostile_labels_are_text_of_an_html_page_and_nothing_else():
    label = """<script>alert(1)</script> "double" 'single' & &amp; </td></table>"""
    columns = {"dataset_label": label, "trunk_label": label, "dataset": label}
    failed = make_row(loss="triplet", loss_label="T", status="failed", reason=label, **columns)
    text = html(compare([make_row(loss_label=label, **columns), failed, make_row(**columns, protocol_lr=0.5, optimizer=label)]))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    page = Page(text)
    assert label in [row[0].strip() for row in page.rows]
    assert any(label in caption for caption in page.inside("figcaption"))
    assert any(label in note for note in page.inside("li"))
    assert any(label in title for title in page.inside("title"))


def test_an_html_page_marks_the_best_and_rules_off_the_untrained_trunk_and_what_was_published():
    columns = {"dataset": "cub", "trunk": "bn_inception", "split_rule": "zero_shot"}
    text = html(compare(make_study(**columns)))
    assert set(Page(text).inside("td", "strong")) == {"41.0 ± 2.5"}
    untrained, measured, published = (body.count("<tr>") for body in re.findall(r"<tbody>(.*?)</tbody>", text, re.DOTALL))
    assert (untrained, measured) == (1, 3)
    assert published > 10
    assert "tbody + tbody { border-top" in text
    assert "<strong>" not in text.rpartition("<tbody>")[2].partition("</tbody>")[0]


def test_each_number_of_an_html_footnote_has_its_note_and_each_note_its_line():
    for figure in html(compare(difficult_study())).split("<figure>")[1:]:
        table, _, notes = figure.partition("</table>")
        marks = {mark for group in re.findall(r"<sup>(.*?)</sup>", table) for mark in group.split(", ")}
        assert marks == set(re.findall(r"<li><sup>(\d+)</sup> \S", notes))


# --- CSV


def test_csv_has_a_line_a_method_and_table_with_every_metric_as_a_fraction():
    rows = difficult_study()
    lines = list(csv_reader.DictReader(io.StringIO(csv(compare(rows)))))
    assert len(lines) == 7 + 2
    triplet = next(line for line in lines if line["loss"] == "triplet")
    assert [float(triplet[metric]) for metric in METRICS] == pytest.approx([0.31] * len(METRICS))
    assert [float(triplet[f"{metric}_half_width"]) for metric in METRICS] == pytest.approx([0.0248414] * len(METRICS))
    assert (triplet["n"], triplet["seeds"], triplet["protocol_epochs"]) == ("3", "0 1 2", "6")
    assert set(rows[0].shared) <= set(triplet)


def test_csv_leaves_missing_numbers_empty_and_says_why():
    lines = list(csv_reader.DictReader(io.StringIO(csv(compare(difficult_study())))))
    failed = next(line for line in lines if line["loss"] == "cosface")
    assert failed["map_at_r"] == failed["map_at_r_half_width"] == ""
    assert "nan in epoch 2" in failed["notes"]


def read_csv(rows, **asked):
    return list(csv_reader.DictReader(io.StringIO(csv(compare(rows, **asked)))))


def test_every_column_of_every_row_is_in_csv():
    rows = [
        *difficult_study(),
        make_row(loss="mine", loss_make_alpha=3, oracle_map_at_r=0.5, note_of_ours="x", n_dead_proxies=2),
    ]
    lines = read_csv(rows)
    assert {name for row in rows for name in row.columns} - {"seed"} <= set(lines[0])
    (mine,) = [line for line in lines if line["loss"] == "mine"]
    for name, value in make_row(loss="mine", note_of_ours="x", **COST).columns.items():
        if name not in (*COST, "seed", "method_digest", "run_id"):
            assert mine[name] == ("" if value is None else str(value)), name


def test_csv_reads_back_as_the_means_of_each_table_with_all_digits():
    tables = compare(difficult_study())
    cells = [(metric, cell) for table in tables for line in table.lines for metric, cell in line.cells.items()]
    lines = read_csv(difficult_study())
    per_line = [(line, metric) for line in lines for metric in METRICS]
    assert len(cells) == len(per_line)
    found = {(line["method_digest"], line["protocol_epochs"], metric): line[metric] for line, metric in per_line}
    for table in tables:
        for line in table.lines:
            for metric, cell in line.cells.items():
                text = found[line.method_digest, str(table.shared["protocol_epochs"]), metric]
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
def test_what_differs_between_the_seeds_of_a_line_is_a_mean_or_each_text_and_never_a_mean_over_holes(values, text):
    (line,) = read_csv([make_row(seed=seed, n_of_ours=value) for seed, value in enumerate(values)])
    assert line["n_of_ours"] == text


def test_a_failed_line_has_no_means_of_cost_in_csv():
    rows = [make_row(train_seconds=1.0), make_row(seed=1, train_seconds=3.0, status="failed", reason="nan")]
    (line,) = read_csv(rows)
    assert (line["train_seconds"], line["map_at_r"], line["reason"]) == ("", "", "nan")


def test_hostile_labels_survive_csv():
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
def test_every_format_has_tables_of_other_axes(form, vary, labels, n_tables):
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
def test_every_format_ends_with_one_newline(form):
    text = render(compare(make_study()), form)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize("module", ["body", "markdown", "latex", "tex_letters", "html", "csv"])
def test_the_examples_in_the_docstrings_hold(module):
    assert doctest.testmod(importlib.import_module(f"dmlbench.tables.formats.{module}")).failed == 0
