"""`dmlbench sweep`: which jobs it runs, that all are checked before the first one starts, and the table that it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import Photos, on_photos, refused, rows_below, write_config, write_own_loss

from dmlbench.cli import run
from dmlbench.cli.sweep import parts
from dmlbench.config.jobs import all_jobs
from dmlbench.results import run_files
from dmlbench.results.row import BASELINES
from dmlbench.results.row_files import find_rows, read_row

TYPED_AND_COMPOSED = [
    ([], [["sweep=seven"]]),
    (["dataset=cub", "seed=0,1"], [["sweep=seven", "dataset=cub", "seed=0,1"]]),
    (["loss=mine"], [["loss=raw_pixels,untrained"], ["loss=mine"]]),
    (["loss=my-loss,glob(a*)"], [["loss=raw_pixels,untrained"], ["loss=my-loss,glob(a*)"]]),
    (["loss=untrained,mine"], [["loss=raw_pixels"], ["loss=untrained,mine"]]),
    (["loss=untrained,mine,raw_pixels"], [["loss=untrained,mine,raw_pixels"]]),
    (
        ["loss=mine", "loss.make.margin=1,2", "+loss.make.new=3", "seed=0,1"],
        [["seed=0,1", "loss=raw_pixels,untrained"], ["loss=mine", "loss.make.margin=1,2", "+loss.make.new=3", "seed=0,1"]],
    ),
    (["+sweep=all"], [["sweep=all"]]),
    (["preset=paper", "dataset=cars", "loss=a,b"], [["preset=paper", "dataset=cars", f"loss={loss}"] for loss in "ab"]),
]


@pytest.mark.parametrize(("typed", "composed"), TYPED_AND_COMPOSED, ids=[" ".join(typed) for typed, _ in TYPED_AND_COMPOSED])
def test_a_sweep_runs_the_seven_losses_unless_others_are_named_and_adds_the_baselines(
    typed: list[str], composed: list[list[str]]
) -> None:
    assert parts(typed, None) == composed


@pytest.mark.parametrize(
    ("overrides", "n"),
    [
        (["loss=triplet,arcface", "seed=0,1,2"], 6),
        (["sweep=seven", "seed=0,1", "protocol.epochs=1"], 18),
        (["sweep=seven", "loss=triplet,arcface"], 2),
        (["seed=range(0,5)", "loss.make.alpha=1,2"], 10),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_combination_of_values_is_one_job_with_its_own_name(overrides: list[str], n: int) -> None:
    names = [job.name for job in all_jobs(overrides).jobs]
    assert len(names) == len(set(names)) == n


def test_a_sweep_runs_the_baselines_too_and_ends_with_its_table(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", "loss=contrastive,arcface", "seed=0,1", *on_photos(photos(root="photos.v2"))]) == 0
    output = capsys.readouterr().out
    rows = rows_below("runs")
    assert {(row["loss"], row["seed"]) for row in rows} == {
        (loss, seed) for loss in ("raw_pixels", "untrained", "contrastive", "arcface") for seed in (0, 1)
    }
    assert len({row["fingerprint"] for row in rows}) == 1
    assert all(f"[{number} of 8" in output for number in range(1, 9))
    assert re.findall(r"^\| (\w+ \w+|\w+) ", output, re.MULTILINE)[1:] == [
        "Raw pixels",
        "Untrained trunk",
        "Contrastive",
        "ArcFace",
    ]
    written = {path.suffix: path for path in Path("runs/tables").iterdir()}
    assert set(written) == {".md", ".tex", ".csv", ".html"}
    assert all(path.name.startswith("photos.v2-") for path in written.values())
    assert written[".md"].read_text().strip() in output


def test_the_table_of_a_sweep_contains_no_re_evaluated_row(runs: Path, swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["sweep", "loss=contrastive,arcface", "seed=0,1", *on_photos(swept / "photos"), f"paths.data={swept}/data"]
    assert run(argv) == 0
    before = capsys.readouterr().out
    assert run(["evaluate", "runs", "--ks", "1,3"]) == 0
    assert len(rows_below("runs")) == 16
    capsys.readouterr()
    assert run(argv) == 0
    assert capsys.readouterr().out == before
    assert before.count("already done") == 8
    assert before.count("| Method ") == 1


@pytest.mark.parametrize("process", ["this", pytest.param("new", marks=pytest.mark.slow)])
def test_a_run_alone_and_the_same_run_as_a_later_job_of_a_sweep_give_equal_rows(photos: Photos, process: str) -> None:
    overrides = on_photos(photos())
    alone = ["train", "loss=softtriple", *overrides, "paths.runs=alone"]
    if process == "this":
        assert run(alone) == 0
    else:
        assert subprocess.run([sys.executable, "-m", "dmlbench", *alone], check=False, capture_output=True).returncode == 0
    assert run(["sweep", "loss=arcface,softtriple", *overrides]) == 0
    [first] = [read_row(path) for path in find_rows(Path("alone"))]
    [second] = [row for path in find_rows(Path("runs")) if (row := read_row(path))["loss"] == "softtriple"]
    assert first.outcome == second.outcome


def test_a_hyper_parameter_of_a_loss_can_be_swept_over_beside_the_baselines(photos: Photos) -> None:
    assert run(["sweep", "loss=contrastive", "loss.make.neg_margin=0.5,1", *on_photos(photos())]) == 0
    rows = rows_below("runs")
    assert sorted((row["loss"], row.get("loss_make_neg_margin")) for row in rows if row["loss"] not in BASELINES) == [
        ("contrastive", 0.5),
        ("contrastive", 1),
    ]
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["loss=contrastive,softripple"], "loss=softripple is not known; did you mean 'softtriple'?"),
        (["loss=contrastive", "seed=0,x"], "seed is 'x', but a whole number"),
        (["loss=contrastive", "protocol.epochs=1,many"], "protocol.epochs is 'many'"),
        (["loss=contrastive,triplet", "++loss.make.pos_margin=0.1"], "loss.make.pos_margin is not an argument of"),
        (["loss=contrastive,triplet", "+loss.make.pos_margin=0.1"], "loss.make.pos_margin has a value already"),
        (["loss=contrastive", "loss.make.neg_margin=0.1,wide"], "loss.make.neg_margin is 'wide'"),
        (["loss=contrastive", "device=cpu,tpu"], "device is 'tpu'"),
        (["loss=contrastive", "optimizer=adamw,sgd", "optimizer.betas=[0.9,0.9]"], "optimizer.betas is not known"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_value_in_a_later_job_is_refused_before_the_first_run_starts(
    overrides: list[str], sentence: str, photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused(capsys, "sweep", *on_photos(photos(), *overrides))
    assert not Path("runs").exists()


def test_a_device_that_the_machine_does_not_have_is_refused_before_the_first_run_starts(
    photos: Photos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    sentence = refused(capsys, "sweep", *on_photos(photos(), "loss=contrastive", "device=cpu,cuda"))
    assert sentence.startswith("device is 'cuda'; this machine has cpu")
    assert not Path("runs").exists()


def test_own_code_that_cannot_be_imported_is_refused_before_the_first_run_starts(
    photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config("mine/loss/late.yaml", "label: Late\nkind: pair\nmake: {_target_: no_such_module.Loss}\n")
    sentence = refused(capsys, "sweep", "loss=contrastive,late", "--config-dir", "mine", *on_photos(photos()))
    assert "'no_such_module.Loss' cannot be imported" in sentence
    assert not Path("runs").exists()


def test_a_job_that_fails_or_crashes_does_not_stop_the_others(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    write_own_loss("nans", "    def forward(self, embeddings, labels):\n        return embeddings.sum() * float('nan')\n")
    write_own_loss("crash", "    def forward(self, embeddings, labels):\n        raise RuntimeError('out of luck')\n")
    overrides = on_photos(photos(), "protocol.clip_grad_norm=null")
    assert run(["sweep", "loss=nans,crash,contrastive", *overrides, "--config-dir", "mine"]) == 1
    captured = capsys.readouterr()
    by_loss = {row["loss"]: row for row in rows_below("runs")}
    assert set(by_loss) == {*BASELINES, "nans", "contrastive"}
    assert by_loss["nans"]["status"] == "failed"
    assert by_loss["nans"]["reason"] == "the loss is nan at epoch 1, step 1"
    assert by_loss["nans"].get("map_at_r") is None
    assert "out of luck" in captured.err
    [error] = Path("runs").rglob(run_files.ERROR)
    assert error.parent.parent.name == "crash"
    assert "RuntimeError: out of luck" in error.read_text()
    assert re.search(r"\| crash \[\d\] +\| +0 \| +-- ", captured.out)
    assert "seed 0 missing: crashed: RuntimeError: out of luck" in captured.out
    assert [file.parent for file in Path("runs").rglob(run_files.PENDING_ROW)] == [error.parent]


def test_a_sweep_file_of_the_user_is_expanded_and_run_beside_the_baselines(
    photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    params = "      loss: triplet\n      loss.make.margin: '0.5,0.6'\n      seed: '0,1'\n"
    write_config("mine/sweep/margins.yaml", f"# @package _global_\n# Margins.\nhydra:\n  sweeper:\n    params:\n{params}")
    assert run(["sweep", "sweep=margins", "--config-dir", "mine", *on_photos(photos())]) == 0
    output = capsys.readouterr().out
    assert len(rows_below("runs")) == 8
    assert re.findall(r"^\[(\d) of 8", output, re.MULTILINE) == [str(number) for number in range(1, 9)]
    for margin in (0.5, 0.6):
        assert f"loss=triplet seed=1 loss.make.margin={margin}: R@1" in output
        assert f"| Triplet (margin={margin}" in output
    assert "| Untrained trunk" in output


def test_cfg_prints_every_job_of_a_sweep_and_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", "loss=triplet", "seed=0,1", "--cfg", "job"]) == 0
    names = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# ")]
    assert names == [
        *(f"# loss={loss} seed={seed}" for seed in (0, 1) for loss in BASELINES),
        *(f"# loss=triplet seed={seed}" for seed in (0, 1)),
    ]
    assert not Path("runs").exists()
