"""`dmlbench data` and `dmlbench list`: what lies on the disk, of data and of configuration."""

from __future__ import annotations

from pathlib import Path

from dmlbench.cli.words import find_own_code, take_config_dir
from dmlbench.errors import UserError, suggest

DATA_VERBS = ("prepare", "check")


def data(words: list[str]) -> int:
    """`dmlbench data prepare NAME`: fetch and unpack; `dmlbench data check NAME`: read every image and say what is there."""
    config_dir, words = take_config_dir(words)
    verb = words[0] if words else ""
    if verb not in DATA_VERBS:
        raise UserError(
            f"dmlbench data does not know '{verb}'; use `dmlbench data {' NAME` or `dmlbench data '.join(DATA_VERBS)} NAME`"
        )
    if len(words) < 2 or "=" in words[1]:
        raise UserError(f"dmlbench data {verb} needs the name of a data set; `dmlbench list datasets` shows them")
    find_own_code(config_dir)
    from dmlbench.data.check import report
    from dmlbench.launch import compose, data_of, prepare_data
    from dmlbench.mistakes import COMPOSING, reword

    overrides = [f"dataset={words[1]}", *words[2:]]
    try:
        composed = compose(overrides, config_dir)
        if verb == "prepare":
            for line in prepare_data(*composed):
                print(line, flush=True)
        dataset, split = data_of(*composed)
    except COMPOSING as error:
        raise reword(error, overrides) from error
    for line in report(dataset.label, split):
        print(line)
    return 0


def list_(words: list[str]) -> int:
    """`dmlbench list GROUP`: the words that can be typed, and what each stands for."""
    import textwrap

    from dmlbench.configs import GROUPS, entries

    config_dir, words = take_config_dir(words)
    group = words[0] if words else ""
    group = next((name for name, folder in GROUPS.items() if group in (name, folder)), group)
    if group not in GROUPS:
        raise UserError(f"dmlbench list does not know '{group}'{suggest(group, GROUPS)}")
    found = list(entries(GROUPS[group], Path(config_dir) if config_dir else None))
    width = max(len(name) for name, _ in found) + 2
    for name, opening in found:
        print(textwrap.fill(opening, 110, initial_indent=name.ljust(width), subsequent_indent=" " * width))
    return 0
