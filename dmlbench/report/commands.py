"""The commands that make the rows of a table again, from the overrides that the rows recorded.

Overrides are data of somebody else: they are quoted for a shell, and the page asks to read them before they are run.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from dmlbench.results.row import EXTERNAL, Row
from dmlbench.system.terminal import printable
from dmlbench.tables.table import Table

_NOT_IN_COMMANDS = ("seed=", "loss=")


@dataclass(frozen=True)
class Commands:
    """Command lines, and rows for which there is none.

    Args:
        lines: Command lines.
        missing: Why there is no command for some methods, sentences.
    """

    lines: Sequence[str]
    missing: Sequence[str]


def commands_of(table: Table) -> Commands:
    """Return the commands that make the rows of a table. Methods with the same overrides and seeds share a command.

    Args:
        table: A table.
    """
    groups: dict[tuple[tuple[str, ...], tuple[int, ...]], list[str]] = {}
    missing = []
    for one in table.rows:
        overrides = _common_overrides(one.rows)
        if isinstance(overrides, str):
            missing.append(f"{one.label}: {overrides}.")
            continue
        # Two methods with one loss differ in other overrides, so they do not share a command.
        losses = groups.setdefault((overrides, tuple(row.seed for row in one.rows)), [])
        losses.append(str(one.loss))
    return Commands([_command(overrides, seeds, losses) for (overrides, seeds), losses in groups.items()], missing)


def _common_overrides(rows: Sequence[Row]) -> tuple[str, ...] | str:
    """Return the overrides of the runs of one method, without loss and seed; or why there are none, a clause."""
    if rows[0]["protocol"] == EXTERNAL or rows[0].get("parent") is not None:
        return "made by `dmlbench evaluate`, whose options are not recorded as a command"
    found = {row.overrides for row in rows}
    if None in found:
        return "the overrides of its command were not recorded"
    without = {tuple(one for one in overrides or () if not one.startswith(_NOT_IN_COMMANDS)) for overrides in found}
    return without.pop() if len(without) == 1 else "its seeds were run with different overrides"


def _command(overrides: Sequence[str], seeds: Sequence[int], losses: Sequence[str]) -> str:
    several = len(seeds) > 1 or len(losses) > 1
    words = [*overrides, f"loss={','.join(dict.fromkeys(losses))}", f"seed={','.join(map(str, seeds))}"]
    return printable(" ".join(["dmlbench", "sweep" if several else "train", *map(shlex.quote, words)]))
