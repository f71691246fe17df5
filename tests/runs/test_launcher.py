"""Sweeps on Hydra's launchers, each really run: several processes, DataLoader workers in them, processes that are lost."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from hydra.core.plugins import Plugins
from sweep_helpers import (
    TINY,
    descendants,
    finish,
    rows_by_loss,
    start,
    table_of,
    wait_for,
    write_loss,
    write_mortal_loss,
)

from dmlbench.cli import run

LOSSES = ["raw_pixels", "untrained", "contrastive", "softtriple"]
SWEEP = ["sweep", "sweep=three", "--config-dir", "conf", *TINY, "workers=2"]
SWEEP_FILE = """\
# @package _global_
# Two losses and the baselines.
hydra:
  sweeper:
    params:
      loss: raw_pixels,untrained,contrastive,softtriple
"""
PACKAGES = {"joblib": "joblib", "submitit_local": "submitit", "ray": "ray"}


def require(launcher: str) -> None:
    package = PACKAGES[launcher]
    pytest.importorskip(f"hydra_plugins.hydra_{package}_launcher", reason=f"needs dmlbench[{package}]")


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in a directory with a sweep file, and restore the environment that launching changes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    write_sweep_file(tmp_path)


def write_sweep_file(directory: Path) -> None:
    (directory / "conf" / "sweep").mkdir(parents=True, exist_ok=True)
    (directory / "conf" / "sweep" / "three.yaml").write_text(SWEEP_FILE)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep, one job after the other in this process."""
    directory = tmp_path_factory.mktemp("serial")
    write_sweep_file(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        assert run(SWEEP) == 0
    return directory


def same_as_serial(directory: Path, serial: Path) -> None:
    """Assert that the rows and the table of a directory equal those of the serial sweep."""
    assert set(rows_by_loss(directory)) == set(LOSSES)
    for loss, row in rows_by_loss(serial).items():
        assert rows_by_loss(directory)[loss].outcome == row.outcome
    assert table_of(directory) == table_of(serial)


def test_a_sweep_with_joblib_ends_with_the_rows_and_the_table_of_a_serial_one(
    serial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require("joblib")
    assert run([*SWEEP, "hydra/launcher=joblib"]) == 0
    output = capsys.readouterr().out
    same_as_serial(tmp_path, serial)
    for loss in LOSSES:
        assert output.count(f"loss={loss} seed=0: started") == 1
    first, second, *_ = re.findall(r"^loss=(\w+) seed=0: started", output, re.MULTILINE)
    assert {first, second} == {"contrastive", "softtriple"}, "baselines, which take less time, are not last"
    assert re.findall(r"^\[(\d) of 4", output, re.MULTILINE) == ["1", "2", "3", "4"]
    assert not list(Path("runs/.sweep").glob("*-*")), "the event log is left"


def test_joblib_runs_two_jobs_at_a_time(tmp_path: Path) -> None:
    require("joblib")
    code = (
        "import os, time\nfrom pathlib import Path\n\nimport torch\n\n\nclass Loss(torch.nn.Module):\n"
        "    def forward(self, embeddings, labels):\n"
        f"        folder = Path({str(tmp_path)!r})\n"
        "        (folder / f'running-{os.getpid()}').touch()\n"
        "        end = time.monotonic() + 100\n"
        "        while len(list(folder.glob('running-*'))) < 2:\n"
        "            assert time.monotonic() < end, 'no other job is running'\n"
        "            time.sleep(0.01)\n"
        "        return (embeddings @ embeddings.T).mean()\n"
    )
    options = write_loss(tmp_path, "meet", code)
    assert run(["train", "-m", "loss=meet", "seed=0,1", *TINY, *options, "hydra/launcher=joblib"]) == 0
    assert len(list(Path("runs").rglob("row.json"))) == 2


def test_one_job_of_joblib_at_a_time_runs_in_the_process_of_the_command_and_a_failed_one_stops_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    require("joblib")
    argv = ["train", "-m", "loss=contrastive,triplet", "protocol.lr=1e18,1e-3", *TINY]
    assert run([*argv, "hydra/launcher=joblib", "hydra.launcher.n_jobs=1"]) == 1
    output = capsys.readouterr().out
    for loss in ("contrastive", "triplet"):
        assert f"loss={loss} seed=0 protocol.lr=1e+18: failed: " in output
        assert f"loss={loss} seed=0 protocol.lr=0.001: R@1 " in output


def test_trials_are_reported_while_jobs_run_in_other_processes(capsys: pytest.CaptureFixture[str]) -> None:
    require("joblib")
    argv = ["tune", "loss=contrastive,triplet", *TINY, "protocol.epochs=1", "trials=2", "hydra/launcher=joblib"]
    assert run(argv) == 0
    output = capsys.readouterr().out
    for loss in ("contrastive", "triplet"):
        assert re.findall(rf"^loss={loss} seed=0: trial (\d) of 2: ", output, re.MULTILINE) == ["1", "2"]
    assert not list(Path("runs").rglob("row.json"))


@pytest.mark.slow  # tests/runs/test_job_pool.py does so with simulated processes
def test_a_job_whose_process_is_killed_is_run_again_from_its_checkpoint_to_the_same_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require("joblib")
    options = write_mortal_loss(tmp_path)
    argv = ["train", "-m", "loss=mortal,contrastive", *TINY, *options]
    assert run([*argv, "hydra/launcher=joblib"]) == 0
    output = capsys.readouterr().out
    assert "loss=mortal seed=0: its process was lost; running it again on its own" in output
    assert output.count("loss=mortal seed=0: R@1") == 1
    row = rows_by_loss(tmp_path)["mortal"]
    assert row["n_resumed"] == 1
    assert run([*argv, "paths.runs=undisturbed/runs"]) == 0
    assert rows_by_loss(tmp_path / "undisturbed")["mortal"].outcome == row.outcome


def test_a_launcher_that_is_not_installed_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins = Plugins.instance()
    others = {name: cls for name, cls in plugins.class_name_to_class.items() if "joblib" not in name}
    monkeypatch.setattr(plugins, "class_name_to_class", others)
    assert run([*SWEEP, "hydra/launcher=joblib"]) == 2
    needs = "hydra/launcher=joblib needs a package that is not installed: pip install 'dmlbench[joblib]'"
    assert capsys.readouterr().err == f"dmlbench: {needs}\n"


def test_a_launcher_that_cannot_start_is_refused_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    require("submitit_local")
    assert run([*SWEEP, "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=0.5"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dmlbench: the launcher cannot start: ")
    assert "timeout_min" in error
    assert error.count("\n") == 1


@pytest.mark.slow  # joblib above runs the same code of dmlbench
def test_a_run_with_submitit_ends_with_the_row_of_a_serial_one(serial: Path, tmp_path: Path) -> None:
    require("submitit_local")
    assert run(["train", "-m", "loss=softtriple", *TINY, "workers=2", "hydra/launcher=submitit_local"]) == 0
    assert rows_by_loss(tmp_path)["softtriple"].outcome == rows_by_loss(serial)["softtriple"].outcome


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "ray"])
def test_a_sweep_with_another_launcher_ends_with_the_rows_and_the_table_of_a_serial_one(
    launcher: str, serial: Path, tmp_path: Path
) -> None:
    require(launcher)
    output = finish(start(tmp_path, *SWEEP, f"hydra/launcher={launcher}"))
    same_as_serial(tmp_path, serial)
    assert re.findall(r"^\[(\d) of 4", output, re.MULTILINE) == ["1", "2", "3", "4"]


@pytest.mark.slow
def test_a_job_that_always_ends_its_process_stops_no_other_and_is_missing_in_the_table(tmp_path: Path) -> None:
    require("joblib")
    code = "import os\nfrom torch import nn\n\n\nclass Loss(nn.Module):\n    def forward(self, *_):\n        os._exit(9)\n"
    options = write_loss(tmp_path, "die", code)
    argv = ["sweep", "loss=die,triplet,contrastive,arcface", *options, *TINY, "hydra/launcher=joblib"]
    output = finish(start(tmp_path, *argv), status=1)
    assert set(rows_by_loss(tmp_path)) == {"raw_pixels", "untrained", "triplet", "contrastive", "arcface"}
    assert "dmlbench: loss=die seed=0: its process was lost 3 times: " in output
    assert re.search(r"\| die \[\d\]", output)
    assert "missing: not finished" in output


@pytest.mark.slow
def test_the_processes_of_a_killed_sweep_end_with_it_and_the_same_command_resumes(tmp_path: Path) -> None:
    require("joblib")
    argv = [*SWEEP, "protocol.epochs=100", "hydra/launcher=joblib"]
    process = start(tmp_path, *argv)
    wait_for(lambda: any(tmp_path.glob("runs/synthetic/*/*/checkpoint.pt")), process)
    workers = descendants(process.pid, "popen_loky")
    assert workers
    process.kill()
    process.wait()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    finish(start(tmp_path, *argv))
    assert set(rows_by_loss(tmp_path)) == set(LOSSES)
    assert sum(row["n_resumed"] for row in rows_by_loss(tmp_path).values()) >= 1  # type: ignore[misc]


@pytest.mark.slow
def test_a_job_that_reaches_its_time_limit_continues_from_its_last_epoch(tmp_path: Path) -> None:
    require("submitit_local")
    argv = ["train", "-m", "loss=contrastive", *TINY, "protocol.epochs=100", "hydra/launcher=submitit_local"]
    process = start(tmp_path, *argv)
    wait_for(lambda: any(tmp_path.glob("runs/synthetic/contrastive/*/checkpoint.pt")), process)
    [job] = descendants(process.pid, "submitit.core._submit")
    os.kill(job, signal.SIGUSR2)  # the signal of SLURM, and of submitit's own clock, before the limit is reached
    finish(process)
    assert rows_by_loss(tmp_path)["contrastive"]["n_resumed"] == 1
