"""Write a site about published entries into a directory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from dmlbench.errors import UserError
from dmlbench.results.row_files import SkippedFile
from dmlbench.site.board_pages import write_board
from dmlbench.site.catalogue import Catalogue, make_catalogue
from dmlbench.site.entry_pages import write_entries
from dmlbench.site.export import GENERATOR, entries_csv, index_json
from dmlbench.site.feed import PAGE as FEED
from dmlbench.site.feed import feed
from dmlbench.site.method_pages import write_methods
from dmlbench.site.overview import write_overview
from dmlbench.site.published_pages import write_published
from dmlbench.site.reading import read_site_entries
from dmlbench.site.render import Writer
from dmlbench.site.search import write_search
from dmlbench.site.standings import Standings
from dmlbench.system.atomic_write import atomic_directory

TITLE = "Deep metric learning results"
_TOP_LEVEL = frozenset(("boards", "entries", "methods", "published", "static", "entries.csv", "index.json", FEED))
_SCRIPTS = (("dmlbench.report", "tables.js"), ("dmlbench.report", "figures.js"), ("dmlbench.site", "site.js"))
_STYLES = (("dmlbench.report", "report.css"), ("dmlbench.site", "site.css"))


class Summary(NamedTuple):
    """What was written: entries, inconsistent ones, skipped files, number of files and their bytes, and the largest page."""

    n_entries: int
    n_inconsistent: int
    skipped: Sequence[SkippedFile]
    n_files: int
    n_bytes: int
    largest_page: int


def write_site(place: Path, output: Path, title: str = TITLE, url: str = "", config_dir: Path | None = None) -> Summary:
    """Write a site. The previous one in the same directory is replaced once the new one is complete.

    Args:
        place: Directory of entries.
        output: Directory to write.
        title: Title of the site.
        url: Address of the site with a slash at its end, for the feed; empty for relative links.
        config_dir: Directory of the user's own configuration files, whose `published/` is read too.

    Raises:
        UserError: The output is not a site, or lies among the entries.
        OSError: A file cannot be written.
    """
    _check_output(place, output)
    catalogue = make_catalogue(*read_site_entries(place))
    with atomic_directory(output) as folder:
        writer = Writer(folder, title)
        _write(writer, catalogue, title, url, config_dir)
        if output.exists():
            shutil.rmtree(output)
    pages = [size for path, size in writer.sizes.items() if path.endswith(".html")]
    inconsistent = sum(not entry.verdict.consistent for entry in catalogue.entries)
    sizes = writer.sizes
    return Summary(len(catalogue.entries), inconsistent, catalogue.skipped, len(sizes), sum(sizes.values()), max(pages))


def _write(writer: Writer, catalogue: Catalogue, title: str, url: str, config_dir: Path | None) -> None:
    writer.file("static/site.css", _joined(_STYLES))
    writer.file("static/site.js", _joined(_SCRIPTS))
    labels = {board.key.dataset: board.label for board in catalogue.boards}
    published = write_published(writer, labels, config_dir)
    links: dict[Standings, str] = {}
    for board in catalogue.boards:
        links |= write_board(writer, board, published.get(board.key.dataset, ""))
    write_entries(writer, catalogue, links)
    write_methods(writer, catalogue, links)
    write_overview(writer, catalogue, links, published)
    write_search(writer, catalogue, links, published)
    writer.file(FEED, feed(catalogue, title, url))
    writer.file("entries.csv", entries_csv(catalogue.entries))
    writer.file("index.json", index_json(catalogue))


def _joined(sources: Sequence[tuple[str, str]]) -> str:
    """Return files of packages in one text; the styles and the script of reports are those of the site too."""
    return "\n".join((files(package) / "static" / name).read_text(encoding="utf-8") for package, name in sources)


def _check_output(place: Path, output: Path) -> None:
    """Refuse to replace anything but a site."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise UserError(f"--output {output} is not a directory")
    inside, outside = output.resolve(), place.resolve()
    if inside.is_relative_to(outside) or outside.is_relative_to(inside):
        raise UserError(f"--output {output} and the entries in {place} lie in each other; name another directory")
    names = {one.name for one in output.iterdir()} if output.exists() else set()
    if not names:
        return
    unknown = sorted(name for name in names - _TOP_LEVEL if not name.endswith(".html"))
    if unknown or "index.json" not in names or not _is_site(output / "index.json"):
        found = f"it contains {unknown[0]}" if unknown else "it is no site of dmlbench"
        raise UserError(f"--output {output} would be replaced, but {found}; name a new directory")


def _is_site(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(100).startswith(f'{{"generator":"{GENERATOR}"'.encode())
