"""Warnings about runs.

Proxies that did not move, an unused memory, a nearly collapsed embedding, failed tuning trials, old protocol versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dmlbench.config.schema import CLOSED_SET_RULES
from dmlbench.results.row import Row

MIN_RANK = 2.0  # below this effective rank, almost all variance of the embeddings is along one direction


def warnings_of(rows: Sequence[Row]) -> list[str]:
    """Return warnings about the runs of one method.

    Args:
        rows: Finished runs, one per seed.

    Returns:
        Clauses that name the seeds concerned.
    """
    return [
        *_dead_proxies(rows),
        *_unused_memory(rows),
        *_low_rank(rows),
        *_untrained_attributes(rows),
        *_failed_trials(rows),
    ]


def _dead_proxies(rows: Sequence[Row]) -> list[str]:
    dead = _seeds_by_share(rows, "n_dead_proxies", "n_proxies", "proxies")
    return [f"{_with_seeds(dead)} did not move during training"] if dead else []


def _unused_memory(rows: Sequence[Row]) -> list[str]:
    unused = "the loss never used its memory of earlier batches, because training ended before loss.make.start_step"
    seeds = [row.seed for row in rows if row.get("n_memory_steps") == 0]
    return [_with_seeds({unused: seeds})] if seeds else []


def _low_rank(rows: Sequence[Row]) -> list[str]:
    low: dict[str, list[int]] = {}
    for row in rows:
        rank = row.number("effective_rank")
        if rank is not None and rank < MIN_RANK:
            low.setdefault(f"effective rank {rank:.1f}", []).append(row.seed)
    return [f"the embedding is nearly one-dimensional: {_with_seeds(low)}"] if low else []


def _untrained_attributes(rows: Sequence[Row]) -> list[str]:
    untrained = _seeds_by_share(rows, "n_attributes_without_training", "n_evaluated_attributes", "evaluated attributes")
    return [f"{share} occur in no training image" for share in untrained]  # a property of the split, which all seeds share


def _failed_trials(rows: Sequence[Row]) -> list[str]:
    failed = _seeds_by_share(rows, "n_tuning_failed", "n_tuning_trials", "tuning trials")
    if [len(seeds) for seeds in failed.values()] == [len(rows)]:  # the usual case, because seeds share a search
        return [f"{share} failed" for share in failed]
    return [f"{_with_seeds(failed)} failed"] if failed else []


def _seeds_by_share(rows: Sequence[Row], part: str, total: str, noun: str) -> dict[str, list[int]]:
    """Return, for example, `2 of 9 proxies` with the seeds for which it is true; empty if there are none."""
    found: dict[str, list[int]] = {}
    for row in rows:
        n_part, n = row.get(part), row.get(total)
        if isinstance(n, int) and isinstance(n_part, int) and n_part > 0:
            found.setdefault(f"{n_part} of {n} {noun}", []).append(row.seed)
    return found


def _with_seeds(found: Mapping[str, Sequence[int]]) -> str:
    """Format `a (seed 1), b (seeds 0, 2)`."""
    return ", ".join(f"{what} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})" for what, seeds in found.items())


def split_warnings(rows: Sequence[Row]) -> list[str]:
    """Return a clause each for test classes, groups of test classes, and test images that are also for training.

    Args:
        rows: Rows of one table, which have the same split.
    """
    found = []
    for name, total, meaning in (
        ("n_shared_classes", "n_test_classes", "{} of {} test classes are training classes too: they are not unseen"),
        ("n_shared_groups", "n_test_groups", "{} of {} groups of the test classes also occur in training"),
        ("n_duplicates_across_split", "", "{} test images equal a training image, or nearly"),
    ):
        counts = [(int(count), row) for row in rows if isinstance(count := row.get(name), int) and count > 0]
        if counts and not (total and counts[0][1].get("split_rule") in CLOSED_SET_RULES):
            count, row = max(counts, key=lambda one: one[0])
            found.append(meaning.format(f"{count:,}", row.get(total)))
    return found


def newest_versions(rows: Sequence[Row]) -> dict[str, int]:
    """Return the newest version of each protocol among some rows.

    Args:
        rows: Result rows of any tables.
    """
    found: dict[str, int] = {}
    for row in rows:
        version = row.get("protocol_version")
        if isinstance(version, int):
            found[str(row["protocol"])] = max(version, found.get(str(row["protocol"]), version))
    return found


def old_version_warning(rows: Sequence[Row], newest: Mapping[str, int]) -> list[str]:
    """Return a clause for each protocol that has a newer version in other rows.

    Args:
        rows: Rows of one table.
        newest: What `newest_versions` returned for all rows that were read.
    """
    versions = {(str(row["protocol"]), row.get("protocol_version")) for row in rows}
    return [
        f"protocol {name} has version {version}, but other results have version {newest[name]}"
        for name, version in sorted((name, version) for name, version in versions if isinstance(version, int))
        if version < newest.get(name, version)
    ]
