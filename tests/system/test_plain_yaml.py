"""YAML that may come from anybody."""

from __future__ import annotations

import pytest

from dmlbench.system.plain_yaml import parse_plain_yaml, plain_yaml


def test_a_mapping_of_text_is_read_as_it_was_written() -> None:
    values = {"a": "text", "b": None, "c": {"d": "1", "e": "null", "f": "é: # '\""}, "g": "2026-11-22", "h": ""}
    assert parse_plain_yaml(plain_yaml(values)) == values


def test_every_scalar_is_text_and_only_an_unquoted_null_is_none() -> None:
    assert parse_plain_yaml("a: 12\nb: yes\nc: 1e5\nd: null\ne: 'null'\nf: ~\ng:\n") == {
        **{"a": "12", "b": "yes", "c": "1e5", "d": None, "e": "null", "f": None, "g": None}
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("- a", "it has a YAML list"),
        ("text", "not a YAML mapping"),
        ("a: [1]", "it has a YAML list"),
        ("a: !!python/object/apply:os.system ['true']", "it has a YAML tag"),
        ("a: !!str b", "it has a YAML tag"),
        ("!!map {a: b}", "it has a YAML tag"),
        ("%TAG ! tag:example.org,2000:\n---\na: b", "it has a YAML tag"),
        ("a: &x b", "it has a YAML anchor"),
        ("a: b\nc: *x", "it has a YAML anchor or alias"),
        ("a: b\na: c", "the key 'a' twice"),
        ("? {a: b}\n: c", "a key is not text"),
        ("a: b\n---\nc: d", "more than one YAML document"),
        ("a: {", "it is not YAML"),
        ("a:\n\tb: c", r"it is not YAML \(line 2\)"),
        ("a: \x00", "it is not YAML"),
        ("{a: " * 10 + "b" + "}" * 10, "nested too deeply"),
        ("{a: " * 30_000, "nested too deeply"),
    ],
    ids=lambda text: text[:30],
)
def test_anything_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_plain_yaml(text)
