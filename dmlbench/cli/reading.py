"""`dmlbench table`: rows that are there to what is said of them; without torch and without Hydra."""

from __future__ import annotations

from pathlib import Path

from dmlbench.cli.words import take_config_dir
from dmlbench.errors import UserError, suggest


def table(words: list[str]) -> int:
    """`dmlbench table`: rows to tables."""
    from dmlbench.render import render
    from dmlbench.rows import find_rows, read_row
    from dmlbench.table import compare

    config_dir, words = take_config_dir(words)
    chosen, vary, published, places, tested = "markdown", "loss", "same", [], True
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == "--format":
            chosen = value if equals else next(rest, "")
        elif name == "--published":
            published = value if equals else next(rest, "")
        elif name == "vary" and equals:
            vary = value
        elif word == "--untested":
            tested = False
        elif word.startswith("-") or equals:
            known = ["--config-dir", "--format", "--published", "--untested", "vary=", "--help"]
            raise UserError(f"dmlbench table does not know '{word}'{suggest(name, known)}")
        else:
            places.append(Path(word))
    for place in places:
        if not place.exists():
            raise UserError(f"{place} does not exist; name a folder that holds runs, such as runs")
    rows = [read_row(path) for path in find_rows(*(places or [Path("runs")]))]
    own = Path(config_dir) if config_dir else None
    print(render(compare(rows, vary, tested=tested, published=published, config_dir=own), chosen), end="")
    return 0
