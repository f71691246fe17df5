"""Sweeps on Hydra's launchers, each really run: several processes, DataLoader workers in them, processes that are lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row, read_rows
from dmlbench.system.locks import locked
from dmlbench.tables.formats import markdown
from dmlbench.tables.table import compare

TINY = [
    "dataset.make.images_per_class=4",
    "dataset.train_images=200",
    "dataset.query_images=200",
    "dataset.gallery_images=200",
]
LOSSES = ["untrained", "contrastive", "softtriple"]
WORDS = ["sweep", f"loss={','.join(LOSSES)}", *TINY, "protocol.epochs=2", "workers=2"]
PACKAGE = {"joblib": "joblib", "submitit_local": "submitit", "ray": "ray"}


def start(place: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dmlbench", *words]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == status, output
    return output


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.01)


def rows(place: Path) -> dict[str, Row]:
    return {str(row["loss"]): row for row in map(read_row, find_rows(place / "runs"))}


def table(place: Path) -> str:
    """The table of a folder's rows, their cost aside."""
    return markdown(compare(read_rows(place / "runs")[0], cost=False))


def descendants(pid: int, part: str = "") -> list[int]:
    """The processes below one, whose command holds a word."""
    found = []
    for child in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(child.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            command = child.joinpath("cmdline").read_text()
        except (OSError, IndexError):
            continue
        if parent == pid:
            found += [int(child.name)] * (part in command) + descendants(int(child.name), part)
    return found


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sweep, one job after the other in one process."""
    place = tmp_path_factory.mktemp("serial")
    finish(start(place, *WORDS))
    return place


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_a_sweep_on_a_launcher_ends_with_the_rows_and_the_table_of_a_serial_one(
    launcher: str, tmp_path: Path, serial: Path
) -> None:
    pytest.importorskip(
        f"hydra_plugins.hydra_{PACKAGE[launcher]}_launcher", reason=f"dmlbench[{PACKAGE[launcher]}] is not there"
    )
    output = finish(start(tmp_path, *WORDS, f"hydra/launcher={launcher}"))
    assert set(rows(tmp_path)) == set(LOSSES)
    for loss, row in rows(serial).items():
        assert rows(tmp_path)[loss].outcome == row.outcome
    assert table(tmp_path) == table(serial)
    for loss in LOSSES:
        assert output.count(f"loss={loss} seed=0: started") == 1
    assert re.findall(r"^\[(\d) of 3", output, re.MULTILINE) == ["1", "2", "3"]
    assert not list((tmp_path / "runs" / ".sweep").glob("*-*")), "the ledger is left"


def test_two_jobs_of_joblib_run_at_a_time(tmp_path: Path) -> None:
    output = finish(start(tmp_path, *WORDS, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"))
    before_the_first_end = output.partition("[1 of 3")[0]
    assert before_the_first_end.count("started") == 2


def test_one_job_of_joblib_at_a_time_runs_where_the_command_does(tmp_path: Path) -> None:
    words = ["train", "-m", "loss=contrastive,triplet", *TINY, "protocol.epochs=1", "hydra/launcher=joblib"]
    finish(start(tmp_path, *words, "hydra.launcher.n_jobs=1"))
    assert set(rows(tmp_path)) == {"contrastive", "triplet"}


def test_jobs_that_are_swept_over_a_value_are_told_apart_by_it(tmp_path: Path) -> None:
    words = ["train", "-m", "loss=triplet", "loss.make.margin=0.1,0.2", *TINY, "protocol.epochs=1", "hydra/launcher=joblib"]
    output = finish(start(tmp_path, *words))
    for margin in (0.1, 0.2):
        assert f"loss=triplet seed=0 loss.make.margin={margin}: R@1" in output


def test_the_trials_of_several_losses_are_searched_at_a_time_and_told_as_they_end(tmp_path: Path) -> None:
    words = ["tune", "loss=contrastive,triplet", *TINY, "protocol.epochs=1", "trials=2", "hydra/launcher=joblib"]
    output = finish(start(tmp_path, *words))
    for loss in ("contrastive", "triplet"):
        assert re.findall(rf"^loss={loss} seed=0: trial (\d) of 2: ", output, re.MULTILINE) == ["1", "2"]
    assert not rows(tmp_path)


def test_a_job_that_fails_stops_no_other(tmp_path: Path) -> None:
    words = ["train", "-m", "loss=contrastive,triplet", *TINY, "protocol.epochs=1", "protocol.lr=1e18,1e-3"]
    output = finish(start(tmp_path, *words, "hydra/launcher=joblib"), status=1)
    assert output.count(": failed: ") == 2
    assert output.count(": R@1 ") == 2


def test_a_job_whose_process_is_killed_is_started_again_and_goes_on_from_its_checkpoint(tmp_path: Path, serial: Path) -> None:
    words = [word for word in WORDS if not word.startswith(("protocol", "loss", "workers"))]
    words += ["loss=untrained,contrastive", "protocol.epochs=12", "hydra/launcher=joblib"]
    process = start(tmp_path, *words)
    wait_for(lambda: any(tmp_path.glob("runs/digits/contrastive/*/checkpoint.pt")), process)
    for worker in descendants(process.pid, "popen_loky"):
        os.kill(worker, signal.SIGKILL)
    output = finish(process)
    assert "loss=contrastive seed=0: its process was lost; it is started again, alone" in output
    assert output.count("loss=contrastive seed=0: R@1") == 1
    assert rows(tmp_path)["contrastive"]["n_resumed"] == 1


def test_a_job_that_ends_its_process_stops_no_other_and_is_told_and_shown_as_missing(tmp_path: Path) -> None:
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "die.yaml").write_text("label: Die\nkind: pair\nmake: {_target_: die.Die}\n")
    code = "import os\nfrom torch import nn\n\n\nclass Die(nn.Module):\n    def forward(self, *_):\n        os._exit(9)\n"
    (tmp_path / "die.py").write_text(code)
    words = ["sweep", "loss=die,triplet,contrastive,arcface", "--config-dir", "conf", *TINY, "protocol.epochs=1"]
    output = finish(start(tmp_path, *words, "hydra/launcher=joblib"), status=1)
    assert set(rows(tmp_path)) == {"untrained", "triplet", "contrastive", "arcface"}
    assert "dmlbench: loss=die seed=0: its process was lost 3 times: " in output
    assert re.search(r"\| Die \[\d\]", output)
    assert "missing: not finished" in output


@pytest.mark.parametrize("more", [[], ["hydra/launcher=joblib"]])
def test_a_sweep_file_of_ones_own_is_counted_named_and_beside_the_untrained_trunk(more: list[str], tmp_path: Path) -> None:
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    text = "# @package _global_\n# Margins.\nhydra:\n  sweeper:\n    params:\n      loss: triplet\n"
    text += "      loss.make.margin: '0.1,0.2'\n      seed: '0,1'\n"
    (tmp_path / "conf" / "sweep" / "margins.yaml").write_text(text)
    words = ["sweep", "sweep=margins", "--config-dir", "conf", *TINY, "protocol.epochs=1"]
    output = finish(start(tmp_path, *words, *more))
    assert len(find_rows_of(tmp_path)) == 6
    assert re.findall(r"^\[(\d) of 6", output, re.MULTILINE) == ["1", "2", "3", "4", "5", "6"]
    for margin in (0.1, 0.2):
        assert f"loss=triplet seed=1 loss.make.margin={margin}: R@1" in output
        assert f"| Triplet (margin={margin}" in output
    assert "| Untrained trunk" in output


def find_rows_of(place: Path) -> list[Path]:
    return list(find_rows(place / "runs"))


def test_what_is_waited_for_is_told_and_nothing_else_is_run_again(tmp_path: Path) -> None:
    words = ["sweep", "loss=contrastive,triplet", *TINY, "protocol.lr=1e18", "protocol.epochs=1"]
    finish(start(tmp_path, *words), status=1)
    ended = {loss: row["finished_at"] for loss, row in rows(tmp_path).items()}
    [held] = tmp_path.glob("runs/digits/triplet/*/.lock")
    with locked(held):
        process = start(tmp_path, *words, "retry=failed")
        for line in iter(process.stdout.readline, ""):  # type: ignore[union-attr]
            if "waiting for the runs" in line:
                break
        first = rows(tmp_path)["contrastive"]["finished_at"]
        time.sleep(1.5)
    output = finish(process, status=1)
    assert first != ended["contrastive"]
    assert rows(tmp_path)["contrastive"]["finished_at"] == first
    assert output.count("loss=triplet seed=0: failed: ") == 1
    assert "loss=contrastive" not in output


def test_the_processes_of_a_killed_sweep_end_with_it_and_the_same_command_goes_on(tmp_path: Path) -> None:
    words = [*WORDS, "protocol.epochs=12", "hydra/launcher=joblib"]
    process = start(tmp_path, *words)
    wait_for(lambda: any(tmp_path.glob("runs/digits/*/*/checkpoint.pt")), process)
    workers = descendants(process.pid, "popen_loky")
    assert workers
    process.kill()
    process.wait()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    finish(start(tmp_path, *words))
    assert set(rows(tmp_path)) == set(LOSSES)
    assert sum(row["n_resumed"] for row in rows(tmp_path).values()) >= 1  # type: ignore[misc]


def test_a_job_that_meets_its_time_limit_goes_on_from_its_last_epoch(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="dmlbench[submitit] is not there")
    words = ["train", "-m", "loss=contrastive", *TINY, "protocol.epochs=20", "hydra/launcher=submitit_local"]
    process = start(tmp_path, *words)
    wait_for(lambda: any(tmp_path.glob("runs/digits/contrastive/*/checkpoint.pt")), process)
    [job] = descendants(process.pid, "submitit.core._submit")
    os.kill(job, signal.SIGUSR2)  # what SLURM, and submitit's own clock, send before the time is up
    finish(process)
    assert rows(tmp_path)["contrastive"]["n_resumed"] == 1


def test_a_launcher_that_is_not_installed_is_named_with_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['hydra_plugins.hydra_joblib_launcher'] = None\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "dmlbench", *WORDS, "hydra/launcher=joblib"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    needs = "hydra/launcher=joblib needs a package that is not installed: pip install 'dmlbench[joblib]'"
    assert done.stderr == f"dmlbench: {needs}\n"


def test_a_launcher_that_cannot_start_says_why_in_a_sentence(tmp_path: Path) -> None:
    words = [*WORDS, "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=0.5"]
    output = finish(start(tmp_path, *words), status=2)
    assert output.startswith("dmlbench: the launcher cannot start: ")
    assert "timeout_min" in output
    assert output.count("\n") == 1


def test_a_misspelt_launcher_is_refused_with_the_near_name(tmp_path: Path) -> None:
    output = finish(start(tmp_path, *WORDS, "hydra/launcher=jobib"), status=2)
    assert output == "dmlbench: hydra/launcher=jobib is not known; did you mean 'joblib'?\n"


def test_events_are_read_once_in_the_order_of_their_time(tmp_path: Path) -> None:
    writer, reader = EventLog(tmp_path / "here"), EventLog(tmp_path / "here")
    assert list(reader.news()) == []
    for k in range(12):
        writer.say(job=f"{k}")
    assert [event["job"] for event in reader.news()] == [f"{k}" for k in range(12)]
    writer.say(job="last")
    assert [event["job"] for event in reader.news()] == ["last"]


def test_what_is_put_down_just_before_the_end_is_still_heard(tmp_path: Path) -> None:
    ledger, heard = EventLog(tmp_path / "here"), []
    with ledger.followed(heard.append):
        ledger.say(job="a", status="done")
    assert [event["job"] for event in heard] == ["a"]
    ledger.remove()
    assert not (tmp_path / "here").exists()
