"""A sweep that is killed, finds its disk full and a checkpoint torn ends with the table of an undisturbed one."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmlbench.results.row_files import find_rows, read_row
from dmlbench.tables.table import compare

KILLS, PARENTS = 20, 2
LOSSES = "contrastive,triplet,proxy_nca,softtriple,multi_similarity,cosface,arcface"
WORDS = [
    "sweep",
    f"loss={LOSSES}",
    "seed=0,1,2",
    "dataset.make.images_per_class=4",
    "dataset.train_images=200",
    "dataset.query_images=200",
    "dataset.gallery_images=200",
    "protocol.epochs=20",
]
PARALLEL = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=3"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 96 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk of one's own needs the right to mount it")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def start(place: Path, *words: str) -> subprocess.Popen[str]:
    log = (place.parent / f"{place.name}.log").open("a")  # not on the small disk
    command = [sys.executable, "-m", "dmlbench", *WORDS, *words]
    return subprocess.Popen(command, cwd=place, stdout=log, stderr=subprocess.STDOUT, text=True)


def workers(pid: int) -> list[int]:
    """The processes that do the jobs of a sweep."""
    found = []
    for child in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(child.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and "popen_loky" in child.joinpath("cmdline").read_text():
                found.append(int(child.name))
        except (OSError, IndexError):
            continue
    return found


def finished(place: Path) -> list[Path]:
    return list(find_rows(place / "runs"))


def checkpoints(place: Path) -> list[Path]:
    return list((place / "runs").glob("digits/*/*/checkpoint.pt"))


def statement(place: Path) -> object:
    """What a table says, its cost aside."""
    [table] = compare([read_row(path) for path in finished(place)])
    return [(line.label, line.seeds, line.cells, line.notes) for line in table.lines]


class Chaos:
    """A sweep in a folder, and what befalls it.

    Args:
        place: the folder.
        n_runs: how many rows the sweep ends with.
    """

    def __init__(self, place: Path, n_runs: int) -> None:
        self.place, self.n_runs = place, n_runs
        self.chance = random.Random(0)
        self.sweep = start(place, *PARALLEL)
        self.killed = self.parents = self.last = 0
        self.filled = self.torn = False
        self.rows: dict[Path, int] = {}

    @property
    def over(self) -> bool:
        return self.killed >= KILLS and self.parents >= PARENTS

    def go_on(self) -> None:
        """The same command again, where it has given up."""
        if self.sweep.poll() is not None:
            assert len(finished(self.place)) < self.n_runs, f"the sweep ended after {self.killed} kills"
            self.sweep = start(self.place, *PARALLEL)

    def wait_for_an_epoch(self) -> None:
        """Wait until a job has come further than at the last kill, or the sweep has given up."""
        while self.sweep.poll() is None:
            with contextlib.suppress(FileNotFoundError):  # a job just ended
                if any(path.stat().st_mtime_ns > self.last for path in checkpoints(self.place)):
                    break
            time.sleep(0.05)

    def kill_a_worker(self) -> None:
        alive = workers(self.sweep.pid)
        if alive and self.killed < KILLS:
            os.kill(self.chance.choice(alive), signal.SIGKILL)
            self.killed += 1
            self.last = time.time_ns()

    def kill_the_parent(self) -> None:
        self.sweep.kill()
        self.sweep.wait()
        self.parents += 1
        self.last = time.time_ns()
        time.sleep(2)

    def tear_a_checkpoint(self) -> None:
        if not self.torn and (left := checkpoints(self.place)):
            with left[0].open("r+b") as file:
                file.truncate(left[0].stat().st_size // 2)
            self.torn = True

    def fill_the_disk(self, seconds: float) -> None:
        filler = self.place / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        time.sleep(seconds)
        filler.unlink()
        self.filled = True

    def touch_no_row(self) -> None:
        """No row that was there is ever written again."""
        for path in finished(self.place):
            time_written = path.stat().st_mtime_ns
            assert self.rows.setdefault(path, time_written) == time_written


@pytest.mark.slow
def test_a_sweep_survives_kills_a_full_disk_and_a_torn_checkpoint_with_the_same_table(tmp_path: Path, small_disk: Path) -> None:
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    assert start(quiet).wait() == 0
    expected = {read_row(path)["run_id"]: read_row(path).outcome for path in finished(quiet)}

    chaos = Chaos(small_disk, len(expected))
    while not chaos.over:
        chaos.wait_for_an_epoch()
        time.sleep(chaos.chance.uniform(0, 1))
        chaos.touch_no_row()
        chaos.go_on()
        chaos.kill_a_worker()
        chaos.tear_a_checkpoint()
        if chaos.killed >= 6 * (chaos.parents + 1) and chaos.parents < PARENTS:
            chaos.kill_the_parent()
        if chaos.killed >= 9 and not chaos.filled:
            chaos.fill_the_disk(seconds=8)
    chaos.kill_the_parent()
    assert chaos.filled
    assert chaos.torn
    assert len(finished(small_disk)) < len(expected), "nothing was left to be done"

    assert start(small_disk, *PARALLEL).wait() == 0
    rows = [read_row(path) for path in finished(small_disk)]
    assert len(rows) == len(expected)
    assert {row["run_id"]: row.outcome for row in rows} == expected
    assert statement(small_disk) == statement(quiet)
    assert sum(row["n_resumed"] for row in rows) > 0  # type: ignore[misc]
    assert not checkpoints(small_disk)
    chaos.touch_no_row()
