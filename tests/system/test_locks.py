"""Locks between processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

from dmlbench.system.locks import is_held, locked


def test_a_held_lock_is_not_acquired_without_waiting_and_is_free_after_the_block(tmp_path: Path) -> None:
    file = tmp_path / "missing" / "lock"
    assert not is_held(file)
    with locked(file) as first:
        assert first
        assert is_held(file)
        with locked(file) as second:
            assert not second
    assert not is_held(file)
    with locked(file) as third:
        assert third


def test_testing_a_lock_neither_creates_nor_takes_it(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "lock").touch()
    assert not is_held(tmp_path / "lock")
    with locked(tmp_path / "lock") as acquired:
        assert acquired


def _hold_until_killed(file: Path, held: multiprocessing.synchronize.Event) -> None:
    with locked(file):
        held.set()
        signal.pause()


def test_a_lock_is_waited_for_and_is_released_when_its_process_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    holder = context.Process(target=_hold_until_killed, args=(tmp_path / "lock", held))
    holder.start()
    assert held.wait(60)
    calls = []

    def waiting() -> None:
        calls.append("waiting")
        os.kill(holder.pid, signal.SIGKILL)

    with locked(tmp_path / "lock", waiting) as acquired:
        assert acquired
    assert calls == ["waiting"]
    holder.join(60)
