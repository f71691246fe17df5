"""The event log through which jobs in other processes report."""

from __future__ import annotations

import socket
from pathlib import Path

from dmlbench.runs.job_events import Event, EventLog


def test_every_event_is_read_once_in_the_order_of_time(tmp_path: Path) -> None:
    writer, reader = EventLog(tmp_path / "log"), EventLog(tmp_path / "log")
    assert list(reader.poll()) == []
    for k in range(12):
        writer.append(job=f"{k}")
    assert [event["job"] for event in reader.poll()] == [f"{k}" for k in range(12)]
    writer.append(job="last")
    assert [event["job"] for event in reader.poll()] == ["last"]


def test_an_event_just_before_the_end_is_still_handled(tmp_path: Path) -> None:
    log, handled = EventLog(tmp_path / "log"), list[Event]()
    with log.following(handled.append):
        log.append(job="a", status="done")
    assert [event["job"] for event in handled] == ["a"]


def test_a_log_exists_while_its_command_runs(tmp_path: Path) -> None:
    with EventLog.opened(tmp_path) as log:
        log.append(job="a")
        with EventLog.opened(tmp_path) as other:  # of another sweep, which removes no log in use
            assert log.folder.exists()
            assert other.folder != log.folder
    assert not list(tmp_path.iterdir())


def test_the_log_of_a_killed_command_is_removed_by_the_next_one_on_the_same_machine(tmp_path: Path) -> None:
    host = socket.gethostname()
    for name in (f"{host}-1-1", "elsewhere-1-1", ".submitit"):
        (tmp_path / name).mkdir()
    with EventLog.opened(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} >= {"elsewhere-1-1", ".submitit"}
        assert not (tmp_path / f"{host}-1-1").exists()
