"""`dmlbench publish --check`: which entries a pull request may add."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from honest_runs import honest_run
from mutations import sign

from dmlbench.cli import run
from dmlbench.publication.check import check_entries
from dmlbench.publication.claim import parse_claim


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the entries of two methods in base/, and with those of a third one too in new/; not to be changed."""
    root = tmp_path_factory.mktemp("published")
    for loss in ("triplet", "contrastive"):
        honest_run(root / "runs", loss)
    assert run(["publish", "--who", "Jane Doe", "--runs", str(root / "runs"), "--to", str(root / "base")]) == 0
    honest_run(root / "runs", "arcface", noise=0.6)
    assert run(["publish", "--who", "Jane Doe", "--runs", str(root / "runs"), "--to", str(root / "new")]) == 0
    return root


@pytest.fixture
def root(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which the test runs."""
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def entry_of(place: Path, loss: str) -> Path:
    (found,) = (place / "digits/quick-v1" / loss).iterdir()
    return found


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = run(["publish", "--check", *arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_entries_that_are_added_to_a_base_are_accepted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(capsys, "new", "--base", "base") == (0, "new has 3 entries, and no problems\n", "")
    assert check(capsys, "base", "--base", "base")[0] == 0


def in_new(change: Callable[[Path], object]) -> Callable[[], object]:
    return lambda: change(Path("new"))


def linked() -> None:
    shutil.rmtree("new")
    Path("new").symlink_to("base")


def emptied() -> None:
    for place in ("new", "base"):
        shutil.rmtree(place)
        Path(place).mkdir()


def changed_claim(place: Path) -> None:
    claim = entry_of(place, "triplet") / "claim.yaml"
    claim.write_text(claim.read_text().replace("Jane Doe", "John Doe"))


def linked_entry(place: Path) -> None:
    entry = entry_of(place, "triplet")
    shutil.rmtree(entry)
    entry.symlink_to(entry_of(Path("base").resolve(), "triplet"))


CHANGES = {
    "new is a link": linked,
    "new has no entries": emptied,
    "is deleted": in_new(lambda place: shutil.rmtree(place / "digits/quick-v1/triplet")),
    "claim.yaml is changed": in_new(changed_claim),
    "README.md is new and no file of an entry": in_new(lambda place: (place / "README.md").write_text("hello")),
    "submodule is new and no file of an entry": in_new(lambda place: (place / "submodule").mkdir()),
    "is refused: it is a link": in_new(linked_entry),
}


@pytest.mark.parametrize("problem", CHANGES)
def test_anything_else_than_new_entries_is_a_problem(problem: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    CHANGES[problem]()
    status, _, error = check(capsys, "new", "--base", "base")
    assert status == 1
    assert problem in error


def test_a_base_that_is_no_directory_or_has_no_meaning_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(capsys, "new", "--base", "nowhere")[0] == 2
    assert run(["publish", "--base", "base", "--who", "x"]) == 2
    assert "--base belongs to --check" in capsys.readouterr().err


@pytest.mark.parametrize("day", ["2026-02-30", "2026-13-01", "0000-01-01"])
def test_a_claim_with_a_day_that_no_calendar_has_is_refused(day: str, root: Path) -> None:
    text = (entry_of(root / "new", "triplet") / "claim.yaml").read_text()
    former = parse_claim(text).published
    with pytest.raises(ValueError, match=f"its published is '{day}', which is no day of the calendar"):
        parse_claim(text.replace(former, day))


@pytest.mark.parametrize(("days", "n_problems"), [(0, 0), (1, 0), (3, 1)])
def test_a_day_in_the_future_is_a_problem(days: int, n_problems: int, root: Path) -> None:
    entry = entry_of(root / "new", "triplet")
    day = (datetime.now(UTC).date() + timedelta(days=days)).isoformat()
    text = (entry / "claim.yaml").read_text()
    (entry / "claim.yaml").write_text(text.replace(parse_claim(text).published, day))
    sign(entry)
    problems = check_entries(root / "new").problems
    assert [f"its published is {day}, a day in the future" in one for one in problems] == [True] * n_problems


def test_a_version_that_is_true_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    honest_run(tmp_path / "runs", protocol_version=True)
    assert run(["publish", "--who", "x", "--runs", str(tmp_path / "runs"), "--to", str(tmp_path / "results")]) == 0
    status, _, error = check(capsys, str(tmp_path / "results"))
    assert status == 1
    assert "its protocol_version is 'True'; it needs a whole number" in error


def test_the_scores_of_another_method_are_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for loss in ("triplet", "arcface"):  # random embeddings that depend on the length of the name
        honest_run(tmp_path / "runs", loss)
    assert run(["publish", "--who", "x", "--runs", str(tmp_path / "runs"), "--to", str(tmp_path / "results")]) == 0
    status, out, error = check(capsys, str(tmp_path / "results"))
    assert (status, out.endswith("has 2 entries, and no problems\n")) == (0, True)
    assert error.startswith("dmlbench: warning: ")
    assert "has the scores of another method" in error
