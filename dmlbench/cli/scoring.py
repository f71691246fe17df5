"""`dmlbench evaluate`: saved runs and files of embeddings to rows."""

from __future__ import annotations

from pathlib import Path

from dmlbench.cli.reading import say_refused
from dmlbench.cli.training import headline
from dmlbench.cli.words import find_own_code, take_config_dir
from dmlbench.errors import UserError, suggest

EVALUATE_KEYS = (
    *("ks", "clusters", "distance", "rerank", "rerank.k1", "rerank.k2", "rerank.lambda", "whiten", "beta", "layer"),
    *("dataset", "trunk", "seed", "labels"),
)


def evaluate(words: list[str]) -> int:
    """`dmlbench evaluate PLACE...`: saved runs and files of embeddings to rows."""
    config_dir, words = take_config_dir(words)
    places, values, flags = _evaluate_words(words)
    if not places:
        raise UserError("dmlbench evaluate needs a run's folder or a file of embeddings, such as runs/digits or theirs.npz")
    for place in places:
        if not place.exists():
            raise UserError(f"{place} does not exist; name a folder that holds runs, or a file of embeddings")
    find_own_code(config_dir)
    from dmlbench.mistakes import COMPOSING, reword
    from dmlbench.rescore import evaluate as scored
    from dmlbench.rescore import request_of
    from dmlbench.rows import ROW_FILE, read_rows

    for place in places:
        if place.is_dir():
            say_refused(read_rows(place)[1])
        request = request_of(
            values, flags.get("--name"), flags.get("--runs"), place.is_file() and place.name != ROW_FILE, config_dir
        )
        try:
            for path, row in scored(place, request):
                print(f"{row['loss_label']} on {row['dataset_label']}: {headline(row)}  ({path})")
        except COMPOSING as error:
            raise reword(error, words) from error
    return 0


def _evaluate_words(words: list[str]) -> tuple[list[Path], dict[str, str], dict[str, str]]:
    """Places, values by their key, and flags with theirs."""
    known = {"--name": "NAME", "--runs": "DIR"}
    places, values, flags = [], {}, {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in known:
            flags[name] = value if equals else next(rest, "")
            if not flags[name]:
                raise UserError(f"{name} needs a value: {name} {known[name]}")
        elif name in EVALUATE_KEYS and equals:
            values[name] = value
        elif word.startswith("-") or (equals and not Path(word).exists()):
            raise UserError(f"dmlbench evaluate does not know '{name}'{suggest(name, [*EVALUATE_KEYS, *known, '--help'])}")
        else:
            places.append(Path(word))
    return places, values, flags
