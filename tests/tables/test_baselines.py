"""Raw pixels and the untrained trunk are baselines: printed first, never in bold, and compared with every method."""

from __future__ import annotations

from rows_factory import make_row

from dmlbench.tables.formats import render
from dmlbench.tables.table import compare


def test_raw_pixels_come_first_and_are_never_bold_although_they_are_best() -> None:
    scores = {"triplet": 0.3, "arcface": 0.2, "untrained": 0.25, "raw_pixels": 0.9}
    rows = [make_row(score, loss=loss, loss_label=loss, seed=seed) for loss, score in scores.items() for seed in (0, 1)]
    [table] = compare(rows, published="none", tested=False)
    assert [row.loss for row in table.rows] == ["raw_pixels", "untrained", "triplet", "arcface"]
    assert "**90.0" not in render([table], "markdown")
    assert "**30.0" in render([table], "markdown")


def test_a_method_is_compared_with_the_best_baseline() -> None:
    scores = {"triplet": 0.3, "arcface": 0.2, "untrained": 0.25, "raw_pixels": 0.22}
    [table] = compare([make_row(score, loss=loss) for loss, score in scores.items()], published="none")
    notes = {row.loss: row.notes for row in table.rows}
    assert notes["arcface"] == ("its mean MAP@R is below that of the untrained trunk",)
    assert notes["triplet"] == notes["raw_pixels"] == notes["untrained"] == ()


def test_the_notes_name_raw_pixels_if_no_method_exceeds_them() -> None:
    scores = {"triplet": 0.3, "untrained": 0.25, "raw_pixels": 0.4}
    [table] = compare([make_row(score, loss=loss) for loss, score in scores.items()], published="none")
    assert any(note.startswith("No method exceeds raw pixels in R@1") for note in table.notes)
    assert "its mean MAP@R is below that of raw pixels" in render([table], "markdown")
