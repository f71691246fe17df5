"""What the commands share: the user's own folder of configurations and code, and how a complaint is printed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dmlbench.errors import UserError


def complain(sentence: str) -> None:
    """Print one sentence where errors go."""
    print(f"dmlbench: {sentence}", file=sys.stderr)


def find_own_code(config_dir: str | None) -> None:
    """Let the user's own mine.py be imported from the current folder, or from where the user's YAML lies."""
    sys.path[:0] = [os.getcwd(), *([os.path.abspath(config_dir)] if config_dir else [])]


def take_config_dir(words: list[str]) -> tuple[str | None, list[str]]:
    """Take `--config-dir DIR` or `--config-dir=DIR` out of the words."""
    from dmlbench.configs import refuse_hidden

    rest, found = [], None
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if name == "--config-dir":
            found = value if equals else next(remaining, "")
            if not Path(found).is_dir():
                raise UserError(f"--config-dir {found} is no folder")
            refuse_hidden(Path(found))
        else:
            rest.append(word)
    return found, rest
