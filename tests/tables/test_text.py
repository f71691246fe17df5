"""Plain text for a terminal: wrapping, escaping and sparklines."""

from __future__ import annotations

import pytest

from dmlbench.tables.formats.text import aligned, printable, sparkline, wrap


def test_bars_range_from_the_smallest_to_the_largest_value_and_long_lists_are_thinned() -> None:
    assert sparkline([3, 3, 3]) == "▁▁▁"
    assert sparkline([0, float("nan"), 1]) == "▁!█"
    thinned = sparkline([*range(999), 2000])
    assert (len(thinned), thinned[0], thinned[-1]) == (40, "▁", "█")


def test_numbers_are_not_separated_from_their_signs() -> None:
    for width in range(80, 100):
        lines = wrap("x" * width + " p = 0.05 -> 0.1")
        assert not any(line.startswith(("=", "->", "0.")) or line.endswith(("=", "->")) for line in lines)


def test_wrapped_text_has_at_most_100_columns_and_ends_with_an_ellipsis_if_it_is_cut() -> None:
    lines = wrap("word " * 100, indent="  ", first="A ", max_lines=2)
    assert len(lines) == 2
    assert max(map(len, lines)) <= 100
    assert (lines[0][:6], lines[1][:6], lines[1][-1]) == ("A word", "  word", "…")


def test_control_characters_are_replaced_and_other_scripts_are_kept() -> None:
    assert printable("Größe 大 \x07\u202e") == "Größe 大 ??"


def test_wide_characters_count_as_two_columns() -> None:
    pytest.importorskip("wcwidth", reason="tabulate measures wide characters with wcwidth")
    assert aligned([["大", "1"], ["ab", "2"]]) == ["大  1", "ab  2"]
