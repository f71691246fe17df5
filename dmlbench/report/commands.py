"""The commands that make the rows of a table again, from the overrides that the rows recorded.

Overrides are data of somebody else: they are quoted for a shell, and the page asks to read them before they are run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

from dmlbench.config.files import conf_dir
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.system.regular_files import parse_json
from dmlbench.system.terminal import printable
from dmlbench.tables.table import Table

_NOT_IN_COMMANDS = ("seed=", "loss=")
_CONFIG_FILE = re.compile(r"[a-z_]+/[\w-]+")  # group and name


@dataclass(frozen=True)
class Commands:
    """Command lines, and rows for which there is none.

    Args:
        lines: Command lines.
        missing: What commands need, and why there is no command for some methods, sentences.
    """

    lines: Sequence[str]
    missing: Sequence[str]


@dataclass
class _Group:
    """Methods that share a command, and the user's own configuration files that it needs."""

    losses: list[str] = field(default_factory=list)
    own_files: set[str] = field(default_factory=set)


def commands_of(table: Table) -> Commands:
    """Return the commands that make the rows of a table. Methods with the same overrides and seeds share a command.

    Args:
        table: A table.
    """
    groups: dict[tuple[tuple[str, ...], tuple[int, ...]], _Group] = {}
    missing = []
    for one in table.rows:
        overrides = _common_overrides(one.rows)
        if isinstance(overrides, str):
            missing.append(f"{one.label}: {overrides}.")
            continue
        # Two methods with one loss differ in other overrides, so they do not share a command.
        group = groups.setdefault((overrides, tuple(row.seed for row in one.rows)), _Group())
        group.losses.append(str(one.loss))
        group.own_files |= _own_files(one.rows)
    if own_files := sorted({name for group in groups.values() for name in group.own_files}):
        which = " and ".join([f"{name}.yaml" for name in own_files[:3]] + ["others"] * (len(own_files) > 3))
        missing.insert(0, f"Replace DIR by the directory that contains {which}; dmlbench does not ship this configuration.")
    return Commands([_command(overrides, seeds, group) for (overrides, seeds), group in groups.items()], missing)


def _own_files(rows: Iterable[Row]) -> set[str]:
    """Return the configuration files of some rows that are not shipped, such as `loss/mine`."""
    found: set[str] = set()
    for text in {str(row.get("config_files")) for row in rows}:
        try:
            files = parse_json(text.encode())
        except ValueError:
            continue
        names = [name for name in files if _CONFIG_FILE.fullmatch(name)] if isinstance(files, dict) else []
        found |= {name for name in names if not _is_shipped(name)}
    return found


@cache
def _is_shipped(name: str) -> bool:
    return (conf_dir() / f"{name}.yaml").is_file()


def _common_overrides(rows: Sequence[Row]) -> tuple[str, ...] | str:
    """Return the overrides of the runs of one method, without loss and seed; or why there are none, a clause."""
    if rows[0]["protocol"] == EXTERNAL or rows[0].get("parent") is not None:
        return "made by `dmlbench evaluate`, whose options are not recorded as a command"
    found = {row.overrides for row in rows}
    if None in found:
        return "the overrides of its command were not recorded"
    without = {tuple(one for one in overrides or () if not one.startswith(_NOT_IN_COMMANDS)) for overrides in found}
    return without.pop() if len(without) == 1 else "its seeds were run with different overrides"


def _command(overrides: Sequence[str], seeds: Sequence[int], group: _Group) -> str:
    several = len(seeds) > 1 or len(group.losses) > 1
    words = [*overrides, f"loss={','.join(dict.fromkeys(group.losses))}", f"seed={','.join(map(str, seeds))}"]
    words += ["--config-dir", "DIR"] if group.own_files else []
    return printable(" ".join(["dmlbench", "sweep" if several else "train", *map(shlex.quote, words)]))
