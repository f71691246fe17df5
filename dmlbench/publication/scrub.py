"""Take host names and local paths out of a row, as far as its digests do not depend on them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from dmlbench.config.schema import Scalar
from dmlbench.results.columns import column
from dmlbench.results.row import Row
from dmlbench.system.regular_files import parse_json

LOCAL = "(local path)"
_MACHINE = ("hostname",)
# From the beginning of an absolute path, one in a home or parent directory, or one of Windows, to the end of the value. A slash
# after a word or a colon belongs to a relative path or an address.
_PATH = re.compile(r"(?:file:/+|(?<![\w:/.\\~-])(?:~[\w-]*[\\/]|\.\.[\\/]|/(?=\w)|[A-Za-z]:[\\/]|\\\\))[^,;\]})'\"\n]*")


def scrubbed(columns: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the columns of a row without host names and local paths. Its run id, fingerprint and digests stay the same.

    Args:
        columns: Columns of a row that was made on this machine.
    """
    return {name: value if _in_digest(name) else _scrubbed(name, value) for name, value in columns.items()}


def local_columns(row: Row) -> list[str]:
    """Return the columns that name a local path, but have to stay because the run id depends on them.

    Args:
        row: Row, scrubbed or not.
    """
    return [name for name, value in row.columns.items() if _in_digest(name) and isinstance(value, str) and _PATH.search(value)]


def _in_digest(name: str) -> bool:
    return column(name).role in ("shared", "method") or name in ("run_id", "fingerprint", "method_digest", "parent")


def _scrubbed(name: str, value: Scalar) -> Scalar:
    if name in _MACHINE:
        return None
    if not isinstance(value, str):
        return value
    if value.startswith(("[", "{")):
        try:
            return json.dumps(_without_paths(parse_json(value.encode())))
        except ValueError:
            pass
    return _PATH.sub(LOCAL, value)


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {_PATH.sub(LOCAL, key): _without_paths(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_paths(one) for one in value]
    return _PATH.sub(LOCAL, value) if isinstance(value, str) else value
