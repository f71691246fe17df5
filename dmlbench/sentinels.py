"""Floor 3: what a reader of some rows should be warned of.

Proxies that never moved, an embedding of one line, trials of a tuning that failed, rows of an earlier version.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from dmlbench.configs import conf_dir
from dmlbench.rows import SCHEMA_VERSION, Row

LEAST_RANK = 2.0  # an effective rank below it: nearly all that embeddings differ in lies on one line


def sentinels(rows: Sequence[Row]) -> list[str]:
    """What is odd about the runs of one method.

    Args:
        rows: one a seed, that ended with numbers.

    Returns:
        A clause each, with its seeds.
    """
    return [*_dead(rows), *_thin(rows), *_tuning_failed(rows)]


def _dead(rows: Sequence[Row]) -> list[str]:
    dead = _seeds_of_shares(rows, "n_dead_proxies", "n_proxies", "proxies")
    return [f"{_listed(dead)} never moved"] if dead else []


def _thin(rows: Sequence[Row]) -> list[str]:
    thin: dict[str, list[int]] = {}
    for row in rows:
        rank = row.number("effective_rank")
        if rank is not None and rank < LEAST_RANK:
            thin.setdefault(f"effective rank {rank:.1f}", []).append(row["seed"])  # type: ignore[arg-type]  # rows.REQUIRED
    return [f"the embedding is nearly one line: {_listed(thin)}"] if thin else []


def _tuning_failed(rows: Sequence[Row]) -> list[str]:
    failed = _seeds_of_shares(rows, "n_tuning_failed", "n_tuning_trials", "trials")
    if [len(seeds) for seeds in failed.values()] == [len(rows)]:  # as mostly, for seeds share a search
        return [f"{what} of its tuning failed" for what in failed]
    return [f"{_listed(failed)} of its tuning failed"] if failed else []


def _seeds_of_shares(rows: Sequence[Row], part: str, whole: str, what: str) -> dict[str, list[int]]:
    """`2 of 9 proxies` to the seeds of which it holds; where none is concerned, nothing."""
    found: dict[str, list[int]] = {}
    for row in rows:
        n_part, n = row.get(part), row.get(whole)
        if isinstance(n, int) and isinstance(n_part, int) and n_part > 0:
            found.setdefault(f"{n_part} of {n} {what}", []).append(row["seed"])  # type: ignore[arg-type]
    return found


def _listed(found: dict[str, list[int]]) -> str:
    """`a (seed 1), b (seeds 0, 2)`."""
    return ", ".join(f"{what} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})" for what, seeds in found.items())


def outdated(rows: Sequence[Row]) -> list[str]:
    """Say which rows were made under an earlier version of their protocol, or of the schema, than today's.

    Returns:
        A clause a protocol and version; none for protocols that are not ours.
    """
    notes = []
    for name, version in sorted({(str(row["protocol"]), _whole(row.get("protocol_version"))) for row in rows}):
        today = protocol_version(name)
        if 0 <= version < today:
            notes.append(f"made under {name} version {version}; today's is version {today}: run the sweep again")
    for schema in sorted({_whole(row["schema_version"]) for row in rows}):
        if schema < SCHEMA_VERSION:
            notes.append(f"written under schema {schema} of rows; today's is {SCHEMA_VERSION}: run the sweep again")
    return notes


def _whole(value: object) -> int:
    return value if isinstance(value, int) else -1


@cache
def protocol_version(name: str) -> int:
    """The version of one of our protocols, as its file says today; -1 for any other name."""
    import yaml

    file = conf_dir() / "protocol" / f"{name}.yaml"
    if file.parent != conf_dir() / "protocol" or not file.is_file():  # a foreign row's name may hold a path
        return -1
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    return _whole(found.get("version")) if isinstance(found, dict) else -1
