"""Parsing of command lines: options, and their errors as one sentence."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NoReturn

from dmlbench.errors import UserError, suggest
from dmlbench.system.terminal import printable_lines

HELP_WIDTH = 100


class Parser(argparse.ArgumentParser):
    """The parser of one command. Errors are `UserError`s, and similar options are suggested.

    Args:
        command: Name of the command.
        usage: Usage after the command's name.
        description: One or more paragraphs.
        examples: Command lines without `dmlbench`, one per line, each with an optional comment after two spaces.
        details: Paragraphs after the options.
        keys: Options that may also be written without dashes, as `key=value`.
        overrides: Start of the arguments `key=value` that are overrides of the configuration.
    """

    def __init__(
        self,
        command: str,
        usage: str,
        description: str,
        examples: str,
        details: str = "",
        keys: Collection[str] = (),
        overrides: re.Pattern[str] | None = None,
    ) -> None:
        listed = "\n".join(f"  dmlbench {line}" for line in examples.strip().splitlines())
        super().__init__(
            prog=f"dmlbench {command}",
            usage=f"dmlbench {command} {usage}",
            description=description,
            epilog=f"examples:\n{listed}\n" + (f"\n{details}" if details else ""),
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=HELP_WIDTH),
            allow_abbrev=False,
            add_help=False,
        )
        self.command = command
        self.examples = examples
        self.keys = keys
        self.overrides = overrides
        self.add_argument("-h", "--help", action="store_true", help="print this help and exit")

    def parse(self, argv: Iterable[str]) -> argparse.Namespace:
        """Parse the arguments of the command; options and other arguments may be mixed.

        Args:
            argv: Arguments after the command's name.

        Returns:
            The value of each option, and the list of the other arguments.

        Raises:
            UserError: An option is unknown, or its value is missing or not accepted.
        """
        normalized = [f"--{one}" if one.partition("=")[0] in self.keys and "=" in one else one for one in argv]
        self._refuse_option_without_dashes(normalized)
        arguments, unknown = self.parse_known_intermixed_args(normalized)
        if unknown:
            raise UserError(f"dmlbench {self.command} does not know '{unknown[0]}'{self._instead_of(unknown[0])}")
        self._refuse_unknown_key(arguments)
        for action in self._actions:
            if action.option_strings and getattr(arguments, action.dest) == "":
                self._refuse_missing_value(action)
        return arguments

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found as a `UserError`.

        Args:
            message: Message of argparse.

        Raises:
            UserError: Always.
        """
        found = re.match(r"argument ([^:]+): (.*)", message)
        if not found:
            raise UserError(f"dmlbench {self.command}: {message}")
        name, problem = found[1].split("/")[-1], found[2]
        if problem.startswith("expected one argument"):
            self._refuse_missing_value(next(one for one in self._actions if name in one.option_strings))
        if problem.startswith("ignored explicit argument"):
            raise UserError(f"{name} takes no value")
        raise UserError(f"{name}: {problem}")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            if value == "":
                self._refuse_missing_value(action)
            raise UserError(f"{action.option_strings[-1]} {value} is not known{suggest(str(value), list(action.choices))}")

    def _refuse_missing_value(self, action: argparse.Action) -> NoReturn:
        """Refuse an option without value, with a value that would be accepted."""
        name = action.option_strings[-1]
        if action.choices is not None:
            raise UserError(f"{name} needs a value: {' or '.join(map(str, action.choices))}")
        example = re.search(rf"{re.escape(name)} ('[^']*'|\"[^\"]*\"|\S+)", self.examples)
        raise UserError(f"{name} needs a value" + (f", such as {example[0]}" if example else f": {name} {action.metavar}"))

    def _refuse_option_without_dashes(self, argv: Iterable[str]) -> None:
        """Refuse `format=latex` if `--format` is an option and the text is no path."""
        if self._takes_overrides:
            return
        for one in argv:
            if "=" in one and not one.startswith("-") and not Path(one).exists() and (option := self._similar(one, cutoff=0.8)):
                raise UserError(f"dmlbench {self.command} does not know '{one}'; did you mean '{option}'?")

    def _refuse_unknown_key(self, arguments: argparse.Namespace) -> None:
        """Refuse `key=value` that neither names runs nor is an override."""
        for one in getattr(arguments, "selectors", ()):
            is_override = self.overrides is not None and self.overrides.match(one)
            if "=" in one and not is_override and not _names_runs(one, arguments.runs):
                option = self._similar(one, cutoff=0.5)
                meant = f"did you mean '{option}'?" if option else f"known: {', '.join(self._option_names(with_value=True))}"
                raise UserError(f"dmlbench {self.command} does not know '{one}'; {meant}")

    def _similar(self, key_value: str, cutoff: float) -> str | None:
        """Return the option that may be meant by `key=value`, with the value; None if none is similar."""
        key, _, value = key_value.partition("=")
        names = [name.lstrip("-") for name in self._option_names(with_value=True)]
        near = difflib.get_close_matches(key, names, n=1, cutoff=cutoff)
        return f"--{near[0]}{f' {shlex.quote(value)}' if value else ''}" if near else None

    def _instead_of(self, unknown: str) -> str:
        """What the user may have meant by an unknown option."""
        name = unknown.partition("=")[0]
        similar = suggest(name, self._option_names())
        if not self._takes_overrides or "did you mean" in similar:
            return similar
        return f"; set a value of the configuration without dashes, as KEY=VALUE, or use {', '.join(self._option_names())}"

    @property
    def _takes_overrides(self) -> bool:
        return any(action.dest == "overrides" for action in self._actions)

    def _option_names(self, with_value: bool = False) -> list[str]:
        visible = [one for one in self._actions if one.help != argparse.SUPPRESS and not (with_value and one.nargs == 0)]
        return [name for action in visible for name in action.option_strings if name.startswith("--")]


def _names_runs(selector: str, runs_dir: Path) -> bool:
    from dmlbench.results.run_selectors import select

    try:
        return bool(select(selector, runs_dir))
    except UserError:
        return False


def path(text: str) -> Path:
    """Return the path that a user typed, with `~` expanded: shells leave it in `--option=~/directory`.

    Args:
        text: As typed.

    Raises:
        ArgumentTypeError: It is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("expected one argument")
    return Path(text).expanduser()


def add_config_dir(parser: Parser, reads: str = "also read configuration files, and import own code, from DIR") -> None:
    """Add `--config-dir`.

    Args:
        parser: Parser of a command.
        reads: What the command does with the directory.
    """
    parser.add_argument("--config-dir", metavar="DIR", type=path, help=reads)


def add_runs_dir(parser: Parser) -> None:
    """Add `--runs`.

    Args:
        parser: Parser of a command.
    """
    parser.add_argument("--runs", metavar="DIR", type=path, default=Path("runs"), help="directory of runs (default: runs)")


def check_config_dir(config_dir: Path | None) -> Path | None:
    """Refuse a `--config-dir` that is not a directory, or that hides a shipped file.

    Args:
        config_dir: Value of the option; None if it was not given.

    Returns:
        The same.

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
    """Let Python import the user's own modules from `--config-dir` and from the current directory.

    Both come last, so that a file there never replaces an installed module.

    Args:
        config_dir: Value of the option.
    """
    own = [*([os.path.abspath(config_dir)] if config_dir else []), os.getcwd()]
    sys.path[:] = [*(directory for directory in sys.path if os.path.abspath(directory) not in own), *own]


def own_name(metric: str) -> str:
    """Return the name of a metric's column, and print it if the metric was given under another name.

    Args:
        metric: Name of a metric, such as `accuracy_at_5`.
    """
    from dmlbench.results.metric_specs import canonical_metric, parse_metric

    found = canonical_metric(metric)
    if found != metric and (column := parse_metric(found)) is not None:
        print_error(f"{metric} is {found} here, printed as {column.label}: {column.spec.definition.partition('.')[0]}")
    return found


def print_error(sentence: str) -> None:
    """Print one sentence to standard error.

    Args:
        sentence: Sentence without the name of the program.
    """
    print(f"dmlbench: {printable_lines(sentence)}", file=sys.stderr)
