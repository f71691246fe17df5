"""Searches for unreachable objects: rare while a command starts, as usual while a model is trained."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmlbench.system import garbage
from dmlbench.system.garbage import search_as_usual, searching_rarely

USUAL = (700, 10, 10)


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    gc.set_threshold(*USUAL)
    monkeypatch.setattr(garbage, "_usual", USUAL)
    yield USUAL
    gc.set_threshold(*before)
    gc.unfreeze()


def test_searches_are_rare_until_training_begins(restored: tuple[int, int, int]):
    with searching_rarely():
        assert gc.get_threshold()[0] >= 100 * restored[0]
        search_as_usual()
        assert gc.get_threshold() == restored
    assert gc.get_threshold() == restored


def test_objects_that_exist_when_training_begins_are_not_examined_again(restored: tuple[int, int, int]):
    with searching_rarely():
        search_as_usual()
        frozen = gc.get_freeze_count()
        assert frozen > 10_000
        later = [[] for _ in range(1_000)]
        search_as_usual()  # a second run in the same process
        assert gc.get_freeze_count() < frozen + len(later) / 2


def test_all_objects_are_searched_at_the_end_of_a_command_also_after_an_error(restored: tuple[int, int, int]):
    def command() -> None:
        with searching_rarely():
            search_as_usual()
            raise SystemExit

    with pytest.raises(SystemExit):
        command()
    assert gc.get_freeze_count() == 0


def test_thresholds_that_the_user_of_the_library_chose_are_kept(restored: tuple[int, int, int]):
    gc.set_threshold(5, 6, 7)
    search_as_usual()
    assert gc.get_threshold() == (5, 6, 7)


@pytest.mark.slow
def test_a_command_that_trains_prints_no_error_of_a_library_when_it_ends(tmp_path: Path):
    command = [sys.executable, "-m", "dmlbench", "train", "loss=untrained", "dataset=synthetic", "protocol.epochs=1"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stderr == ""
