"""`dmlbench table`: rows that are there to what is said of them; without torch and without Hydra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.cli.words import complain, take_config_dir
from dmlbench.errors import UserError, suggest

if TYPE_CHECKING:
    from dmlbench.rows import Refused

SAID = 5  # files that were left out; of more the number is told
TABLE_VALUES = {"--format": "markdown", "--metrics": "", "--published": "same", "vary": "loss"}  # and what holds without them
TABLE_FLAGS = ("--explain", "--oracle", "--no-cost", "--untested")


def table(words: list[str]) -> int:
    """`dmlbench table`: rows to tables."""
    from dmlbench.explanation import explain
    from dmlbench.render import refuse_unknown, render
    from dmlbench.rows import read_rows
    from dmlbench.table import compare

    config_dir, words = take_config_dir(words)
    places, values, flags = _table_words(words)
    refuse_unknown(values["--format"])
    for place in places:
        if not place.exists():
            raise UserError(f"{place} does not exist; name a folder that holds runs, such as runs")
    rows, refused = read_rows(*(places or [Path("runs")]))
    say_refused(refused)
    explained = "--explain" in flags
    tables = compare(
        rows,
        values["vary"],
        metrics=[name.strip() for name in values["--metrics"].split(",") if name.strip()],
        tested="--untested" not in flags and not explained,
        oracle="--oracle" in flags,
        cost="--no-cost" not in flags,
        published=values["--published"],
        config_dir=Path(config_dir) if config_dir else None,
    )
    print(explain(tables, values["vary"]) if explained else render(tables, values["--format"]), end="")
    return 0


def _table_words(words: list[str]) -> tuple[list[Path], dict[str, str], set[str]]:
    """Places, values by their key, and flags."""
    places, values, flags = [], dict(TABLE_VALUES), set()
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in TABLE_VALUES and (equals or name.startswith("-")):
            values[name] = value if equals else next(rest, "")
            if not values[name].strip(", ") or values[name].startswith("--"):
                raise UserError(f"{name} needs a value, such as {name}={TABLE_VALUES[name] or 'recall_at_1,map_at_r'}")
        elif word in TABLE_FLAGS:
            flags.add(word)
        elif word.startswith("-") or equals:
            known = [*TABLE_FLAGS, *(name for name in TABLE_VALUES if name != "vary"), "--config-dir", "vary=", "--help"]
            raise UserError(f"dmlbench table does not know '{word}'{suggest(name, known)}")
        else:
            places.append(Path(word))
    return places, values, flags


def say_refused(refused: Sequence[Refused]) -> None:
    """Say what no row could be read from, a sentence each."""
    for path, reason in refused[:SAID]:
        complain(" ".join(f"left out: {path}: {reason}".split())[:500])
    if len(refused) > SAID:
        complain(f"left out: {len(refused) - SAID} more")
