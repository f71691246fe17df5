"""Searches for unreachable objects: rare while a command starts, as usual while a model is trained, none at the end."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dmlbench.system.garbage import search_as_usual, search_rarely


@pytest.fixture
def restored() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    yield before
    gc.set_threshold(*before)
    gc.unfreeze()


def test_searches_are_rare_until_training_begins(restored: tuple[int, int, int]):
    search_rarely()
    assert gc.get_threshold()[0] >= 100 * restored[0]
    search_as_usual()
    assert gc.get_threshold() == restored


def test_objects_that_exist_when_training_begins_are_not_examined_again(restored: tuple[int, int, int]):
    search_rarely()
    search_as_usual()
    frozen = gc.get_freeze_count()
    assert frozen > 10_000
    search_as_usual()  # a second run in the same process
    assert gc.get_freeze_count() == frozen


def test_thresholds_that_the_user_of_the_library_chose_are_kept(restored: tuple[int, int, int]):
    gc.set_threshold(5, 6, 7)
    search_as_usual()
    assert gc.get_threshold() == (5, 6, 7)


def test_a_command_leaves_no_object_for_the_last_search_of_the_interpreter():
    code = (
        "import gc, sys; sys.argv = ['dmlbench', 'list']\n"
        "from dmlbench.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "print('left', len(gc.get_objects()) < 1000 < gc.get_freeze_count())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "left True"
