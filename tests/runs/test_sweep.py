"""Sweeps in processes of their own: killed in the middle, and started twice at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row, read_rows
from dmlbench.tables.formats import markdown
from dmlbench.tables.table import compare

LOSSES = ("untrained", "contrastive", "softtriple", "arcface")
WORDS = [
    "sweep",
    f"loss={','.join(LOSSES)}",
    "dataset.make.images_per_class=4",
    "dataset.train_images=200",
    "dataset.query_images=200",
    "dataset.gallery_images=200",
    "protocol.epochs=6",
]


def start(place: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dmlbench", *WORDS]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait until something is so; the process must still be at work then."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.005)


def rows(place: Path) -> dict[str, Row]:
    return {str(row["loss"]): row for row in map(read_row, find_rows(place / "runs"))}


def table(place: Path) -> str:
    """The table of a folder's rows, their cost aside."""
    return markdown(compare(read_rows(place / "runs")[0], cost=False))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("undisturbed")
    finish(start(place))
    assert set(rows(place)) == set(LOSSES)
    return place


def test_a_killed_sweep_skips_what_is_done_resumes_what_broke_off_and_ends_with_the_same_table(
    tmp_path: Path, undisturbed: Path
) -> None:
    process = start(tmp_path)
    checkpoint = "runs/digits/softtriple/*/checkpoint.pt"
    wait_for(lambda: any(tmp_path.glob(checkpoint)), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert set(rows(tmp_path)) == {"untrained", "contrastive"}
    before = {path: path.stat().st_mtime_ns for path in find_rows(tmp_path / "runs")}

    output = finish(start(tmp_path))

    assert output.count("already done") == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {loss: row["n_resumed"] for loss, row in rows(tmp_path).items()} == {
        "untrained": 0,
        "contrastive": 0,
        "softtriple": 1,
        "arcface": 0,
    }
    assert not any(tmp_path.glob(checkpoint))
    for loss, row in rows(undisturbed).items():
        assert rows(tmp_path)[loss].outcome == row.outcome
    assert table(tmp_path) == table(undisturbed)


def test_the_same_sweep_twice_at_once_does_no_run_twice_and_both_end_with_the_whole_table(
    tmp_path: Path, undisturbed: Path
) -> None:
    outputs = [finish(process) for process in [start(tmp_path), start(tmp_path)]]
    for loss in LOSSES:
        assert sum(output.count(f"loss={loss} seed=0: R@1") for output in outputs) >= 1
    done = sum(output.count(" s of training: ") for output in outputs)
    assert done == len(LOSSES)
    [file] = (tmp_path / "runs" / "tables").glob("*.md")
    for output in outputs:
        assert file.read_text().strip() in output
    assert table(tmp_path) == table(undisturbed)
    for loss, row in rows(undisturbed).items():
        assert rows(tmp_path)[loss].outcome == row.outcome
