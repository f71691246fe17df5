"""A small part of `make campaign`: kills, torn writes, full disks, clock jumps and several processes at the same time."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fault_injection.campaign import Prepared, Workplace, disturb
from fault_injection.checks import check_after, check_during, read_contents
from fault_injection.faults import Fault, parse_faults
from fault_injection.injector import Injector
from fault_injection.plan import even_subset, full_points, kill_points, shares
from fault_injection.writers import parse_writers, share

from dmlbench.results import run_files
from dmlbench.system.atomic_write import atomic_write

KINDS = ("train", "cache", "tune")


@pytest.fixture(scope="module")
def place() -> Iterator[Workplace]:
    with Workplace(KINDS) as place:
        yield place


@pytest.fixture(scope="module")
def prepared(place: Workplace) -> dict[str, Prepared]:
    prepared = place.prepare(executions=1)
    assert {name: one.problems for name, one in prepared.items()} == dict.fromkeys(KINDS, ())
    return prepared


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 3])
def test_a_killed_command_ends_with_the_results_of_an_undisturbed_one_when_it_is_run_again(
    place: Workplace, prepared: dict[str, Prepared], kills: int
) -> None:
    chosen = [(one, [fault]) for one in prepared.values() for fault in even_subset(kill_points(one), kills)]
    attempts = list(place.run([(disturb, pair) for pair in chosen]))
    assert [problem for attempt in attempts for problem in attempt.problems] == []
    assert sum(attempt.kills for attempt in attempts) == kills * len(KINDS)


def test_torn_writes_full_disks_and_clock_jumps_change_no_result(place: Workplace, prepared: dict[str, Prepared]) -> None:
    train, generator = prepared["train"], random.Random(0)
    torn = [fault for fault in kill_points(train) if fault.action == "torn"]
    faults = [generator.choice(torn), generator.choice(full_points(train)), replace(generator.choice(torn), clock=1)]
    attempts = list(place.run([(disturb, (train, [fault])) for fault in faults]))
    assert [problem for attempt in attempts for problem in attempt.problems] == []
    assert all(attempt.happened for attempt in attempts)


def test_three_processes_share_a_search_although_one_is_killed(place: Workplace, prepared: dict[str, Prepared]) -> None:
    [attempt] = place.run([(share, (prepared["tune"], 3, 0, 1))])
    assert attempt.problems == ()


def test_the_campaign_notices_a_product_that_writes_directly_to_the_final_file(
    monkeypatch: pytest.MonkeyPatch, prepared: dict[str, Prepared]
) -> None:
    def write_directly(path: Path, content: object) -> None:
        if path.name == run_files.ROW:
            path.write_text(str(content))
        else:
            atomic_write(path, content)

    monkeypatch.setattr("dmlbench.results.row_files.atomic_write", write_directly)
    train = prepared["train"]
    created = next(
        number for number, event in enumerate(train.events, 1) if event.startswith("create ") and ".row.json" in event
    )
    with Workplace(()) as place:  # its processes are forked from this one, with the function above
        [attempt] = place.run([(disturb, (train, [Fault("torn", created + 1)]))])
    assert any(problem.startswith("torn: ") for problem in attempt.problems)


def test_lost_different_doubled_and_left_over_files_are_reported(tmp_path: Path, prepared: dict[str, Prepared]) -> None:
    expected = prepared["train"].expected
    [(name, row)] = expected.rows.items()
    empty = replace(expected, rows={}, files=frozenset())
    assert f"lost: {name}" in check_after(empty, expected, None)
    other = replace(expected, rows={name: {**row, "map_at_r": -1.0}}, files=expected.files | {"runs/.x.tmp"})
    assert [problem.partition(":")[0] for problem in check_after(other, expected, None)] == ["different", "left over"]
    again = replace(expected, inodes={name: expected.inodes[name] + 1})
    assert check_after(again, expected, expected) == [f"doubled: {name} was written again"]
    copied = replace(expected, rows={name: row, name.replace("runs/", "runs/copy/"): row})
    assert any(problem.startswith("doubled: ") for problem in check_after(copied, expected, None))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "row.json").write_text('{"half": ')
    assert check_during(read_contents(tmp_path), expected)[0].startswith("torn: runs/row.json")


def test_faults_are_parsed_and_printed_in_one_notation() -> None:
    text = "kill@17+job:torn@3~7+full@5+~2"
    faults = parse_faults(text)
    assert "+".join(map(str, faults)) == text
    assert faults[1] == Fault("torn", 3, "job", 7)
    assert parse_writers("writers=8,seed=3,victims=2") == (8, 3, 2)
    with pytest.raises(ValueError, match="'explode@1' is not a fault; write kill@17"):
        parse_faults("explode@1")


def test_attempts_are_divided_among_kinds_and_spread_over_their_events() -> None:
    assert shares({"small": 3, "large": 100, "larger": 200}, 23) == {"small": 3, "large": 10, "larger": 10}
    faults = [Fault("kill", number) for number in range(1, 101)]
    assert [fault.event for fault in even_subset(faults, 4)] == [13, 38, 63, 88]
    assert even_subset(faults, 100) == faults


def _write_two_files(folder: Path, control: Path, fault: Fault) -> None:
    Injector(folder, control, fault, os.getpid()).install()
    atomic_write(folder / "first", b"1234")
    atomic_write(folder / "second", b"5678")
    os._exit(0)


@pytest.mark.parametrize(("fault", "status", "files"), [("kill@1", -9, []), ("~1", 0, ["first", "second"])])
def test_the_injector_ends_a_process_before_an_event(tmp_path: Path, fault: str, status: int, files: list[str]) -> None:
    folder, control = tmp_path / "work", tmp_path / "control"
    folder.mkdir()
    control.mkdir()
    arguments = (folder, control, parse_faults(fault)[0])
    process = multiprocessing.get_context("fork").Process(target=_write_two_files, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == status
    assert sorted(path.name for path in folder.iterdir()) == files
    events = next(control.glob("command-*.trace")).read_text().splitlines()
    assert events[0].startswith("create .first.")
    assert len(events) == 1 or [event for event in events if event.startswith("rename ")] == ["rename first", "rename second"]
