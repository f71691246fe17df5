"""`dmlbench table`: rows that are there to what is said of them; without torch and without Hydra."""

from __future__ import annotations

from pathlib import Path

from dmlbench.errors import UserError, suggest


def table(words: list[str]) -> int:
    """`dmlbench table`: rows to tables."""
    from dmlbench.render import render
    from dmlbench.rows import find_rows, read_row
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
    rows = [read_row(path) for path in find_rows(*(places or [Path("runs")]))]
    print(render(compare(rows, vary, tested=tested), chosen), end="")
    return 0
