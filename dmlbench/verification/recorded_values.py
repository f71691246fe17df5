"""Values in overrides and configuration files, as the columns of a row have them. Hydra is not needed for this."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from dmlbench.config.identity import current_target
from dmlbench.config.schema import Scalar
from dmlbench.system.regular_files import parse_json

UNKNOWN: Any = object()  # a value that only Hydra, or the machine of the run, can tell
_CONSTANTS = {"null": None, "true": True, "false": False}


@lru_cache(4096)
def parsed(text: str) -> Any:
    """Return the value in an override; `UNKNOWN` for mappings, references, functions and values that were taken out.

    Args:
        text: What stands after `key=`.

    >>> parsed("[1, 2.5]"), parsed("true"), parsed("'x y'"), parsed("{a: 1}") is UNKNOWN
    ([1.0, 2.5], True, 'x y', True)
    """
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        parts = text[1:-1].split(",") if text[1:-1].strip() else []
        found = [parsed(part) for part in parts]
        return UNKNOWN if UNKNOWN in found or any(isinstance(one, list) for one in found) else found
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1] and "\\" not in text:
        return text[1:-1]
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if not text or any(one in text for one in "\\[]{}()$'\""):
        return UNKNOWN
    number = _number(text)
    return text if number is None else number


def is_known(value: Any) -> bool:
    """Return whether a value of a configuration file is a scalar or a list that refers to nothing else.

    Args:
        value: Value as YAML gives it.
    """
    if isinstance(value, list):
        return all(is_known(one) and not isinstance(one, list) for one in value)
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and "${" not in value)


def agrees(found: Scalar, expected: Any) -> bool:
    """Return whether a column has a configured value. Numbers may be written differently.

    Args:
        found: Value of the column; a list is JSON text.
        expected: A scalar, or a list of scalars.
    """
    if isinstance(expected, list):
        values = _list(found)
        return (
            values is not None and len(values) == len(expected) and all(map(_is_equal, values, expected))  # numbers or text
        )
    return _is_equal(found, expected)


def _is_equal(found: Any, expected: Any) -> bool:
    if isinstance(found, str):
        texts = (expected, str(expected), f'"{expected}"')  # text that looks like JSON is quoted in rows
        return found in texts or current_target(found) == current_target(str(expected))
    if isinstance(expected, str) and isinstance(found, int | float):
        expected = _number(expected)  # YAML takes 1e-4 for text
    if found is None or expected is None or isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    return isinstance(expected, int | float) and math.isclose(found, expected, rel_tol=1e-12)


def _list(found: Scalar) -> list[Any] | None:
    try:
        values = parse_json(found.encode()) if isinstance(found, str) else None
    except ValueError:
        return None
    return values if isinstance(values, list) else None


def _number(text: str) -> float | None:
    try:
        return float(text) if any(one.isdigit() for one in text) else None
    except ValueError:
        return None
