"""Paths of pages inside the site. Names from entries become safe file names."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from dmlbench.results.row import Row

_SAFE = re.compile(r"[a-z0-9][a-z0-9_-]*")  # without dots, which pages with a number have
_DIGEST = 32  # hex digits of the digest of a name that is not safe, so that nobody can make two names with one file name
_LIKE_DIGEST = re.compile(rf".*-[0-9a-f]{{{_DIGEST}}}|[0-9a-f]{{{_DIGEST}}}")
_MAX_LENGTH = 80


class BoardKey(NamedTuple):
    """What the entries of a page have in common: data set, protocol, and version of the protocol."""

    dataset: str
    protocol: str
    version: int | None

    @property
    def folder(self) -> str:
        """The part of a path that identifies the page, such as `cub/reality_check-v1`; no other page has the same."""
        version = "unversioned" if self.version is None else f"v{self.version}"
        return f"{slug(self.dataset)}/{slug(self.protocol)}-{version}"

    @property
    def page(self) -> str:
        """Path of its first page."""
        return f"boards/{self.folder}.html"

    @property
    def csv(self) -> str:
        """Path of its tables as comma-separated values."""
        return f"boards/{self.folder}.csv"


def board_key(row: Row) -> BoardKey:
    """Return the page on which a row is compared with others.

    Args:
        row: Result row.
    """
    version = row.get("protocol_version")
    return BoardKey(str(row["dataset"]), str(row["protocol"]), version if type(version) is int else None)


def entry_page(row: Row) -> str:
    """Return the path of the page of an entry, which may be that of another entry too.

    Args:
        row: Result row.
    """
    return f"entries/{board_key(row).folder}/{slug(str(row['loss']))}/{slug(str(row['run_id']))}.html"


def method_page(loss: str) -> str:
    """Return the path of the page of a method.

    Args:
        loss: Name of the method.
    """
    return f"methods/{slug(loss)}.html"


def published_page(dataset: str) -> str:
    """Return the path of the page with the published numbers on a data set.

    Args:
        dataset: Name of the data set.
    """
    return f"published/{slug(dataset)}.html"


def numbered(page: str, number: int) -> str:
    """Return the path of one of several pages.

    Args:
        page: Path of the first page.
        number: Number of the page, from 1.

    >>> numbered("methods.html", 1), numbered("methods.html", 2)
    ('methods.html', 'methods.page2.html')
    """
    return page if number == 1 else f"{page.removesuffix('.html')}.page{number}.html"


def root_of(page: str) -> str:
    """Return the relative path from a page to the directory of the site.

    Args:
        page: Path of the page.

    >>> root_of("index.html"), root_of("boards/cub/quick-v1.html")
    ('', '../../')
    """
    return "../" * page.count("/")


def slug(name: str) -> str:
    """Return a file name for a name: the name itself if it is safe in paths, addresses and on every file system.

    Args:
        name: Any text. Different texts have different file names, also without regard to case.

    >>> slug("proxy_nca"), slug("../A b")
    ('proxy_nca', 'a-b-e3f8e011e476be6bf1cffa2a516d3aa7')
    """
    if _SAFE.fullmatch(name) and len(name) <= _MAX_LENGTH and not _LIKE_DIGEST.fullmatch(name):
        return name
    cleaned = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[: _MAX_LENGTH // 2]
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_DIGEST]
    return f"{cleaned}-{digest}" if cleaned else digest
