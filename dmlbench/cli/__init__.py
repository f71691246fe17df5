"""Floor 7: words to commands; every import stands inside its branch, and errors are printed here alone.

Exit status: 0 done; 1 an accident, or a method that failed; 2 a mistake that the user can mend; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from dmlbench.cli.files import data, list_
from dmlbench.cli.helps import HELP, HELPS
from dmlbench.cli.inspecting import compare, show
from dmlbench.cli.reading import table
from dmlbench.cli.scoring import evaluate
from dmlbench.cli.training import sweep, train, tune
from dmlbench.cli.words import complain
from dmlbench.errors import UserError, suggest

HELP_WORDS = ("--help", "-h", "help")
COMMANDS = {
    "train": train,
    "sweep": sweep,
    "tune": tune,
    "table": table,
    "compare": compare,
    "show": show,
    "evaluate": evaluate,
    "data": data,
    "list": list_,
}


def run(words: Sequence[str]) -> int:
    """Run one command line.

    Args:
        words: what was typed after `dmlbench`.

    Returns:
        The exit status.
    """
    command, rest = (words[0], list(words[1:])) if words else ("--help", [])
    if command in HELP_WORDS:
        print(HELPS.get(rest[0], HELP) if rest else HELP, end="")
        return 0
    if command == "--version":
        from dmlbench import __version__

        print(f"dmlbench {__version__}")
        return 0
    try:
        if command not in COMMANDS:
            raise UserError(f"dmlbench has no command '{command}'{suggest(command, COMMANDS)}")
        if any(word in ("--help", "-h") for word in rest):
            print(HELPS[command], end="")
            return 0
        return COMMANDS[command](rest)
    except UserError as mistake:
        complain(str(mistake))
        return 2
    except KeyboardInterrupt:
        complain("interrupted; the same command goes on from the last checkpoint")
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
