"""Compare the files with names and groups of test classes with a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dmlbench.config.schema import CLOSED_SET_RULES
from dmlbench.results import run_files
from dmlbench.results.class_files import GROUPS_DIGEST, groups_digest
from dmlbench.results.row import Row
from dmlbench.system.regular_files import read_json
from dmlbench.verification.count_checks import DISJOINT_RULES
from dmlbench.verification.scores import ScoreSource
from dmlbench.verification.verdict import Finding

TEST_IS_BOTH = (*DISJOINT_RULES, *CLOSED_SET_RULES)


def class_findings(row: Row, scores: ScoreSource) -> Iterator[Finding]:
    """Yield what the files of the test classes contradict in a row. Rows of earlier versions may lack these files.

    Args:
        row: Row with its directory. The files of an evaluation are those of its run.
        scores: Scores of its queries.
    """
    for name in (run_files.CLASSES, run_files.CLASS_GROUPS):
        try:
            found = _read(row, name)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            yield Finding(name, f"{name} cannot be used: {reason}")
            continue
        if found is None:
            continue
        if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
            yield Finding(name, f"{name} is not an object of texts")
            continue
        n_classes = row.get("n_test_classes")
        too_few = _all_have_queries(row) and name == run_files.CLASSES and len(found) != n_classes
        if isinstance(n_classes, int) and (len(found) > n_classes or too_few):
            yield Finding(name, f"{name} has {len(found):,} classes, but n_test_classes is {n_classes}")
        if unnamed := {str(label) for label in set(scores.labels.tolist())} - found.keys():
            yield Finding(name, f"{name} has no class {min(unnamed)}, of which queries have scores")
        if name == run_files.CLASS_GROUPS and row.get(GROUPS_DIGEST) not in (None, groups_digest(found)):
            yield Finding(name, f"{name} is not what the run wrote ({GROUPS_DIGEST})")
        n_groups = row.get("n_test_groups")
        if name == run_files.CLASS_GROUPS and n_groups is not None and len(set(found.values())) != n_groups:
            yield Finding(name, f"{name} has {len(set(found.values())):,} groups, but n_test_groups is {n_groups}")


def _all_have_queries(row: Row) -> bool:
    """Whether every test image is a query and in the gallery, as these split rules make it, so each class has a name."""
    return row.get("split_rule") in TEST_IS_BOTH and row.get("n_query_images") == row.get("n_gallery_images")


def _read(row: Row, name: str) -> Any:
    """Return the contents of a file beside a row, or of the run that was evaluated again; None if there is none."""
    parent = row.folder.parent if row.folder is not None and row.get("parent") is not None else None
    for folder in (row.folder, parent):
        if folder is not None:
            try:
                return read_json(folder / name)
            except FileNotFoundError:
                continue
    return None
