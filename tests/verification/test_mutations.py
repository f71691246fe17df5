"""Single changes of honest run directories are noticed or harmless, and nothing in them is executed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from row_mutations import (
    PWNED,
    ROW,
    Mutation,
    column_mutations,
    file_mutations,
    is_harmless,
    is_seen_by_rescoring,
)

from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.verification import Tier, verify_run

FILES = (ROW, "per_query.safetensors", "classes.json", "class_groups.json")


def outcome(mutation: Mutation, folder: Path, original: Path) -> str:
    """Copy a run, change it and verify it; return how the change ended."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in FILES:
        if (original / name).exists():
            shutil.copy(original / name, folder / name)
    try:
        mutation.apply(folder)
    except (KeyError, FileNotFoundError):
        return "not applicable"
    try:
        row = read_row(folder / ROW)
    except UserError:
        return "unreadable"
    verdict = verify_run(row)
    if not verdict.consistent or verdict.tier is Tier.CLAIMED:
        return "caught"
    if all((folder / name).read_bytes() == (original / name).read_bytes() for name in FILES if (original / name).exists()):
        return "not applicable"
    before = Row(json.loads((original / ROW).read_text())).columns
    if mutation.column and is_harmless(mutation, dict(before), dict(row.columns)):
        return "harmless"
    return "seen by rescoring" if is_seen_by_rescoring(mutation.column) else "ESCAPED"


def outcomes(mutations: list[Mutation], original: Path, folder: Path) -> Counter[str]:
    """Return how often changes ended in which way, with the names of those that escaped."""
    found = Counter[str]()
    for mutation in mutations:
        how = outcome(mutation, folder, original)
        found[f"{how}: {mutation.name}" if how == "ESCAPED" else how] += 1
    return found


def test_every_changed_file_is_noticed_and_nothing_is_executed(runs: Path, tmp_path: Path) -> None:
    one, other = (file.parent.resolve() for file in find_rows(runs / "photos" / "arcface"))
    found = outcomes(list(file_mutations(other)), one, tmp_path / "changed")
    assert set(found) <= {"caught", "unreadable", "not applicable"}
    assert found["caught"] + found["unreadable"] >= 50
    assert not Path(PWNED).exists()


def test_changed_columns_are_noticed_or_harmless(runs: Path, tmp_path: Path) -> None:
    """Every seventh change of one run; the slow test makes all of them."""
    [original, *_] = (file.parent for file in find_rows(runs / "photos" / "arcface"))
    mutations = list(column_mutations(json.loads((original / ROW).read_text())))[::7]
    found = outcomes(mutations, original, tmp_path / "changed")
    assert not [how for how in found if how.startswith("ESCAPED")]
    assert found["caught"] >= 90
    assert len(mutations) >= 150
    assert not Path(PWNED).exists()


@pytest.mark.slow
def test_all_changes_of_all_kinds_of_runs_are_noticed_or_harmless(runs: Path, tmp_path: Path) -> None:
    folders = [file.parent.resolve() for file in find_rows(runs)]
    n_changes, escaped = 0, []
    for original in folders:
        other = next(one for one in folders if one != original)
        mutations = [*column_mutations(json.loads((original / ROW).read_text())), *file_mutations(other)]
        found = outcomes(mutations, original, tmp_path / "changed")
        escaped += [f"{original.name}: {how}" for how in found if how.startswith("ESCAPED")]
        n_changes += len(mutations)
    assert not escaped
    assert n_changes > 5000
    assert not Path(PWNED).exists()
