"""Refuse configured numbers that are not finite: a row, which is JSON, cannot record them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from dmlbench.errors import UserError


def refuse_not_finite(key: str, values: Any) -> None:
    """Refuse nan and infinity anywhere in a part of the configuration.

    Args:
        key: Key of the part, such as `optimizer`.
        values: Nested mappings and lists of scalars.

    Raises:
        UserError: Names the first such number.
    """
    for name, number in _numbers(key, values):
        if not math.isfinite(number):
            raise UserError(f"{name} is {number}; it must be a finite number")


def _numbers(key: str, values: Any) -> Iterator[tuple[str, float]]:
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _numbers(f"{key}.{name}", value)
    elif isinstance(values, list | tuple):
        for index, value in enumerate(values):
            yield from _numbers(f"{key}[{index}]", value)
    elif isinstance(values, float):
        yield key, values
