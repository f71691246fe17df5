"""`dmlbench site`: write a static site about published entries. Imports neither torch nor Hydra."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from dmlbench.cli.arguments import Parser, add_config_dir, check_config_dir, path, print_error
from dmlbench.errors import UserError

EXAMPLES = """\
site results/                               # into site/
site results/ --output public --title "Our results"
site results/ --url https://results.example.org/
"""
DETAILS = """\
The site has a page per data set and protocol with tied ranks, one per method, and one per entry. Its links
are relative and it makes no request elsewhere, so it works from a directory, from any server, and from
a Git host. The same entries give the same files. A site that is there already is replaced once the new
one is complete; a directory with any other file is refused. Only .nojekyll and CNAME are kept.

What cannot be accepted is listed on the page problems.html: entries that contradict themselves, and files
that are not entries.
"""
_ADDRESS = re.compile(r"https?://[A-Za-z0-9._~:/@!$&()*+,;=%\[\]-]+")
_MAX_PRINTED = 10


def make_parser() -> Parser:
    """Return the parser of the command."""
    description = "Write a static site with ranks, tables and pages about published entries."
    parser = Parser("site", "ENTRIES [options]", description, EXAMPLES, DETAILS)
    add = parser.add_argument
    add("entries", metavar="ENTRIES", type=path, help="directory of entries, as `dmlbench publish` writes it")
    add("--output", metavar="DIR", type=path, default=Path("site"), help="directory to write (default: site)")
    add("--title", metavar="TEXT", default="Deep metric learning results", help="title of the site")
    add("--url", metavar="ADDRESS", default=None, help="address of the site, for the links of the feed (default: relative)")
    add_config_dir(parser, "also read published results in DIR/published")
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Write the site."""
    if arguments.url is not None and not _ADDRESS.fullmatch(arguments.url):
        raise UserError(
            f"--url {arguments.url} is not an address of a directory; it begins with http:// or https://, without ? and #"
        )
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise UserError(f"dmlbench site needs jinja2: pip install 'dmlbench[report]' ({error})") from None
    from dmlbench.site.write import write_site

    url = f"{arguments.url.rstrip('/')}/" if arguments.url else ""
    found = write_site(arguments.entries, arguments.output, arguments.title, url, check_config_dir(arguments.config_dir))
    entries = f"{found.n_entries:,} entr{'y' if found.n_entries == 1 else 'ies'}"
    print(
        f"{arguments.output}/index.html shows {entries}: {found.n_files:,} files, {found.n_bytes / 1e6:.1f} MB, "
        f"the largest page has {found.largest_page / 1e3:.0f} kB"
    )
    if found.n_inconsistent:
        print_error(
            f"inconsistent entries, which are in no table: {found.n_inconsistent}; see {arguments.output}/problems.html"
        )
    for one in found.skipped[:_MAX_PRINTED]:
        print_error(f"skipped {one.path}: {one.reason}")
    if len(found.skipped) > _MAX_PRINTED:
        print_error(f"skipped {len(found.skipped) - _MAX_PRINTED} more files; see {arguments.output}/problems.html")
    return 0
