"""Write pages from templates, and divide long ones, so that no page is larger than 1 MB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from dmlbench import __version__
from dmlbench.site.paths import numbered, root_of
from dmlbench.system.terminal import printable_lines

PAGE_BYTES = 1_000_000  # no page is larger
_BODY_BYTES = 600_000  # of the parts of one page; a larger part has a page of its own
ROWS_PER_PART = 100  # of a table that is divided
T = TypeVar("T")
MAX_TEXT = 300  # characters of a text from an entry in a list


class PageLink(NamedTuple):
    """A link to one of several pages: its number, its path, and whether it is the page itself."""

    number: int
    page: str
    current: bool


class Writer:
    """Writes the files of a site.

    Args:
        folder: Empty directory.
        title: Title of the site.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self._folder = folder
        self._title = escape(title)
        self._folders: set[Path] = set()
        self.sizes: dict[str, int] = {}

    def file(self, path: str, text: str) -> None:
        """Write a file.

        Args:
            path: Path inside the site; every file is written once.
            text: Content.

        Raises:
            ValueError: The file was written before.
        """
        if path in self.sizes:
            raise ValueError(f"{path} is written twice")
        file = self._folder / path
        if file.parent not in self._folders:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(file.parent)
        content = text.encode()
        with open(file, "xb", buffering=0) as opened:  # pathlib and a buffer would take a third of the time of a small file
            opened.write(content)
        self.sizes[path] = len(content)

    def page(self, path: str, template: str, **context: object) -> None:
        """Write a page.

        Args:
            path: Path inside the site.
            template: Name of the template.
            context: Values of the template.
        """
        common = {"root": Markup(root_of(path)), "site_title": self._title, "version": Markup(__version__)}  # nothing to escape
        self.file(path, printable_lines(_template(template).render(**common, **context)))

    def pages(self, path: str, template: str, parts: Sequence[Markup], **context: object) -> None:
        """Write parts in their order to as few pages as hold them; all have the same context.

        Args:
            path: Path of the first page.
            template: Name of the template, which has `parts` and `links` to all pages, as `PageLink`.
            parts: Parts; there is a page also without any.
            context: Further values of the template.
        """
        groups = packed(parts)
        for i, group in enumerate(groups, 1):
            links = [PageLink(n, numbered(path, n), n == i) for n in range(1, len(groups) + 1)] if len(groups) > 1 else []
            self.page(numbered(path, i), template, parts=group, links=links, first=i == 1, **context)


def pages_of(path: str, parts: Sequence[Markup]) -> list[str]:
    """Return the path of the page of each part.

    Args:
        path: Path of the first page.
        parts: Parts, as for `Writer.pages`.
    """
    return [numbered(path, i) for i, group in enumerate(packed(parts), 1) for _ in group]


def packed(parts: Iterable[Markup], limit: int = _BODY_BYTES) -> list[list[Markup]]:
    """Divide parts into groups of limited size, in their order.

    Args:
        parts: Texts.
        limit: Bytes of a group; a larger part is a group of its own.

    Returns:
        At least one group.
    """
    groups: list[list[Markup]] = [[]]
    size = 0
    for part in parts:
        length = len(part.encode())
        if groups[-1] and size + length > limit:
            groups.append([])
            size = 0
        groups[-1].append(part)
        size += length
    return groups


def split(items: Sequence[T], count: int = ROWS_PER_PART) -> list[Sequence[T]]:
    """Divide a list into parts, each of which becomes a part of a page.

    Args:
        items: Any items.
        count: Items of a part.
    """
    return [items[i : i + count] for i in range(0, len(items), count)]


def fragment(template: str, page: str, **context: object) -> Markup:
    """Return a part of a page.

    Args:
        template: Name of the template.
        page: Path of the page, from which links are relative.
        context: Values of the template.
    """
    return Markup(_template(template).render(root=Markup(root_of(page)), **context))


def clipped(text: object, length: int = MAX_TEXT) -> str:
    """Return text that is cut after some characters.

    Args:
        text: Text, or any object.
        length: Maximum number of characters.

    >>> clipped("abcdef", 4)
    'abc…'
    """
    found = str(text)
    return found if len(found) <= length else f"{found[: length - 1]}…"


@cache
def _template(name: str) -> Template:
    return environment().get_template(name)


@cache
def environment() -> Environment:
    """Return the environment of the templates: those of the site, and those of reports below `report/`."""
    loader = ChoiceLoader([PackageLoader("dmlbench.site"), PrefixLoader({"report": PackageLoader("dmlbench.report")})])
    found = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
    found.filters["clipped"] = clipped
    return found
