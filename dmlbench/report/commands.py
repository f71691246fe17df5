"""The commands that make the rows of a table again, from the overrides that the rows recorded.

Overrides are data of somebody else: they are quoted for a shell, and the page asks to read them before they are run. Local
paths, which publishing takes out, become `PATH`, and a sentence says which file belongs there.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache

from dmlbench.config.files import conf_dir
from dmlbench.publication.scrub import LOCAL
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.system.regular_files import parse_json
from dmlbench.system.terminal import printable
from dmlbench.tables.table import Table

PLACEHOLDER = "PATH"
_ROOT = "dataset.root"
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


def commands_of(table: Table, elsewhere: bool = False) -> Commands:
    """Return the commands that make the rows of a table. Methods with the same overrides and seeds share a command.

    Args:
        table: A table.
        elsewhere: Whether the rows were made on another machine, which has the data set in another directory.
    """
    groups: dict[tuple[tuple[str, ...], tuple[int, ...]], _Group] = {}
    missing: list[str] = []
    for one in table.rows:
        missing += _changed_files(one.rows)
        overrides = _common_overrides(one.rows)
        if isinstance(overrides, str):
            missing.append(f"{one.label}: {overrides}.")
            continue
        if elsewhere:
            overrides = tuple(f"{_ROOT}={LOCAL}" if text.startswith(f"{_ROOT}=") else text for text in overrides)
        missing += _placeholders(overrides, one.rows[0])
        overrides = tuple(text.replace(LOCAL, PLACEHOLDER) for text in overrides)
        # Two methods with one loss differ in other overrides, so they do not share a command.
        group = groups.setdefault((overrides, tuple(row.seed for row in one.rows)), _Group())
        group.losses.append(str(one.loss))
        group.own_files |= _own_files(one.rows)
    if own_files := sorted({name for group in groups.values() for name in group.own_files}):
        which = " and ".join([f"{name}.yaml" for name in own_files[:3]] + ["others"] * (len(own_files) > 3))
        missing.insert(0, f"Replace DIR by the directory that contains {which}; dmlbench does not ship this configuration.")
    lines = [_command(overrides, seeds, group) for (overrides, seeds), group in groups.items()]
    return Commands(lines, [*dict.fromkeys(missing)])


def _placeholders(overrides: Iterable[str], row: Row) -> Iterator[str]:
    """Yield what to write instead of each placeholder, a sentence."""
    for key, _, value in (one.partition("=") for one in overrides):
        if LOCAL not in value:
            continue
        if key == _ROOT:
            meaning = f"the directory of the data set {row['dataset']} (split_digest {row.get('split_digest')})"
        else:
            column = key.lstrip("+~").replace(".", "_")
            name, digest = row.get(column), row.get(f"{column}_sha256")
            meaning = "the path of a file on your machine"
            meaning += f": {name}" if isinstance(name, str) and LOCAL not in name else ""
            meaning += f", SHA-256 {digest}" if isinstance(digest, str) else ", which the run did not record"
        yield printable(f"Replace {PLACEHOLDER} in {key}={value.replace(LOCAL, PLACEHOLDER)} by {meaning}.")


def _changed_files(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a warning if shipped configuration files are not those with which the rows were made."""
    changed = {
        name
        for row in rows
        for name, digest in _config_files(str(row.get("config_files"))).items()
        if _is_shipped(name) and digest != _shipped_digest(name)
    }
    if changed:
        names = ", ".join(f"{name}.yaml" for name in sorted(changed)[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        yield f"{names}{more} changed since the run, so the command may make another run than the one that is shown."


def _own_files(rows: Iterable[Row]) -> set[str]:
    """Return the configuration files of some rows that are not shipped, such as `loss/mine`."""
    return {name for row in rows for name in _config_files(str(row.get("config_files"))) if not _is_shipped(name)}


@lru_cache(1000)  # many runs have the same
def _config_files(text: str) -> Mapping[str, object]:
    """Return the configuration files of a run, such as `loss/triplet`, with their SHA-256."""
    try:
        files = parse_json(text.encode())
    except ValueError:
        return {}
    return {name: digest for name, digest in files.items() if _CONFIG_FILE.fullmatch(name)} if isinstance(files, dict) else {}


@cache
def _is_shipped(name: str) -> bool:
    return (conf_dir() / f"{name}.yaml").is_file()


@cache
def _shipped_digest(name: str) -> str:
    return hashlib.sha256((conf_dir() / f"{name}.yaml").read_bytes()).hexdigest()


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
