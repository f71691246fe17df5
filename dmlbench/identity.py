"""Flat columns of nested values, and their digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from dmlbench.schema import Scalar


def flatten(prefix: str, values: Any) -> Iterator[tuple[str, Scalar]]:
    """Turn nested values into flat columns.

    Args:
        prefix: Start of each column's name.
        values: A mapping, whose keys are joined to the prefix with underscores; a list, which becomes its JSON text; or a
            scalar.

    Yields:
        Column name and value.

    >>> dict(flatten("loss", {"make": {"_target_": "a.B", "la": 20}, "ks": [1, 2]}))
    {'loss_make_target': 'a.B', 'loss_make_la': 20, 'loss_ks': '[1, 2]'}
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from flatten(f"{prefix}_{str(key).strip('_')}", value)
    elif isinstance(values, list | tuple):
        yield prefix, json.dumps(values)
    else:
        yield prefix, values


def digest(values: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of a mapping's canonical JSON text.

    The order of keys does not matter, and 1 and 1.0 are the same number.
    """
    return hashlib.sha256(json.dumps(_canonical(values), sort_keys=True).encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
