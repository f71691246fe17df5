"""`dmlbench compare` and `dmlbench show`: runs looked at closely; without torch and without Hydra."""

from __future__ import annotations

from pathlib import Path

from dmlbench.errors import UserError, suggest


def compare(words: list[str]) -> int:
    """`dmlbench compare A B`: whether B is better than A."""
    from dmlbench import comparison, comparison_text
    from dmlbench.lookup import pair

    named, flags = _words("compare", words, ("--runs", "--metric", "--format"))
    if len(named) != 2:
        raise UserError(
            f"dmlbench compare needs two runs or methods, A and B, not {len(named)}: dmlbench compare triplet arcface"
        )
    form = flags.get("--format", "text")
    if form not in comparison_text.FORMATS:
        raise UserError(f"--format {form} is not known{suggest(form, comparison_text.FORMATS)}")
    a, b = pair(named[0], named[1], Path(flags.get("--runs", "runs")))
    found = comparison.compare(a.rows, b.rows, flags.get("--metric", comparison.METRICS[0]))
    tell = comparison_text.as_json if form == "json" else comparison_text.as_text
    print(tell(found, (a.name, b.name)), end="")
    return 0


def show(words: list[str]) -> int:
    """`dmlbench show RUN`: one run."""
    from dmlbench.lookup import one_folder
    from dmlbench.run_folder import read_folder
    from dmlbench.run_text import as_text

    named, flags = _words("show", words, ("--runs",))
    if len(named) != 1:
        raise UserError(f"dmlbench show needs one run, not {len(named)}: a folder, or an id or how it begins")
    print(as_text(read_folder(one_folder(named[0], Path(flags.get("--runs", "runs"))))), end="")
    return 0


def _words(command: str, words: list[str], known: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """What is named, and flags with their values."""
    named, flags = [], {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in known:
            flags[name] = value if equals else next(rest, "")
            if not flags[name]:
                raise UserError(f"{name} needs a value")
        elif word.startswith("-"):
            raise UserError(f"dmlbench {command} does not know '{word}'{suggest(name, [*known, '--help'])}")
        else:
            named.append(word)
    return named, flags
