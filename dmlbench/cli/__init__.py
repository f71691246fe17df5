"""The command line: one module per command, imported when the command is run.

Exit status: 0 success; 1 a crash, or a method that failed; 2 an error that the user can correct; 128 + signal if a signal
ended the command, such as 130 for Ctrl-C.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module

from dmlbench.cli.several_processes import run_together, started_by_torchrun
from dmlbench.errors import UserError, describe_os_error, suggest
from dmlbench.system.signals import raise_on_signals, received_signal, sentence
from dmlbench.system.terminal import OutputStream, PrintableStream, discard_buffer, printable_lines

# Each command is a module of this package with `make_parser()` and `main(arguments)`; the text is for the overview.
COMMANDS = {
    "train": "train and evaluate one run",
    "sweep": "run every combination of values, then print their table",
    "tune": "tune the hyper-parameters of a loss on training classes only",
    "table": "print comparison tables of finished runs",
    "report": "write tables, pictures and provenance into one HTML file",
    "serve": "search with finished runs, compare and rate them in a browser",
    "compare": "test whether one method is better than another",
    "show": "print everything about one run",
    "evaluate": "evaluate saved runs again, or embeddings from elsewhere",
    "verify": "check how far results can be believed, from the files beside them",
    "publish": "pack runs as entries that anybody can check, for a pull request",
    "site": "write a static site with ranks about published entries",
    "data": "download, unpack and check data sets",
    "list": "list losses, data sets, trunks and other configuration files",
}
RESUMABLE = ("train", "sweep", "tune")
TOGETHER = ("train", "sweep")  # commands that torchrun may start in several processes
OVERVIEW_EXAMPLES = """\
examples:
  dmlbench train loss=softtriple dataset=cub
  dmlbench sweep dataset=cub seed=0,1,2
  dmlbench table runs/cub --format latex
  dmlbench compare cub/triplet cub/arcface
"""


def overview() -> str:
    """Return what `dmlbench --help` prints."""
    lines = [f"  {name:9} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: dmlbench COMMAND ...",
            "",
            "Compare deep metric learning methods under one fixed protocol.",
            "",
            "commands:",
            *lines,
            "",
            OVERVIEW_EXAMPLES,
            "Run `dmlbench COMMAND --help` for the options of a command, and `dmlbench --version` for the version.",
            "",
        ]
    )


def run(argv: Sequence[str]) -> int:
    """Run one command line.

    Args:
        argv: Arguments after `dmlbench`.

    Returns:
        The exit status.
    """
    # A run does not end because nobody reads what it prints. An error is an exit status as well.
    resumable = bool(argv) and argv[0] in RESUMABLE
    with redirect_stderr(OutputStream(sys.stderr, discard_on_error=True)):
        return _run_with_status(argv, PrintableStream(sys.stdout, discard_on_error=resumable))


def _run_with_status(argv: Sequence[str], output: PrintableStream) -> int:
    """Run one command line, and turn errors into sentences and exit statuses."""
    try:
        with redirect_stdout(output):
            status = _run([*argv])  # not list(argv): the module of the command `list` shadows the builtin in this package
            output.flush()
        return status
    except (Exception, KeyboardInterrupt) as error:
        number = received_signal()  # of a signal that a library may have turned into another error
        if number is not None or isinstance(error, KeyboardInterrupt):
            return _interrupted(argv, signal.SIGINT if number is None else number)
        if isinstance(error, UserError):
            return _refused(str(error), 2)
        if isinstance(error, BrokenPipeError):  # the program that reads the output has ended, such as `head`
            discard_buffer(sys.stdout)
            return 0
        if isinstance(error, OSError) and error.strerror:  # such as a full disk, or a file without permission
            if error.filename is None:
                discard_buffer(sys.stdout)
            return _refused(describe_os_error(error), 1)
        raise


def _refused(reason: str, status: int) -> int:
    """Print an error, and return the exit status."""
    print(f"dmlbench: {printable_lines(reason)}", file=sys.stderr)
    return status


def _interrupted(argv: Sequence[str], number: int) -> int:
    resume = "; run the same command again to resume" if argv and argv[0] in RESUMABLE else ""
    print(f"dmlbench: {sentence(number)}{resume}", file=sys.stderr)
    return 128 + number


def _run(argv: list[str]) -> int:
    command, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if command in ("--help", "-h", "help"):
        if not rest:
            print(overview(), end="")
            return 0
        command, rest = rest[0], ["--help"]
    if command == "--version":
        from dmlbench import __version__

        print(f"dmlbench {__version__}")
        return 0
    if command not in COMMANDS:
        known = ("--help", "--version") if command.startswith("-") else COMMANDS
        raise UserError(
            f"dmlbench has no {'option' if command.startswith('-') else 'command'} '{command}'{suggest(command, known)}"
        )
    module = import_module(f"dmlbench.cli.{command}")
    parser = module.make_parser()
    if "--help" in rest or "-h" in rest:
        print(parser.format_help(), end="")
        return 0
    parsed = parser.parse(rest)
    if command not in RESUMABLE:  # the others have nothing to unwind until their first run starts
        raise_on_signals()
    if started_by_torchrun():
        return run_together(command, TOGETHER, lambda: module.main(parsed))
    status = module.main(parsed)
    assert isinstance(status, int)
    return status
