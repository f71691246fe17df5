"""`dmlbench list`: list losses, data sets, trunks and other configuration files."""

from __future__ import annotations

import argparse
import textwrap

from dmlbench.cli.arguments import HELP_WIDTH, Parser, add_config_dir, check_config_dir
from dmlbench.errors import UserError, suggest

EXAMPLES = """\
list losses
list trunks --config-dir my_conf            # with your own trunks in my_conf/trunk/
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    from dmlbench.config.files import GROUPS

    description = (
        f"List configuration files, each with the first paragraph of its comment. GROUP is one of\n{', '.join(GROUPS)}."
    )
    parser = Parser("list", "GROUP [options]", description, EXAMPLES)
    parser.add_argument("group", nargs="*", metavar="GROUP", help="group of files to list")
    add_config_dir(parser, "also list the files in DIR")
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Print the files of a group."""
    from dmlbench.config.files import GROUPS, entries

    if len(arguments.group) != 1:
        raise UserError(f"dmlbench list needs one group, not {len(arguments.group)}: {', '.join(GROUPS)}")
    [typed] = arguments.group
    group = next((name for name, folder in GROUPS.items() if typed in (name, folder)), typed)
    if group not in GROUPS:
        raise UserError(f"dmlbench list does not know '{group}'{suggest(group, GROUPS)}")
    found = list(entries(GROUPS[group], check_config_dir(arguments.config_dir)))
    width = max(len(name) for name, _ in found) + 2
    for name, opening in found:
        print(textwrap.fill(opening, HELP_WIDTH, initial_indent=name.ljust(width), subsequent_indent=" " * width))
    return 0
