"""Write a site about published entries into a directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
LIST = "files.txt"  # all files of the site, so that nothing else is removed with it
_FIRST_LINE = f"{GENERATOR}: files"
KEPT = (".nojekyll", "CNAME")  # files of a host, which a new site keeps
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
    with _replaced(Path(os.path.abspath(output))) as folder:
        writer = Writer(folder, title)
        _write(writer, catalogue, title, url, config_dir)
        for name in KEPT:
            if (output / name).is_file():
                shutil.copyfile(output / name, folder / name)
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
    writer.file(LIST, "".join(f"{line}\n" for line in (_FIRST_LINE, LIST, *sorted(writer.sizes))))


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
    _clean_up(Path(os.path.abspath(output)))
    if not output.exists() or not any(output.iterdir()):
        return
    if (known := _listed(output)) is None:
        raise UserError(f"--output {output} would be replaced, but it is no site of dmlbench; name a new directory")
    if unknown := sorted(path for path in _files(output) if path not in known and path not in KEPT):
        raise UserError(f"--output {output} would be replaced, but it contains {unknown[0]}; name a new directory")


def _listed(output: Path) -> set[str] | None:
    """Return the files of the site in a directory; None if it has none."""
    try:
        first, *lines = (output / LIST).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return set(lines) if first == _FIRST_LINE else None


def _files(output: Path) -> Iterator[str]:
    """Yield the paths of the files and links in a directory."""
    for folder, folders, names in os.walk(output):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        yield from (Path(folder, name).relative_to(output).as_posix() for name in (*names, *links))


def _former(output: Path) -> Path:
    return output.with_name(f".{output.name}.former")


@contextmanager
def _replaced(output: Path) -> Iterator[Path]:
    """Yield a temporary directory that replaces another one, which is renamed before, and removed after it is replaced."""
    former = _former(output)
    try:
        with atomic_directory(output) as folder:
            yield folder
            if output.exists():
                output.rename(former)
    finally:
        _clean_up(output)


def _clean_up(output: Path) -> None:
    """Rename or remove a former site, which may be that of an earlier command that was killed."""
    former = _former(output)
    if former.exists() and not output.exists():
        former.rename(output)
    elif former.exists():
        shutil.rmtree(former)
