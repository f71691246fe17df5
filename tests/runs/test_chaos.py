"""A sweep that is killed, whose disk is full and whose checkpoint is truncated ends with the table of an undisturbed one."""

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
SWEEP = [
    "sweep",
    f"loss={LOSSES}",
    "seed=0,1,2",
    "dataset=digits",
    "dataset.make.images_per_class=8",
    "dataset.train_images=200",
    "dataset.query_images=200",
    "dataset.gallery_images=200",
    "protocol.epochs=20",
]
PARALLEL = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=3"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk of 96 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(directory)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs the rights of root")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


def start(directory: Path, *argv: str) -> subprocess.Popen[str]:
    log = (directory.parent / f"{directory.name}.log").open("a")  # not on the small disk
    command = [sys.executable, "-m", "dmlbench", *SWEEP, *argv]
    return subprocess.Popen(command, cwd=directory, stdout=log, stderr=subprocess.STDOUT, text=True)


def workers(pid: int) -> list[int]:
    """The processes that run the jobs of a sweep."""
    found = []
    for child in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(child.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and "popen_loky" in child.joinpath("cmdline").read_text():
                found.append(int(child.name))
        except (OSError, IndexError):
            continue
    return found


def row_files(directory: Path) -> list[Path]:
    return list(find_rows(directory / "runs"))


def checkpoints(directory: Path) -> list[Path]:
    return list((directory / "runs").glob("digits/*/*/checkpoint.pt"))


def table_rows(directory: Path) -> object:
    """The rows of the table of a directory's runs, without cost."""
    [table] = compare([read_row(path) for path in row_files(directory)])
    return [(row.label, row.seeds, row.cells, row.notes) for row in table.rows]


class Chaos:
    """A sweep in a directory, and the faults that are injected into it.

    Args:
        directory: Working directory of the sweep.
        n_runs: Number of rows at the end of the sweep.
    """

    def __init__(self, directory: Path, n_runs: int) -> None:
        self.directory, self.n_runs = directory, n_runs
        self.generator = random.Random(0)
        self.sweep = start(directory, *PARALLEL)
        self.killed = self.parents = self.last = 0
        self.filled = self.truncated = False
        self.rows: dict[Path, int] = {}

    @property
    def over(self) -> bool:
        return self.killed >= KILLS and self.parents >= PARENTS

    def restart(self) -> None:
        """Run the same command again if it has ended."""
        if self.sweep.poll() is not None:
            assert len(row_files(self.directory)) < self.n_runs, f"the sweep ended after {self.killed} kills"
            self.sweep = start(self.directory, *PARALLEL)

    def wait_for_an_epoch(self) -> None:
        """Wait until a job has finished an epoch since the last kill, or the sweep has ended."""
        while self.sweep.poll() is None:
            with contextlib.suppress(FileNotFoundError):  # a job just ended
                if any(path.stat().st_mtime_ns > self.last for path in checkpoints(self.directory)):
                    break
            time.sleep(0.05)

    def kill_a_worker(self) -> None:
        alive = workers(self.sweep.pid)
        if alive and self.killed < KILLS:
            os.kill(self.generator.choice(alive), signal.SIGKILL)
            self.killed += 1
            self.last = time.time_ns()

    def kill_the_parent(self) -> None:
        self.sweep.kill()
        self.sweep.wait()
        self.parents += 1
        self.last = time.time_ns()
        time.sleep(2)

    def truncate_a_checkpoint(self) -> None:
        if not self.truncated and (left := checkpoints(self.directory)):
            with left[0].open("r+b") as file:
                file.truncate(left[0].stat().st_size // 2)
            self.truncated = True

    def fill_the_disk(self, seconds: float) -> None:
        filler = self.directory / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        time.sleep(seconds)
        filler.unlink()
        self.filled = True

    def assert_no_row_is_written_again(self) -> None:
        for path in row_files(self.directory):
            time_written = path.stat().st_mtime_ns
            assert self.rows.setdefault(path, time_written) == time_written


@pytest.mark.slow
def test_a_sweep_ends_with_the_same_table_after_kills_a_full_disk_and_a_truncated_checkpoint(
    tmp_path: Path, small_disk: Path
) -> None:
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert start(undisturbed).wait() == 0
    expected = {read_row(path)["run_id"]: read_row(path).outcome for path in row_files(undisturbed)}

    chaos = Chaos(small_disk, len(expected))
    while not chaos.over:
        chaos.wait_for_an_epoch()
        time.sleep(chaos.generator.uniform(0, 1))
        chaos.assert_no_row_is_written_again()
        chaos.restart()
        chaos.kill_a_worker()
        chaos.truncate_a_checkpoint()
        if chaos.killed >= 6 * (chaos.parents + 1) and chaos.parents < PARENTS:
            chaos.kill_the_parent()
        if chaos.killed >= 9 and not chaos.filled:
            chaos.fill_the_disk(seconds=8)
    chaos.kill_the_parent()
    assert chaos.filled
    assert chaos.truncated
    assert len(row_files(small_disk)) < len(expected), "no run was left"

    assert start(small_disk, *PARALLEL).wait() == 0
    rows = [read_row(path) for path in row_files(small_disk)]
    assert len(rows) == len(expected)
    assert {row["run_id"]: row.outcome for row in rows} == expected
    assert table_rows(small_disk) == table_rows(undisturbed)
    assert sum(row["n_resumed"] for row in rows) > 0  # type: ignore[misc]
    assert not checkpoints(small_disk)
    chaos.assert_no_row_is_written_again()
