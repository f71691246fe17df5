"""Files in a run directory that do not belong there: links, and files of another run. They are refused in one sentence."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from dmlbench.cli import run
from dmlbench.config.compose import compose, resolve
from dmlbench.results.row_files import find_rows
from dmlbench.runs.studies import requested_study

TINY = (
    *("loss=softtriple", "trunk=convnet", "trunk.make.channels=[4,8]", "protocol=quick", "protocol.epochs=1"),
    *("protocol.embedding_dim=8", "dataset=digits", "dataset.make.images_per_class=6", "loss.samples_per_class=2"),
    *("dataset.train_images=150", "dataset.query_images=150", "dataset.gallery_images=150", "protocol.batch_size=12"),
)
FOLDS = ("protocol.fold=all", "protocol.folds=2")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with data and a finished run of two models, one per fold."""
    folder = tmp_path_factory.mktemp("trained")
    assert run(["train", *TINY, *FOLDS, f"paths.data={folder}/data", f"paths.runs={folder}/runs"]) == 0
    return folder


@pytest.fixture(autouse=True)
def own_directory(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in a directory with the data."""
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(trained / "data")


@pytest.fixture
def folder(trained: Path) -> Path:
    """A copy of the directory of the finished run."""
    shutil.copytree(trained / "runs", "runs")
    [row] = find_rows(Path("runs"))
    return row.parent


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory elsewhere, with files that have the names of those of a run."""
    for name in ("checkpoint.pt", "plan.json", "error.txt", "best.pt", "model.pt", "0001/notes.txt", "fold0/notes.txt"):
        file = tmp_path / "victim" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"mine: {name}")
    return tmp_path / "victim"


def contents(directory: Path) -> dict[str, str]:
    return {str(file): file.read_text() for file in sorted(directory.rglob("*")) if file.is_file()}


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """Return the one sentence with which a command is refused."""
    capsys.readouterr()
    assert run(list(command)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def train_refused(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    """Return the sentence with which training is refused."""
    return refused(capsys, "train", *TINY, *overrides)


def replace_by_link(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.symlink_to(target)


def edit(folder: Path, **columns: Any) -> None:
    file = folder / "row.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **columns}))


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("inside", ["fold0", "evaluate-0", "."])
def test_a_linked_directory_in_a_run_directory_is_refused_and_nothing_behind_it_changes(
    folder: Path, victim: Path, capsys: pytest.CaptureFixture[str], inside: str, finished: bool
) -> None:
    before = contents(victim)
    if not finished:
        (folder / "row.json").unlink()
    replace_by_link(folder / inside if inside != "." else folder, victim)
    sentence = train_refused(capsys, *FOLDS)
    assert f"{folder / inside} is a link" in sentence
    assert "remove it" in sentence
    assert contents(victim) == before


def test_a_linked_directory_is_refused_by_evaluate(folder: Path, victim: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(victim)
    replace_by_link(folder / "fold1", victim)
    assert f"{folder}/fold1 is a link" in refused(capsys, "evaluate", str(folder))
    (folder / "fold1").unlink()
    assert "1 of 2 models" in refused(capsys, "evaluate", str(folder))
    assert [*Path("runs").rglob("evaluate-*")] == []
    assert contents(victim) == before


@pytest.mark.parametrize("inside", ["trials", "trials/0001", "trials/0001/fold0", "."])
def test_a_linked_directory_in_a_study_is_refused_and_nothing_behind_it_changes(
    victim: Path, capsys: pytest.CaptureFixture[str], inside: str
) -> None:
    pytest.importorskip("optuna")
    before = contents(victim)
    composed = compose([*TINY, "tuning.trials=1", "tuning.only=true"])
    study = requested_study(composed, resolve(composed))
    assert study is not None
    link = study.folder / inside
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    sentence = refused(capsys, "tune", *TINY, "trials=1")
    assert f"{Path(os.path.relpath(link))} is a link" in sentence
    assert contents(victim) == before


@pytest.mark.parametrize("name", ["row.json", "error.txt", "plan.json", "checkpoint.pt", "fold0/checkpoint.pt"])
def test_a_directory_in_the_place_of_a_file_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (folder / "row.json").unlink()
    (folder / name).mkdir()
    assert f"{folder / name} is a directory" in train_refused(capsys, *FOLDS)


@pytest.mark.parametrize(
    ("column", "value"),
    [("run_id", "0-0-0"), ("loss", "arcface"), ("seed", 7), ("method_digest", "01234567"), ("fingerprint", "01234567")],
)
def test_the_row_of_another_run_does_not_count_as_done(
    folder: Path, capsys: pytest.CaptureFixture[str], column: str, value: object
) -> None:
    edit(folder, **{column: value})
    sentence = train_refused(capsys, *FOLDS)
    assert f"{folder}/row.json is the row of another run" in sentence
    assert f"{column} is {value!r}" in sentence
    assert "delete it" in sentence


def test_the_finished_run_is_already_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", *TINY, *FOLDS]) == 0
    assert "already done" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "options"), [("embeddings.safetensors", ()), ("model.pt", ("layer=pooled",))])
def test_a_file_of_another_model_is_not_evaluated(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, options: tuple[str, ...]
) -> None:
    shutil.copy(folder / "fold0" / name, folder / "fold1" / name)
    sentence = refused(capsys, "evaluate", str(folder), *options)
    assert f"{folder}/fold0/{name} and 1 more" in sentence
    assert f"{name.partition('.')[0].removesuffix('s')}" in sentence
    assert [*Path("runs").rglob("evaluate-*")] == []


def test_a_row_without_digests_is_evaluated(folder: Path) -> None:
    columns = json.loads((folder / "row.json").read_text())
    assert len(columns["embeddings_sha256"]) == len(columns["model_sha256"]) == 64
    del columns["embeddings_sha256"], columns["model_sha256"]  # as in a row of an earlier version
    (folder / "row.json").write_text(json.dumps(columns))
    shutil.copy(folder / "fold0" / "embeddings.safetensors", folder / "fold1" / "embeddings.safetensors")
    assert run(["evaluate", str(folder)]) == 0
    [evaluation] = Path("runs").rglob("evaluate-*/row.json")
    assert "embeddings_sha256" not in json.loads(evaluation.read_text())


def test_a_row_has_the_arguments_of_the_sampler_without_references(folder: Path) -> None:
    columns = json.loads((folder / "row.json").read_text())
    assert json.loads(columns["resolved_sampler"])["samples_per_class"] == 2
