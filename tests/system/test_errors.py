"""Errors that dmlbench raises on purpose, and their suggestions."""

from __future__ import annotations

import doctest

from dmlbench import errors
from dmlbench.errors import suggest


def test_a_similar_name_is_suggested_and_otherwise_all_known_names_are_listed() -> None:
    assert suggest("trplet", ["softtriple", "triplet"]) == "; did you mean 'triplet'?"
    assert suggest("x", ["b", "a"]) == "; known: a, b"
    assert suggest("x", []) == ""


def test_the_examples_of_the_docstrings_are_correct() -> None:
    assert doctest.testmod(errors) == (0, 2)  # failed, attempted
