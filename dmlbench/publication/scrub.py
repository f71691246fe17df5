"""Take host names and local paths out of a row, as far as its digests do not depend on them.

Values that may be paths by their key lose everything with a directory. In other text, what looks like a path is taken out.
"""

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
HOST = "(host)"
_MACHINE = ("hostname",)
_NODE = re.compile(r"(?<=\bon node )[\w.-]*\w")  # in the reason of a job that has ended
# From the beginning of an absolute path, one through a home or parent directory, or one of Windows, to the end of its last
# part. Other slashes after a word belong to relative paths or addresses.
_BEGINNING = (
    r"file:/+|"
    r"(?<![\w:/.\\~-])(?:~[\w-]*[\\/]|(?:[\w.-]+/)*\.\.[\\/]|/{1,2}(?=[\w.])|[A-Za-z]:[\\/](?!/)|\\\\)|"
    r"(?<=\w:)/(?=[\w.])"
)
_END = r"(?:[^,;\]})'\"\n]|'(?=\w))*"
_PATH = re.compile(rf"(?:{_BEGINNING})(?:[^\n]*[\\/])?{_END}")
_BEGINS = re.compile(_BEGINNING)
_CHOICE = re.compile(r"[+~]*[\w/@-]+=\w[\w./-]*")  # of a configuration file, whose name may have a directory


def scrubbed(columns: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the columns of a row without host names and local paths. Its run id, fingerprint and digests stay the same.

    Args:
        columns: Columns of a row that was made on this machine.
    """
    host = columns.get("hostname")
    hosts = [host] if isinstance(host, str) and host else []
    return {name: value if _in_digest(name) else _scrubbed(name, value, hosts) for name, value in columns.items()}


def local_columns(row: Row) -> list[str]:
    """Return the columns that name a local path, but have to stay because the run id depends on them.

    Args:
        row: Row, scrubbed or not.
    """
    texts = {name: value for name, value in row.columns.items() if _in_digest(name) and isinstance(value, str)}
    return [name for name, value in texts.items() if _BEGINS.search(value)]


def _in_digest(name: str) -> bool:
    return column(name).role in ("shared", "method") or name in ("run_id", "fingerprint", "method_digest", "parent")


def _scrubbed(name: str, value: Scalar, hosts: list[str]) -> Scalar:
    if name in _MACHINE:
        return None
    if not isinstance(value, str):
        return value
    if name == "reason":
        return _reason(value, hosts)
    if value.startswith(("[", "{")):
        try:
            return json.dumps(_without_paths(name, parse_json(value.encode())))
        except ValueError:
            pass
    return _PATH.sub(LOCAL, value)


def _reason(value: str, hosts: list[str]) -> str:
    """Return why a run failed, in one line."""
    value = _NODE.sub(HOST, _PATH.sub(LOCAL, value))
    for host in hosts:
        value = re.sub(rf"(?<![\w-]){re.escape(host)}(?![\w-])", HOST, value)
    return " ".join(value.split())


def _without_paths(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {_PATH.sub(LOCAL, key): _without_paths(name, one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_paths(name, one) for one in value]
    if not isinstance(value, str):
        return value
    if name == "overrides":
        key, equals, text = value.partition("=")
        is_choice = "." not in key and _CHOICE.fullmatch(value) is not None and ".." not in text
        return value if is_choice or not _has_directory(text) else f"{key}{equals}{LOCAL}"
    if name == "dataset_source":
        return LOCAL if _has_directory(value) else value
    return _PATH.sub(LOCAL, value)


def _has_directory(text: str) -> bool:
    return any(one in text for one in ("/", "\\", "~"))
