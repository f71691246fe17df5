"""Which results are current: a protocol of a former version is another protocol."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from dmlbench.config.files import conf_dir
from dmlbench.results.row import Row


def outdated(row: Row) -> str:
    """Return why a result is not current, a clause; empty if it is, or if its protocol is not one of dmlbench.

    Args:
        row: Row of an entry.
    """
    version, current = row.get("protocol_version"), current_version(str(row["protocol"]))
    if current is None or version == current:
        return ""
    return f"its protocol {row['protocol']} has version {version}, and the current version is {current}"


@cache
def current_version(protocol: str) -> int | None:
    """Return the version of a protocol of dmlbench; None for other protocols.

    Args:
        protocol: Name of the protocol.
    """
    return _versions().get(protocol)


@cache
def _versions() -> dict[str, int]:
    files: list[Path] = sorted((conf_dir() / "protocol").glob("*.yaml"))
    return {file.stem: yaml.safe_load(file.read_text(encoding="utf-8"))["version"] for file in files}
