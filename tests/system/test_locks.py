"""Locks between processes."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dmlbench.system.locks import is_held, locked
from dmlbench.system.regular_files import NotARegularFileError


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


def test_a_lock_file_that_is_a_link_is_refused_and_its_target_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("content")
    (tmp_path / "lock").symlink_to("victim")
    with pytest.raises(NotARegularFileError, match=r"/lock cannot be used: it is a link$"), locked(tmp_path / "lock"):
        pass
    assert not is_held(tmp_path / "lock")
    assert (tmp_path / "victim").read_text() == "content"


def test_a_link_to_a_missing_file_is_refused_and_the_file_is_not_created(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("missing")
    with pytest.raises(NotARegularFileError, match="it is a link"), locked(tmp_path / "lock"):
        pass
    assert not (tmp_path / "missing").exists()


def test_an_existing_lock_file_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("content")
    with locked(tmp_path / "lock") as acquired:
        assert acquired
    assert (tmp_path / "lock").read_text() == "content"


@pytest.mark.parametrize(("make", "reason"), [(os.mkfifo, "it is not a regular file"), (os.mkdir, "it is a directory")])
def test_a_special_lock_file_is_refused_without_waiting(make: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    make(tmp_path / "lock")
    with pytest.raises(NotARegularFileError, match=reason), locked(tmp_path / "lock"):
        pass
    assert not is_held(tmp_path / "lock")


def _hold_with_child(file: Path, send: multiprocessing.connection.Connection) -> None:
    with locked(file):
        child = multiprocessing.get_context("fork").Process(target=signal.pause)
        child.start()
        send.send(child.pid)
        signal.pause()


def test_a_lock_is_released_when_its_process_is_killed_while_processes_that_it_started_still_run(tmp_path: Path) -> None:
    receive, send = multiprocessing.Pipe(duplex=False)
    holder = multiprocessing.get_context("fork").Process(target=_hold_with_child, args=(tmp_path / "lock", send))
    holder.start()
    child = receive.recv()
    assert is_held(tmp_path / "lock")
    os.kill(holder.pid, signal.SIGKILL)
    os.waitpid(holder.pid, 0)  # `join` would wait for the child as well, which has inherited the pipe that it watches
    try:
        os.kill(child, 0)  # it still runs
        assert not is_held(tmp_path / "lock")
    finally:
        os.kill(child, signal.SIGKILL)
