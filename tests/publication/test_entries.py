"""Entries that anybody may have written."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from honest_runs import honest_run
from mutations import GROUPS_OF_MUTATIONS, sign

from dmlbench.cli import run
from dmlbench.errors import UserError
from dmlbench.publication import freshness
from dmlbench.publication.entries import Entry, EntryList, read_entries
from dmlbench.results import run_files
from dmlbench.results.compact_scores import read_compact_scores
from dmlbench.verification import Tier

MUTATIONS = {one.name: one.apply for group in GROUPS_OF_MUTATIONS.values() for one in group}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the entries of two methods in results/; not to be changed."""
    root = tmp_path_factory.mktemp("published")
    honest_run(root / "runs", "triplet")
    honest_run(root / "runs", "contrastive")
    assert run(["publish", "--who", "Jane Doe", "--runs", str(root / "runs"), "--to", str(root / "results")]) == 0
    shutil.rmtree(root / "runs")
    return root


@pytest.fixture
def root(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, in which the test runs."""
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "results"
    assert not list(tmp_path.rglob("executed"))


def entry_of(root: Path, loss: str) -> Path:
    (found,) = (root / "digits/quick-v1" / loss).iterdir()
    return found


def believed(found: EntryList) -> list[Entry]:
    """The entries that pages would compare with others."""
    return [entry for entry in found.entries if entry.verdict.consistent and entry.tier is not Tier.CLAIMED]


def contents(entry: Entry) -> tuple[object, ...]:
    """All numbers and names of an entry."""
    scores = read_compact_scores(entry.folder / run_files.COMPACT_SCORES)
    values = {metric: scores.values(metric).tobytes() for metric in scores.metrics}
    return dict(entry.row.columns), scores.ids.tobytes(), scores.labels.tobytes(), values


def test_there_are_enough_mutations_and_no_two_are_called_the_same() -> None:
    assert len(MUTATIONS) == sum(map(len, GROUPS_OF_MUTATIONS.values())) >= 300


@pytest.mark.parametrize("group", GROUPS_OF_MUTATIONS)
def test_a_changed_entry_is_refused_or_has_the_same_numbers(group: str, root: Path) -> None:
    honest = {entry.row["run_id"]: contents(entry) for entry in read_entries(root).entries}
    modules, wrong = set(sys.modules), []
    for number, mutation in enumerate(GROUPS_OF_MUTATIONS[group]):
        changed = root.parent / str(number) / "results"
        shutil.copytree(root, changed)
        other = entry_of(changed, "contrastive")
        mutation.apply(entry_of(changed, "triplet"), other)
        found = read_entries(changed)
        if any(contents(entry) != honest[entry.row["run_id"]] for entry in believed(found)):
            wrong.append(mutation.name)
        if other.exists() and other not in {entry.folder for entry in (*found.entries, *(one.entry for one in found.apart))}:
            wrong.append(f"{mutation.name}: an honest entry is refused")
        shutil.rmtree(changed.parent)
    assert not wrong
    assert not {name for name in set(sys.modules) - modules if "conftest" in name or "customize" in name}


def test_every_reason_names_a_file_or_a_column(root: Path) -> None:
    (entry_of(root, "triplet") / "claim.yaml").write_text("{")
    (skipped,) = read_entries(root).skipped
    assert skipped == (str(entry_of(root, "triplet")), "claim.yaml: it is not YAML (line 2)")


def test_entries_of_a_former_version_of_their_protocol_are_apart(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not read_entries(root).apart
    monkeypatch.setattr(freshness, "current_version", {"quick": 2}.get)
    found = read_entries(root)
    assert found.entries == ()
    assert {(one.reason, one.is_duplicate) for one in found.apart} == {
        ("its protocol quick has version 1, and the current version is 2", False)
    }
    assert run(["publish", "--check", str(root)]) == 0


def test_a_protocol_of_the_user_has_no_current_version(tmp_path: Path) -> None:
    honest_run(tmp_path / "runs", protocol="mine", protocol_version=7)
    assert run(["publish", "--who", "x", "--runs", str(tmp_path / "runs"), "--to", str(tmp_path / "results")]) == 0
    (entry,) = read_entries(tmp_path / "results").entries
    assert entry.folder.parent == tmp_path / "results/digits/mine-v7/triplet"


def test_two_entries_with_one_run_id_are_apart(root: Path) -> None:
    shutil.copytree(root / "digits", root / "more/digits")
    found = read_entries(root)
    assert found.entries == ()
    assert len(found.apart) == 4
    assert all(one.is_duplicate and "its run id is also that of" in one.reason for one in found.apart)
    assert run(["publish", "--check", str(root)]) == 1


def test_the_scores_of_one_seed_published_as_those_of_another_are_apart(root: Path) -> None:
    MUTATIONS["the same scores as another seed"](entry_of(root, "triplet"), root)
    found = read_entries(root)
    assert [entry.row["loss"] for entry in found.entries] == ["contrastive"]
    assert all("its scores are those of another seed" in one.reason for one in found.apart)


def test_two_data_sets_with_one_name_and_other_splits_are_in_two_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("0" * 16, "1" * 16):
        honest_run(tmp_path / "runs", split_digest=split)
    assert run(["publish", "--who", "x", "--runs", str(tmp_path / "runs"), "--to", str(tmp_path / "results")]) == 0
    found = read_entries(tmp_path / "results")
    assert len({entry.row["fingerprint"] for entry in found.entries}) == 2
    assert not found.apart
    capsys.readouterr()
    assert run(["table", str(tmp_path / "results")]) == 0
    assert "2 tables: the runs cannot be in one table" in capsys.readouterr().out


def test_an_entry_without_scores_is_only_claimed(root: Path) -> None:
    (entry_of(root, "triplet") / run_files.COMPACT_SCORES).unlink()
    sign(entry_of(root, "triplet"))
    found = read_entries(root)
    (entry,) = (entry for entry in found.entries if entry.row["loss"] == "triplet")
    assert entry.tier is Tier.CLAIMED
    assert entry.query_scores("map_at_r") is None


def test_a_tier_above_consistent_is_what_the_publisher_states(root: Path) -> None:
    claim = entry_of(root, "triplet") / "claim.yaml"
    claim.write_text(claim.read_text().replace("tier: consistent", "tier: rescored"))
    (entry,) = (entry for entry in read_entries(root).entries if entry.row["loss"] == "triplet")
    assert (entry.tier, entry.verdict.tier) == (Tier.RESCORED, Tier.CONSISTENT)


def test_a_single_entry_and_a_part_of_the_tree_can_be_read(root: Path) -> None:
    assert len(read_entries(entry_of(root, "triplet")).entries) == 1
    assert len(read_entries(root / "digits").entries) == 2


def test_directories_that_lie_too_deep_are_not_searched(root: Path) -> None:
    deep = root / "/".join("abcdefghij")
    deep.mkdir(parents=True)
    assert [one.reason for one in read_entries(root).skipped] == ["entries do not lie that deep"]


def test_a_place_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a directory of entries; `dmlbench publish RUNS --to"):
        read_entries(tmp_path / "nowhere")
