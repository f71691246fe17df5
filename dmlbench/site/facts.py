"""The columns of a row that are not metrics, as HTML lists by role."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from html import escape

from markupsafe import Markup

from dmlbench.results.columns import column
from dmlbench.results.row import Row
from dmlbench.site.render import clipped

MAX_VALUE = 600  # characters of a value
MAX_COLUMNS = 400  # per role
SHARED = "shared"
_TITLES = {
    "method": "Method",
    SHARED: "Equal in all rows of a table",
    "result": "Other results",
    "cost": "Costs",
    "provenance": "Versions, machine and files",
    "identity": "Identity",
}


@dataclass(frozen=True)
class Facts:
    """Columns of one role.

    Args:
        title: Their role in print.
        count: Their number.
        html: Their names and values as HTML.
    """

    title: str
    count: int
    html: Markup


def facts(row: Row, shared: bool) -> list[Facts]:
    """Return the columns of a row that are not metrics.

    Args:
        row: Result row.
        shared: Whether to include those that are equal in all rows of a table, which the page of the table has.
    """
    by_role = _by_role(tuple(row.columns))
    return [_facts(row, role, by_role[role]) for role in _TITLES if role in by_role and (shared or role != SHARED)]


def shared_facts(row: Row) -> Facts | None:
    """Return the columns that are equal in all rows of a table.

    Args:
        row: A row of the table.
    """
    names = _by_role(tuple(row.columns)).get(SHARED)
    return _facts(row, SHARED, names) if names else None


@lru_cache(256)
def _by_role(names: tuple[str, ...]) -> dict[str, list[str]]:
    """Group columns by role. The cache helps because thousands of rows have the same columns."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(column(name).role, []).append(name)
    return {role: listed[:MAX_COLUMNS] for role, listed in found.items()}


def _facts(row: Row, role: str, names: list[str]) -> Facts:
    """Return columns as HTML, without a template, which would take most of the time of a page."""
    lines = []
    for name in names:
        value = row.columns[name]
        text = "none" if value is None else str(value)
        lines.append(_line(name, text))
    return Facts(_TITLES[role], len(names), Markup("\n".join(lines)))


@lru_cache(20_000)  # most values, such as versions, are those of many entries
def _line(name: str, text: str) -> str:
    return f"<div><dt>{escape(clipped(name, 80))}</dt><dd>{escape(clipped(text, MAX_VALUE))}</dd></div>"
