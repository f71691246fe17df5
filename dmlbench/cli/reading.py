"""`dmlbench table`: rows that are there to what is said of them; without torch and without Hydra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.cli.words import complain
from dmlbench.errors import UserError, suggest

if TYPE_CHECKING:
    from dmlbench.rows import Refused

SAID = 5  # files that were left out; of more the number is told


def table(words: list[str]) -> int:
    """`dmlbench table`: rows to tables."""
    from dmlbench.render import render
    from dmlbench.rows import read_rows
    from dmlbench.table import compare

    chosen, vary, places, tested = "markdown", "loss", [], True
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == "--format":
            chosen = value if equals else next(rest, "")
        elif name == "vary" and equals:
            vary = value
        elif word == "--untested":
            tested = False
        elif word.startswith("-") or equals:
            known = ["--format", "--untested", "vary=", "--help"]
            raise UserError(f"dmlbench table does not know '{word}'{suggest(name, known)}")
        else:
            places.append(Path(word))
    for place in places:
        if not place.exists():
            raise UserError(f"{place} does not exist; name a folder that holds runs, such as runs")
    rows, refused = read_rows(*(places or [Path("runs")]))
    say_refused(refused)
    print(render(compare(rows, vary, tested=tested), chosen), end="")
    return 0


def say_refused(refused: Sequence[Refused]) -> None:
    """Say what no row could be read from, a sentence each."""
    for path, reason in refused[:SAID]:
        complain(" ".join(f"left out: {path}: {reason}".split())[:500])
    if len(refused) > SAID:
        complain(f"left out: {len(refused) - SAID} more")
