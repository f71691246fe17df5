"""`dmlbench list`: list losses, data sets, trunks and other configuration files."""

from __future__ import annotations

import argparse
import textwrap

from dmlbench.cli.arguments import HELP_WIDTH, Parser, add_config_dir, check_config_dir
from dmlbench.errors import UserError, suggest

EXAMPLES = """\
list losses
list trunks --config-dir my_conf
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    from dmlbench.config.files import GROUPS

    description = (
        f"List configuration files, each with the first sentence of its comment. GROUP is one of\n{', '.join(GROUPS)}."
    )
    parser = Parser("list", "GROUP [options]", description, EXAMPLES)
    parser.add_argument("group", nargs="*", metavar="GROUP", help="what to list")
    add_config_dir(parser)
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Print the files of a group."""
    from dmlbench.config.files import GROUPS, entries

    typed = " ".join(arguments.group)
    group = next((name for name, folder in GROUPS.items() if typed in (name, folder)), typed)
    if group not in GROUPS:
        raise UserError(f"dmlbench list does not know '{group}'{suggest(group, GROUPS)}")
    found = list(entries(GROUPS[group], check_config_dir(arguments.config_dir)))
    width = max(len(name) for name, _ in found) + 2
    for name, opening in found:
        print(textwrap.fill(opening, HELP_WIDTH + 10, initial_indent=name.ljust(width), subsequent_indent=" " * width))
    return 0
