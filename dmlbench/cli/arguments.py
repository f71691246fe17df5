"""Parsing of command lines: options, their errors as one sentence, and where the user's own code is found."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NoReturn

from dmlbench.errors import UserError, suggest

HELP_WIDTH = 100


class Parser(argparse.ArgumentParser):
    """The parser of one command. Errors are `UserError`s, and similar options are suggested.

    Args:
        command: Name of the command.
        usage: Usage after the command's name.
        description: One or more paragraphs.
        examples: Command lines without `dmlbench`, one per line, each with an optional comment after two spaces.
        details: Paragraphs after the options.
        words: Options that may also be written without dashes, as `key=value`.
    """

    def __init__(
        self, command: str, usage: str, description: str, examples: str, details: str = "", words: Collection[str] = ()
    ) -> None:
        shown = "\n".join(f"  dmlbench {line}" for line in examples.strip().splitlines())
        super().__init__(
            prog=f"dmlbench {command}",
            usage=f"dmlbench {command} {usage}",
            description=description,
            epilog=f"examples:\n{shown}\n" + (f"\n{details}" if details else ""),
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=HELP_WIDTH),
            allow_abbrev=False,
            add_help=False,
        )
        self.command = command
        self.words = words
        self.add_argument("-h", "--help", action="store_true", help="print this help and exit")

    def parse(self, argv: Iterable[str]) -> argparse.Namespace:
        """Parse the arguments of the command; options may stand anywhere.

        Raises:
            UserError: An option is unknown, or its value is missing or not accepted.
        """
        normalized = [f"--{one}" if one.partition("=")[0] in self.words and "=" in one else one for one in argv]
        arguments, rest = self.parse_known_intermixed_args(normalized)
        for unknown in rest:
            name = unknown.partition("=")[0]
            raise UserError(f"dmlbench {self.command} does not know '{unknown}'{suggest(name, self._option_names())}")
        return arguments

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found as a `UserError`."""
        option = re.match(r"argument ([^:]+): (.*)", message)
        if not option:
            raise UserError(f"dmlbench {self.command}: {message}")
        name, problem = option[1].split("/")[-1], option[2]
        if problem.startswith("expected one argument"):
            example = next((one.metavar for one in self._actions if name in one.option_strings and one.metavar), "VALUE")
            raise UserError(f"{name} needs a value: {name} {example}")
        raise UserError(f"{name}: {problem}")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.option_strings[-1] if action.option_strings else str(action.metavar)
            raise UserError(f"{name} {value} is not known{suggest(str(value), list(action.choices))}")

    def _option_names(self) -> list[str]:
        return [name for action in self._actions if action.help != argparse.SUPPRESS for name in action.option_strings]


def add_config_dir(parser: Parser) -> None:
    """Add `--config-dir`."""
    parser.add_argument(
        "--config-dir", metavar="DIR", type=Path, help="also look for configuration files, and for own code, in DIR"
    )


def add_runs_dir(parser: Parser) -> None:
    """Add `--runs`."""
    parser.add_argument("--runs", metavar="DIR", type=Path, default=Path("runs"), help="directory of runs (default: runs)")


def check_config_dir(config_dir: Path | None) -> Path | None:
    """Refuse a `--config-dir` that is no directory, or that hides a shipped file.

    Raises:
        UserError: See above.
    """
    if config_dir is not None:
        from dmlbench.config.files import refuse_hidden

        if not config_dir.is_dir():
            raise UserError(f"--config-dir {config_dir} is not a directory")
        refuse_hidden(config_dir)
    return config_dir


def allow_own_code(config_dir: Path | None) -> None:
    """Let Python import the user's own modules from the current directory and from `--config-dir`."""
    sys.path[:0] = [os.getcwd(), *([os.path.abspath(config_dir)] if config_dir else [])]


def print_error(sentence: str) -> None:
    """Print one sentence to standard error."""
    print(f"dmlbench: {sentence}", file=sys.stderr)
