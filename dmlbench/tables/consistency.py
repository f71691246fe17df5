"""Which result rows contradict themselves. Tables mark them and never print them in bold; `dmlbench verify` says more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dmlbench.results.formatting import format_seeds
from dmlbench.results.row import Row
from dmlbench.verification.field_checks import metric_findings
from dmlbench.verification.identity_checks import identity_findings
from dmlbench.verification.row_checks import findings_beside

MARK = "inconsistent"


class Consistency:
    """The rows of a table that contradict themselves.

    Identity and printed metrics of every row are checked, which takes 0.02 ms per row. The scores of
    queries are compared if a significance test has found that they do not match.

    Args:
        rows: Result rows.
        metrics: Metrics to check, such as the printed ones; None for all.
        complete: Whether the rows have all columns of their files. Otherwise, their digests cannot be recomputed.
    """

    def __init__(self, rows: Iterable[Row], metrics: Sequence[str] | None = None, complete: bool = True) -> None:
        self._messages: dict[int, str] = {}
        self._rows = tuple(rows)  # kept, because a message belongs to the identity of an object
        for row in self._rows:
            names = tuple(row.metrics if metrics is None else metrics)
            for finding in (*(identity_findings(row) if complete else ()), *metric_findings(row, names)):
                self._messages.setdefault(id(row), finding.message)

    def is_consistent(self, rows: Iterable[Row]) -> bool:
        """Return whether no row contradicts itself.

        Args:
            rows: Some of the rows.
        """
        return not any(id(row) in self._messages for row in rows)

    def check_scores(self, rows: Iterable[Row]) -> None:
        """Compare rows with the scores of their queries.

        Args:
            rows: Some of the rows.
        """
        for row in rows:
            for finding in findings_beside(row):
                self._messages.setdefault(id(row), finding.message)

    def note(self, rows: Iterable[Row]) -> str:
        """Return which rows of a method contradict themselves, and the first contradiction of each, a clause.

        Args:
            rows: Rows of one method.

        Returns:
            The clause; empty if there are none.
        """
        seeds: dict[str, list[int]] = {}
        for row in rows:
            if id(row) in self._messages:
                seeds.setdefault(self._messages[id(row)], []).append(row.seed)
        found = "; ".join(f"{format_seeds(sorted(of))}: {message}" for message, of in seeds.items())
        return f"{MARK} (see dmlbench verify): {found}" if found else ""


def without_contradiction(row: Row) -> Row:
    """Return a row, or if it contradicts itself, a failed one without results.

    Args:
        row: Result row.
    """
    note = Consistency([row]).note([row])
    return Row({**row.columns, "status": "failed", "reason": note}, row.folder) if note else row


def reasons(rows: Iterable[Row]) -> str:
    """Return why results are missing because rows contradict themselves, to append to a note; empty if none does.

    Args:
        rows: Rows, some of which `without_contradiction` may have replaced.
    """
    found = dict.fromkeys(reason for row in rows if (reason := str(row.get("reason"))).startswith(MARK))
    return f" ({'; '.join(found)})" if found else ""
