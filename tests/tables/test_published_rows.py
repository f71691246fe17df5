"""Published results are printed below a rule, marked as not comparable, and do not affect the measured rows."""

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

EXPLANATION = "Below the line: published results, which are not comparable"


def study(**columns: object) -> list[Row]:
    """Make rows of the untrained trunk and two losses on CUB with BN-Inception, far below published results."""
    same = {"dataset": "cub", "trunk": "bn_inception", "split_rule": "zero_shot", **columns}
    losses = ("untrained", "contrastive", "arcface")
    return [make_row(0.1 * (i + 1), **{"loss": loss, **same}) for i, loss in enumerate(losses)]


def only_table(rows: list[Row], **options: object) -> Table:
    (table,) = compare(rows, **options)  # type: ignore[arg-type]
    return table


def cells(text: str) -> list[list[str]]:
    """Return the cells of a markdown table, by row, without its heading."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


def below_the_rule(text: str) -> list[list[str]]:
    rows = cells(text)
    rule = next((i for i, row in enumerate(rows) if set(row) == {"---"}), len(rows))
    return rows[rule + 1 :]


def test_measured_rows_are_followed_by_a_rule_and_published_rows() -> None:
    rows = cells(markdown([only_table(study())]))
    assert [row[0].split(" [")[0] for row in rows[:3]] == ["Untrained trunk", "Contrastive", "ArcFace"]
    assert set(rows[3]) == {"---"}
    assert len(rows) > 20


def test_a_published_row_names_trunk_and_embedding_size_and_has_no_seeds_and_no_interval() -> None:
    (line,) = [line for line in below_the_rule(markdown([only_table(study())])) if line[0].startswith("Proxy Anchor")]
    assert line == ["Proxy Anchor (BN-Inception, 512-d) [1]", "--", "68.4", "79.2", "86.8", "91.6", "--", "--"]


def test_published_precision_at_1_is_printed_as_recall_at_1() -> None:
    (line,) = [line for line in below_the_rule(markdown([only_table(study())])) if line[0].startswith("ArcFace")]
    assert line[2:] == ["60.17", "--", "--", "--", "32.37", "21.49"]


def test_sources_are_footnotes_and_one_note_says_that_published_results_are_not_comparable() -> None:
    text = markdown([only_table(study())])
    assert text.count(EXPLANATION) == 1
    assert "- [1] Best practice DML, lecture slides" in text
    assert re.search(r"- \[\d\] Musgrave, Belongie & Lim.*arXiv:2003\.08505", text)


def test_published_rows_are_never_bold_and_the_best_measured_row_remains_bold() -> None:
    text = markdown([only_table([*study(), *study(seed=1)], tested=False)])
    assert not any("**" in cell for line in below_the_rule(text) for cell in line)
    assert any("**30.0 ± 0.0**" in row for row in cells(text))


def test_a_published_untrained_trunk_is_not_a_baseline_for_the_measured_rows() -> None:
    table = only_table([row for row in study() if row["loss"] != "untrained"])
    assert any(result.label == "Untrained trunk" for result in table.published)
    assert not any("untrained" in note for note in table.notes)


def test_same_prints_results_with_the_same_trunk_and_all_adds_other_trunks_and_ablations() -> None:
    assert {result.trunk for result in only_table(study()).published} == {"bn_inception"}
    everything = only_table(study(), published="all").published
    assert {"resnet50", "googlenet", None} <= {result.trunk for result in everything}
    assert "ablation" in {result.source.kind for result in everything}
    assert only_table(study(), published="none").published == ()


def test_validation_numbers_are_never_printed() -> None:
    assert "validation" not in {result.source.kind for result in only_table(study(), published="all").published}


def test_without_published_results_there_is_no_rule_and_no_note() -> None:
    for rows, published in ((study(dataset="digits"), "all"), (study(), "none")):
        text = markdown([only_table(rows, published=published)])
        assert EXPLANATION not in text
        assert below_the_rule(text) == []


def test_only_results_on_the_same_split_are_printed() -> None:
    rows = [
        Row({**row.columns, "precision_at_5": 0.5, "retrieved_at_5": 0.05})
        for row in study(split_rule="half_per_class", trunk="resnet50")
    ]
    table = only_table(rows, metrics=("precision_at_5", "retrieved_at_5"))
    assert [(result.label, result.source.where) for result in table.published] == [
        ("Cosface", "Table III"),
        ("Arcface", "Table III"),
    ]


def test_below_both_galleries_of_a_half_split_the_report_on_200_queries_is_printed() -> None:
    full, test = "full_precision_at_5", "precision_at_5"
    rows = [
        Row({**row.columns, full: 0.5, test: 0.4, "retrieved_at_5": 0.05, "full_retrieved_at_5": 0.04})
        for row in study(split_rule="half_per_class", trunk="bn_inception", protocol="staysafe")
    ]
    table = only_table(rows, metrics=(full, test))
    found = {(one.label, one.source.where): dict(one.values) for one in table.published}
    assert found["Softtriple", "Table II"][full] == 0.7
    assert found["Softtriple", "Table III"][test] == 0.414
    assert len(found) == 10
    assert test not in found["Softtriple", "Table II"]


def test_results_without_any_printed_metric_are_not_printed() -> None:
    table = only_table(study(), metrics=("map_at_r",))
    assert {result.source.cite.split(",")[0] for result in table.published} == {"Musgrave"}


def test_only_tables_of_methods_have_published_rows() -> None:
    rows = [make_row(0.2, dataset="cub", trunk=trunk) for trunk in ("bn_inception", "resnet50")]
    assert only_table(rows, vary="trunk").published == ()


def test_a_table_of_presets_prints_results_for_every_trunk_of_its_rows() -> None:
    rows = [
        make_row(0.2, dataset="cub", trunk="bn_inception", preset="paper"),
        make_row(0.2, dataset="cub", trunk="resnet50", preset="none"),
    ]
    assert {result.trunk for result in only_table(rows, vary="preset").published} == {"bn_inception", "resnet50"}


def test_an_unknown_choice_is_refused_with_a_similar_name() -> None:
    with pytest.raises(UserError, match="--published al is not known; did you mean 'all'"):
        compare(study(), published="al")


def test_csv_contains_measured_rows_only() -> None:
    assert csv([only_table(study())]) == csv([only_table(study(), published="none")])


def test_html_puts_published_rows_into_a_separate_body() -> None:
    text = html([only_table(study())])
    bodies = re.findall(r"<tbody>(.*?)</tbody>", text, re.DOTALL)
    assert len(bodies) == 3
    assert bodies[-1].count("<tr>") == len(only_table(study()).published)
    assert "<strong>" not in bodies[-1]
    assert EXPLANATION in text


def test_latex_has_a_rule_before_published_rows_and_one_cell_per_column() -> None:
    text = latex([only_table(study(), published="all")])
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    assert body.count(r"\midrule") == 3
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len({len(re.split(r"(?<!\\)&", line)) for line in rows}) == 1
    assert EXPLANATION in text


def test_the_latex_of_all_published_results_compiles(tmp_path: Path) -> None:
    compiler = next(filter(None, map(shutil.which, ("pdflatex", "tectonic"))), None)
    if compiler is None:
        pytest.skip("neither pdflatex nor tectonic is on PATH: the LaTeX is not compiled")
    tables = [only_table(study(dataset=dataset), published="all") for dataset in ("cub", "cars", "sop", "inshop")]
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "page.tex").write_text(head + latex(tables) + "\\end{document}\n", encoding="utf-8")
    options = ["-halt-on-error", "-interaction=nonstopmode"] if "pdflatex" in compiler else []
    done = subprocess.run([compiler, *options, "page.tex"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


# --- the command line


def write_runs(rows: list[Row], tmp_path: Path) -> str:
    for i, row in enumerate(rows):
        (tmp_path / "runs" / f"{i}").mkdir(parents=True)
        write_row(tmp_path / "runs" / f"{i}", row)
    return str(tmp_path / "runs")


def test_the_command_prints_results_with_the_same_trunk_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write_runs(study(), tmp_path)
    printed = {}
    for choice in ("", "--published=none", "--published=same", "--published=all"):
        assert run(["table", runs, *filter(None, [choice])]) == 0
        printed[choice] = len(below_the_rule(capsys.readouterr().out))
    assert printed[""] == printed["--published=same"]
    assert 0 == printed["--published=none"] < printed["--published=same"] < printed["--published=all"]


def test_results_in_the_directory_of_the_user_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write_runs([make_row(0.5)], tmp_path)
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
    ((label, _, number, *_),) = below_the_rule(capsys.readouterr().out)
    assert (label, number) == ("Their loss (ConvNet) [1]", "77.7")
    own.write_text(text.replace("unit", "units"))
    assert run(["table", runs, "--config-dir", str(tmp_path / "my_conf")]) == 2
    assert "theirs.yaml, table 1: 'units' is not known; did you mean 'unit'?" in capsys.readouterr().err


def test_an_unknown_choice_on_the_command_line_has_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table", write_runs(study(), tmp_path), "--published", "some"]) == 2
    assert "--published some is not known; did you mean 'same'?" in capsys.readouterr().err


def test_published_numbers_are_printed_with_all_their_digits() -> None:
    assert [all_digits(value) for value in (0.2955, 0.83, 0.0006, None)] == ["29.55", "83.0", "0.06", "--"]
