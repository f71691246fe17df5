"""Runs of torchrun of which a process is killed: they end, and the same command ends with the row of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from processes_helper import free_port
from sweep_helpers import TINY, descendants, rows_by_loss

KILLS = 20
TRAIN = ["train", "loss=proxy_nca", *TINY, "protocol.epochs=60"]


def torchrun(directory: Path) -> subprocess.Popen[str]:
    directory.mkdir(exist_ok=True)
    options = ["--nproc-per-node", "2", "--master-port", str(free_port()), "-m", "dmlbench"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DMLBENCH_PROCESS_TIMEOUT_S": "30"}
    with (directory / "output.txt").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *options, *TRAIN],
            cwd=directory,
            env=environment,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )


def ranks(launcher: subprocess.Popen[str]) -> list[int]:
    return sorted(descendants(launcher.pid, "dmlbench"))


def are_alive(processes: list[int]) -> bool:
    return any(
        Path(f"/proc/{one}").exists() and "\nState:\tZ" not in Path(f"/proc/{one}/status").read_text() for one in processes
    )


@pytest.mark.slow
def test_a_run_whose_processes_are_killed_twenty_times_ends_with_the_row_of_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed = torchrun(tmp_path / "undisturbed")
    assert undisturbed.wait(180) == 0
    [expected] = rows_by_loss(tmp_path / "undisturbed").values()
    generator, killed, sentences = random.Random(0), {"rank 0": 0, "rank 1": 0, "launcher": 0}, 0
    directory = tmp_path / "killed"
    while sum(killed.values()) < KILLS:
        launcher, began, was_killed = torchrun(directory), time.monotonic(), False
        checkpoints = list(directory.glob("runs/*/*/*/checkpoint.pt"))
        before = checkpoints[0].stat().st_mtime_ns if checkpoints else 0
        while len(ranks(launcher)) < 2 and launcher.poll() is None:
            time.sleep(0.05)
        processes = ranks(launcher)
        if generator.random() < 0.7:  # in training, else at any moment of the start
            while launcher.poll() is None and time.monotonic() - began < 120:
                found = list(directory.glob("runs/*/*/*/checkpoint.pt"))
                if found and found[0].stat().st_mtime_ns > before:
                    break
                time.sleep(0.01)
        time.sleep(generator.random() * 2)
        name = generator.choice(list(killed))
        with suppress(ProcessLookupError):
            if launcher.poll() is None:
                os.kill({"launcher": launcher.pid, "rank 0": processes[0], "rank 1": processes[-1]}[name], signal.SIGKILL)
                was_killed = True
        if not was_killed:  # the run had finished before
            assert launcher.wait(60) == 0, (directory / "output.txt").read_text()
            for file in directory.rglob("row.json"):
                file.unlink()
            continue
        killed[name] += 1
        ended = time.monotonic()
        assert launcher.wait(60) != 0
        while are_alive(processes):
            assert time.monotonic() - ended < 45, f"{name} was killed, and another process goes on"
            time.sleep(0.05)
        sentences += (directory / "output.txt").read_text().count("run the same command again to resume")
    final = torchrun(directory)
    assert final.wait(180) == 0, (directory / "output.txt").read_text()
    [row] = rows_by_loss(directory).values()
    assert row.outcome == expected.outcome
    assert row["n_processes"] == 2
    assert min(killed.values()) >= 3
    assert sentences >= KILLS / 4
