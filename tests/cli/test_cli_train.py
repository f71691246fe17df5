"""`dmlbench train`: one run, its files and its row, and what the same command does again."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from cli_helpers import Photos, on_photos, refused, rows_below

from dmlbench.cli import run
from dmlbench.results import run_files
from dmlbench.results.columns import column


def test_a_run_writes_its_row_and_its_files(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "loss=softtriple", *on_photos(photos())]) == 0
    output = capsys.readouterr().out
    [row] = rows_below("runs")
    assert row["status"] == "ok"
    assert (row["dataset"], row["trunk"], row["loss"], row["protocol"]) == ("photos", "convnet", "softtriple", "quick")
    assert row["loss_make_num_classes"] == row["n_train_classes"] == 4
    assert row["sampler_samples_per_class"] == "${loss.samples_per_class}"
    assert row["loss_samples_per_class"] == 4
    assert 0 <= row["map_at_r"] <= row["recall_at_8"] <= 1
    assert row["n_queries"] == 20
    assert row["n_loss_parameters"] == 4 * 10 * 8
    for part in ("train 20 images of 4 classes", "ConvNet from scratch", "quick v1: 1 epoch,", "SoftTriple", row["run_id"]):
        assert part in output
    [directory] = {path.parent for path in Path("runs").rglob("row.json")}
    assert {path.name for path in directory.iterdir()} == {
        *("row.json", "history.jsonl", "overrides.json", "embeddings.safetensors", "per_query.safetensors", "model.pt"),
        *("classes.json", "images.json", ".lock"),
    }
    names = json.loads((directory / "classes.json").read_text())
    assert list(names.values()) == ["class04", "class05", "class06", "class07"]


def test_a_row_records_its_overrides_and_the_digests_of_its_configuration_files(photos: Photos) -> None:
    root = photos()
    assert run(["train", "loss=contrastive", "seed=3", "workers=1", "loss.make.neg_margin=0.7", *on_photos(root)]) == 0
    [row] = rows_below("runs")
    overrides = json.loads(row["overrides"])
    assert {"loss=contrastive", "loss.make.neg_margin=0.7", f"dataset.root={root}", "protocol.epochs=1"} <= set(overrides)
    assert not any(one.startswith(("seed=", "workers=", "paths.")) for one in overrides)
    files = json.loads(row["config_files"])
    assert {"loss/contrastive", "dataset/folder", "protocol/quick", "trunk/convnet"} <= set(files)
    assert all(len(digest) == 64 for digest in files.values())


def test_a_finished_run_is_skipped(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "loss=contrastive", *on_photos(photos())]
    assert run(argv) == 0
    [path] = Path("runs").rglob("row.json")
    before = path.stat().st_mtime_ns
    capsys.readouterr()
    assert run(argv) == 0
    output = capsys.readouterr().out
    assert "already done" in output
    assert output.count("\n") == 1
    assert path.stat().st_mtime_ns == before


def test_cfg_prints_the_composed_configuration_and_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "loss=triplet", "--cfg", "job"]) == 0
    assert "TripletMarginLoss" in capsys.readouterr().out
    assert run(["train", "-m", "loss=triplet,arcface", "--cfg", "job"]) == 0
    output = capsys.readouterr().out
    assert [line for line in output.splitlines() if line.startswith("#")] == ["# loss=triplet seed=0", "# loss=arcface seed=0"]
    assert not Path("runs").exists()


def test_several_values_are_several_runs_with_m_only(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "loss=untrained", "seed=0,1", *on_photos(photos())]
    assert "names several values" in refused(capsys, *argv)
    assert run([*argv, "-m"]) == 0
    assert [row["seed"] for row in rows_below("runs")] == [0, 1]


def test_the_columns_known_beforehand_are_written_before_the_run_and_removed_after_it(
    photos: Photos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", "loss=proxy_nca", *on_photos(photos())]
    with monkeypatch.context() as patch:
        patch.setattr("dmlbench.runs.experiment.fit", _disk_is_full)
        assert run(argv) == 1
    [file] = Path("runs").rglob(run_files.PENDING_ROW)
    pending = json.loads(file.read_text())
    assert "No space left on device" in (file.parent / run_files.ERROR).read_text()
    capsys.readouterr()
    assert run(["table"]) == 0
    assert "seed 0 missing: crashed: OSError: [Errno 28] No space left on device" in capsys.readouterr().out
    assert run(argv) == 0
    [row] = rows_below("runs")
    assert not {run_files.PENDING_ROW, run_files.ERROR} & {path.name for path in file.parent.iterdir()}
    assert list(row)[: len(pending)] == list(pending)
    assert {name for name in pending if pending[name] != row[name]} == {"status"}
    assert {name for name in row if column(name).role == "shared" or name.startswith("loss")} <= set(pending)


def _disk_is_full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_failed_method_is_run_again_only_on_request(
    photos: Photos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dmlbench.errors import MethodFailure

    def collapse(embeddings: object) -> None:
        raise MethodFailure("the embedding collapsed")

    argv = ["train", "loss=contrastive", *on_photos(photos())]
    with monkeypatch.context() as patch:
        patch.setattr("dmlbench.runs.experiment.refuse_collapse", collapse)
        assert run(argv) == 1
    assert run(argv) == 1
    [row] = rows_below("runs")
    assert row["status"] == "failed"
    assert run([*argv, "retry=failed"]) == 0
    [row] = rows_below("runs")
    assert row["status"] == "ok"
    capsys.readouterr()
    assert run([*argv, "retry=failed"]) == 0
    assert "already done" in capsys.readouterr().out


def test_paths_workers_and_cache_do_not_change_a_run(photos: Photos, tmp_path: Path) -> None:
    root = photos()
    assert run(["train", "loss=contrastive", *on_photos(root)]) == 0
    moved = tmp_path / "elsewhere" / "photos"
    moved.parent.mkdir()
    root.rename(moved)
    paths = ["workers=1", "paths.data=other", "paths.runs=runs/more", "dataset.cache=memmap"]
    assert run(["train", "loss=contrastive", *on_photos(moved), *paths]) == 0
    first, second = rows_below("runs")
    assert first["run_id"] == second["run_id"]
    assert first["map_at_r"] == second["map_at_r"]


def test_a_directory_of_runs_may_have_a_number_for_a_name(photos: Photos) -> None:
    assert run(["train", "loss=untrained", *on_photos(photos()), "paths.runs=2026"]) == 0
    assert len(rows_below("2026")) == 1
