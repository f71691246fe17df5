"""The event log through which jobs in other processes report."""

from __future__ import annotations

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
    log.remove()
    assert not (tmp_path / "log").exists()
