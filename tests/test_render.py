import csv as csv_reader
import doctest
import importlib
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rows_factory import COST, METRICS, make_row, make_study

from dmlbench.errors import UserError
from dmlbench.render import FORMATS, csv, latex, markdown, render
from dmlbench.table import compare

GOLDEN = Path(__file__).parent / "golden"
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


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_ends_with_one_newline(form):
    text = render(compare(make_study()), form)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize("module", ["body", "markdown", "latex", "tex_letters", "html", "csv"])
def test_the_examples_in_the_docstrings_hold(module):
    assert doctest.testmod(importlib.import_module(f"dmlbench.render.{module}")).failed == 0
