"""The command line as its user meets it: what it says, what it refuses, and with which status."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dmlbench.cli.helps import HELPS
from dmlbench.cli.training import sweep_words
from dmlbench.rows import is_shared
from PIL import Image
from rows_factory import COST, make_row

from dmlbench.cli import COMMANDS, run
from dmlbench.config.files import GROUPS, entries
from dmlbench.results.row_files import write_row

Photos = Callable[..., Path]
TINY = ("protocol=quick", "trunk=convnet", "protocol.epochs=1", "protocol.batch_size=8", "protocol.embedding_dim=8")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in an empty folder of its own, and leaves the search path as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """Make a tree root/<class>/<image> of tinted noise."""

    def make(classes: int = 8, per_class: int = 5, root: str = "photos", mode: str = "RGB") -> Path:
        generator = np.random.default_rng(0)
        for label in range(classes):
            folder = tmp_path / root / f"class{label:02}"
            folder.mkdir(parents=True)
            colour = generator.integers(0, 256, 3)
            for k in range(per_class):
                pixels = np.clip(colour + generator.integers(-50, 51, (24, 24, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).convert(mode).save(folder / f"{k}.png")
        return tmp_path / root

    return make


def folder(root: Path, *words: str) -> list[str]:
    return ["dataset=folder", f"dataset.root={root}", *TINY, *words]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must be refused: status 2, one sentence, no traceback, nothing trained."""
    assert run(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    assert not list(Path().rglob("row.json"))
    return error.removeprefix("dmlbench: ").strip()


def rows() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(Path("runs").rglob("row.json"))]


@pytest.mark.parametrize("words", [[], ["--help"], ["help"], ["-h"]])
def test_help_shows_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 0
    text = capsys.readouterr().out
    assert all(f"dmlbench {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_of_its_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert capsys.readouterr().out == HELPS[command]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "dmlbench has no command 'trian'; did you mean 'train'?"),
        (["train", "loss=softripple"], "loss=softripple is not known; did you mean 'softtriple'?"),
        (["train", "dataset=digit"], "dataset=digit is not known; did you mean 'digits'?"),
        (["train", "losss=arcface"], "losss is not known; did you mean 'loss'?"),
        (["train", "protocol.epoch=3"], "protocol.epoch is not known; did you mean 'epochs'?"),
        (["train", "+protocol.epoch=3"], "protocol.epoch is not known; did you mean 'epochs'?"),
        (["train", "+sead=3"], "sead is not known; did you mean 'seed'?"),
        (["train", "protocol.epochs=many"], "protocol.epochs is 'many', but a whole number is needed"),
        (["train", "seed=-1"], "seed is -1, but a whole number from 0 on is needed"),
        (["train", "loss=triplet", "loss.make.margn=0.1"], "loss.make.margn is not known; did you mean 'margin'?"),
        (["train", "loss=triplet", "+loss.make.margn=0.1"], "did you mean 'margin'?"),
        (["train", "loss=triplet", "loss.make.margin=wide"], "loss.make.margin is 'wide', but"),
        (
            ["train", "-m", "loss=multi_similarity,triplet,proxy_anchor", "loss.make.alpha=3", "--config-dir", "."],
            "loss.make.alpha is not known to loss=triplet; known: _target_, distance, margin (an argument that its file",
        ),
        (
            ["train", "-m", "loss=triplet,margin", "loss.make.margn=0.3"],
            "loss.make.margn is not known to loss=triplet, loss=margin; did you mean 'margin'?",
        ),
        (["tune", "sweep=seven", "loss.make.pos_margn=0"], "loss=cosface, loss=arcface; did you mean 'pos_margin'?"),
        (["train", "loss.lr_scale=fast"], "loss.lr_scale is 'fast', but a number is needed"),
        (["train", "optimizer.weight_decay=little"], "optimizer.weight_decay is 'little', but"),
        (["train", "device=tpu"], "device is 'tpu'; this machine has cpu"),
        (["train", "protocol.batch_size=62"], "no multiple of samples_per_class 4; use 60 or 64"),
        (["train", "protocol.batch_size=400"], "needs 100 classes, but the training split has 50"),
        (["train", "dataset=folder"], "dataset.root"),
        (["train", "dataset=folder", "dataset.root=nowhere"], "nowhere"),
        (["train", "seed=0,1"], "'seed=0,1' names several values; use `dmlbench sweep`, or `dmlbench train -m`"),
        (["data", "check", "folder", "dataset.root=a,b"], "'dataset.root=a,b' names several values"),
        (["train", "loss=3"], "must be a string"),
        (["train", "protocol.epochs"], "'protocol.epochs' cannot be read; write KEY=VALUE"),
        (["train", "dataset.train_images=1201"], "train_images is declared as 1,201 but the files under"),
        (["train", "trunk=resnet18", "trunk.weights=IMAGENET1K_V9"], "neither a file nor a published name"),
        (["table", "nowhere"], "nowhere does not exist"),
        (["table", "--fromat", "latex"], "dmlbench table does not know '--fromat'; did you mean '--format'?"),
        (["table"], "there is no finished run to make a table of"),
        (["table", "--oracle=yes"], "dmlbench table does not know '--oracle=yes'; did you mean '--oracle'?"),
        (["table", "--no-costs"], "dmlbench table does not know '--no-costs'; did you mean '--no-cost'?"),
        *((["table", name], f"{name} needs a value, such as {name}=") for name in ("--format", "--metrics", "--published")),
        *((["table", f"{name}="], f"{name} needs a value") for name in ("--format", "--metrics", "--published", "vary")),
        (["table", "--metrics", ","], "--metrics needs a value, such as --metrics=recall_at_1,map_at_r"),
        (["table", "--format", "--oracle"], "--format needs a value, such as --format=markdown"),
        (["list", "loses"], "dmlbench list does not know 'loses'; did you mean 'losses'?"),
        (["list", "losses", "--config-dir", "nowhere"], "--config-dir nowhere is no folder"),
        (["data", "prove", "digits"], "dmlbench data does not know 'prove'"),
        (["data", "check"], "needs the name of a data set"),
        (["data", "check", "digit"], "dataset=digit is not known; did you mean 'digits'?"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sentence in refused(capsys, *words)


def test_a_run_writes_a_row_that_stands_alone(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "loss=softtriple", *folder(photos())]) == 0
    said = capsys.readouterr().out
    [row] = rows()
    assert row["status"] == "ok"
    assert (row["dataset"], row["trunk"], row["loss"], row["protocol"]) == ("photos", "convnet", "softtriple", "quick")
    assert row["loss_make_num_classes"] == row["n_train_classes"] == 4
    assert row["sampler_samples_per_class"] == "${loss.samples_per_class}"
    assert row["loss_samples_per_class"] == 4
    assert 0 <= row["map_at_r"] <= row["recall_at_8"] <= 1
    assert row["n_queries"] == 20
    assert row["n_loss_parameters"] == 4 * 10 * 8
    for part in (
        "train 20 images of 4 classes",
        "ConvNet from scratch",
        "quick v1: 1 epochs",
        "SoftTriple",
        row["run_id"],
    ):
        assert part in said
    [place] = {path.parent for path in Path("runs").rglob("row.json")}
    left = {path.name for path in place.iterdir()}
    files = {"row.json", "history.jsonl", "words.json", "embeddings.safetensors", "per_query.safetensors", "model.pt", ".lock"}
    assert left == {*files, "classes.json"}
    names = json.loads((place / "classes.json").read_text())
    assert list(names.values()) == ["class04", "class05", "class06", "class07"]


def test_a_finished_run_is_skipped_and_said_so(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "loss=contrastive", *folder(photos())]
    assert run(words) == 0
    [path] = Path("runs").rglob("row.json")
    before = path.stat().st_mtime_ns
    capsys.readouterr()
    assert run(words) == 0
    assert "already done" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before


def test_cfg_prints_the_composed_configuration_and_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "loss=triplet", "--cfg", "job"]) == 0
    assert "TripletMarginLoss" in capsys.readouterr().out
    assert not Path("runs").exists() or not rows()


def test_a_sweep_runs_the_untrained_trunk_too_and_ends_with_its_table(
    photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sweep", "loss=contrastive,arcface", "seed=0,1", *folder(photos())]) == 0
    said = capsys.readouterr().out
    assert {(row["loss"], row["seed"]) for row in rows()} == {
        (loss, seed) for loss in ("untrained", "contrastive", "arcface") for seed in (0, 1)
    }
    assert len({row["fingerprint"] for row in rows()}) == 1
    assert "Untrained trunk" in said
    written = {path.suffix: path for path in Path("runs/tables").iterdir()}
    assert set(written) == {".md", ".tex", ".csv", ".html"}
    assert written[".md"].read_text().strip() in said


def test_the_same_run_alone_as_a_later_job_of_a_sweep_and_again_gives_equal_rows(photos: Photos) -> None:
    words = folder(photos())
    alone = ["train", "loss=softtriple", *words, "paths.runs=alone"]
    assert subprocess.run([sys.executable, "-m", "dmlbench", *alone], check=False, capture_output=True).returncode == 0
    assert run(["sweep", "loss=arcface,softtriple", *words]) == 0
    from dmlbench.results.row_files import find_rows, read_row

    [first] = [read_row(path) for path in find_rows(Path("alone"))]
    [second] = [row for path in find_rows(Path("runs")) if (row := read_row(path))["loss"] == "softtriple"]
    assert first.outcome == second.outcome


def test_a_methods_own_value_can_be_swept_over_beside_the_untrained_trunk(photos: Photos) -> None:
    assert run(["sweep", "loss=contrastive", "loss.make.neg_margin=0.5,1", *folder(photos(root="photos.v2"))]) == 0
    assert sorted((row["loss"], row.get("loss_make_neg_margin")) for row in rows() if row["loss"] != "untrained") == [
        ("contrastive", 0.5),
        ("contrastive", 1),
    ]
    assert len(rows()) == 3
    assert {path.name.startswith("photos.v2-") for path in Path("runs/tables").iterdir()} == {True}


def test_a_file_of_ones_own_may_not_have_the_name_of_a_shipped_one(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine/loss").mkdir(parents=True)
    Path("mine/loss/triplet.yaml").write_text("label: Mine\n")
    sentence = refused(capsys, "train", "loss=triplet", "--config-dir", "mine")
    assert "mine/loss/triplet.yaml has the name of a file of dmlbench" in sentence


def test_a_loss_whose_parameters_would_not_train_is_refused(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    Path("plain.py").write_text("class Plain:\n    def __call__(self, embeddings, labels):\n        return embeddings.sum()\n")
    Path("mine/loss").mkdir(parents=True)
    Path("mine/loss/plain.yaml").write_text("label: P\nkind: classification\nmake: {_target_: plain.Plain}\n")
    assert "a loss is a torch.nn.Module" in refused(capsys, "train", "loss=plain", *folder(photos()), "--config-dir", "mine")


def test_a_job_that_fails_stops_no_other(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    words = folder(photos(), "protocol.clip_grad_norm=null")
    Path("bad.py").write_text(
        "import torch\n\n\nclass Nan(torch.nn.Module):\n"
        "    def forward(self, embeddings, labels):\n        return embeddings.sum() * float('nan')\n\n\n"
        "class Crash(torch.nn.Module):\n"
        "    def forward(self, embeddings, labels):\n        raise RuntimeError('out of luck')\n"
    )
    Path("mine/loss").mkdir(parents=True)
    for name, word in (("Nan", "nans"), ("Crash", "crash")):
        Path(f"mine/loss/{word}.yaml").write_text(f"label: {name}\nkind: pair\nmake: {{_target_: bad.{name}}}\n")
    assert run(["sweep", "loss=nans,crash,contrastive", *words, "--config-dir", "mine"]) == 1
    output = capsys.readouterr()
    by_loss = {row["loss"]: row for row in rows()}
    assert set(by_loss) == {"untrained", "nans", "contrastive"}
    assert by_loss["nans"]["status"] == "failed"
    assert by_loss["nans"]["reason"] == "the loss is nan at epoch 1, step 1"
    assert by_loss["nans"].get("map_at_r") is None
    assert "--" in output.out
    assert "out of luck" in output.err
    [error] = Path("runs").rglob("error.txt")
    assert error.parent.parent.name == "crash"
    assert "RuntimeError: out of luck" in error.read_text()
    assert re.search(r"\| Crash \[\d\] +\| +0 \| +-- ", output.out)
    assert "seed 0 missing: accident: RuntimeError: out of luck" in output.out
    assert [file.parent for file in Path("runs").rglob("plan.json")] == [error.parent]


def test_a_plan_is_there_until_the_row_is_and_begins_as_the_row_does(
    photos: Photos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "loss=proxy_nca", *folder(photos())]
    with monkeypatch.context() as patch:
        patch.setattr("dmlbench.runs.experiment.train", _no_space)
        assert run(words) == 1
    [file] = Path("runs").rglob("plan.json")
    plan = json.loads(file.read_text())
    capsys.readouterr()
    assert run(["table"]) == 0
    assert r"seed 0 missing: accident: OSError: \[Errno 28\] No space left on device" in capsys.readouterr().out
    assert run(words) == 0
    [row] = rows()
    assert [path.name for path in file.parent.iterdir() if path.name in ("plan.json", "error.txt")] == []
    assert list(row)[: len(plan)] == list(plan)
    assert {name for name in plan if plan[name] != row[name]} == {"status"}
    assert {name for name in row if is_shared(name) or name.startswith("loss")} <= set(plan)


def _no_space(*given: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_collapsed_embedding_is_a_failed_row(photos: Photos) -> None:
    Path("flat.py").write_text(
        "import torch\n\n\nclass Flat(torch.nn.Module):\n    def forward(self, images):\n"
        "        return images.mean() * 0 + torch.ones(len(images), 4, requires_grad=True)\n"
    )
    Path("mine/trunk").mkdir(parents=True)
    Path("mine/trunk/flat.yaml").write_text("label: Flat\nmake: {_target_: flat.Flat}\n")
    words = [word for word in folder(photos()) if word != "trunk=convnet"]
    assert run(["train", "loss=contrastive", "trunk=flat", *words, "--config-dir", "mine"]) == 1
    [row] = rows()
    assert row["status"] == "failed"
    assert "the embedding collapsed" in row["reason"]


def test_a_failed_method_is_run_again_only_on_request(photos: Photos, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from dmlbench.errors import MethodFailure
    from dmlbench.runs import experiment

    def refuse(embeddings: object) -> None:
        raise MethodFailure("not today")

    words = ["train", "loss=contrastive", *folder(photos())]
    with monkeypatch.context() as patched:
        patched.setattr(experiment, "refuse_collapse", refuse)
        assert run(words) == 1
    assert run(words) == 1
    assert rows()[0]["reason"] == "not today"
    assert run([*words, "retry=failed"]) == 0
    [row] = rows()
    assert row["status"] == "ok"
    assert run([*words, "retry=failed"]) == 0
    assert "already done" in capsys.readouterr().out
    assert run([*words, "retry=faild"]) == 2
    assert "retry is 'faild'; it must be none or failed; did you mean 'failed'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "n"),
    [
        (["loss=triplet"], 1),
        (["loss=triplet,arcface", "seed=0,1,2"], 6),
        (["sweep=seven"], 8),
        (["sweep=seven", "seed=0,1", "protocol.epochs=1"], 16),
        (["sweep=seven", "loss=triplet,arcface"], 2),
        (["seed=range(0,5)", "loss.make.margin=0.1,0.2", "--multirun"], 10),
    ],
)
def test_the_jobs_of_a_sweep_are_counted_before_the_first(words: list[str], n: int) -> None:
    from dmlbench.runs.launcher import jobs_of

    names = jobs_of(words).names
    assert len(names) == len(set(names)) == n


def test_each_job_of_a_sweep_says_how_many_there_are(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", "loss=contrastive", "seed=0,1", *folder(photos())]) == 0
    said = capsys.readouterr().out
    assert all(f"[{number} of 4" in said for number in (1, 2, 3, 4))


def test_editing_the_file_of_ones_own_loss_is_a_new_run(photos: Photos) -> None:
    source = (
        "import torch\n\n\nclass Pull(torch.nn.Module):\n    def __init__(self, weight=1.0):\n        super().__init__()\n"
        "        self.weight = weight\n\n    def forward(self, embeddings, labels):\n"
        "        same = labels[:, None] == labels[None]\n"
        "        return self.weight * (embeddings @ embeddings.T)[~same].mean()\n"
    )
    Path("mine.py").write_text(source)
    Path("mine/loss").mkdir(parents=True)
    Path("mine/loss/pull.yaml").write_text("label: Pull\nkind: pair\nmake: {_target_: mine.Pull, weight: 1.0}\n")
    words = [sys.executable, "-m", "dmlbench", "train", "loss=pull", "--config-dir", "mine", *folder(photos())]
    assert subprocess.run(words, check=False, capture_output=True).returncode == 0
    assert len(rows()) == 1
    assert subprocess.run(words, check=False, capture_output=True).returncode == 0
    assert len(rows()) == 1
    Path("mine.py").write_text(source.replace("~same", "~same & True"))
    assert subprocess.run(words, check=False, capture_output=True).returncode == 0
    first, second = rows()
    assert first["fingerprint"] == second["fingerprint"]
    assert first["method_digest"] != second["method_digest"]


@pytest.mark.parametrize(
    ("yaml", "sentence"),
    [
        ("label: [x\nkind: pair\n", "line 2, column 5 is no YAML"),
        ("", "loss.kind is missing"),
        ("kind: pairs\n", "loss.kind is 'pairs', but 'pair' or"),
        (
            "kind: pair\nmake: {_target_: torch.nn.Softplus, beta: '${dataset.betta}'}\n",
            "loss.make.beta: Interpolation key 'dataset.betta' not found",
        ),
        ("kind: pair\nmake: {_target_: nope.Loss}\n", "loss.make._target_ 'nope.Loss' cannot be imported: No module named"),
        ("kind: pair\nmake: {_target_: torn.Loss}\n", "loss.make._target_ 'torn.Loss' cannot be imported: invalid syntax"),
    ],
)
def test_a_broken_file_of_ones_own_is_one_sentence(
    yaml: str, sentence: str, photos: Photos, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("mine/loss").mkdir(parents=True)
    Path("mine/loss/broken.yaml").write_text(yaml)
    Path("torn.py").write_text("impor torch\n")
    assert sentence in refused(capfd, "train", "loss=broken", *folder(photos()), "--config-dir", "mine")


def test_a_place_for_runs_that_cannot_be_made_is_one_sentence(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").write_text("a file, not a folder")
    assert "runs" in refused(capsys, "train", "loss=contrastive", *folder(photos()))


def test_ones_own_loss_is_found_beside_its_yaml_in_another_folder(photos: Photos, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    (elsewhere / "loss").mkdir(parents=True)
    (elsewhere / "beside.py").write_text(
        "import torch\n\n\nclass Spread(torch.nn.Module):\n"
        "    def forward(self, embeddings, labels):\n        return (embeddings @ embeddings.T).mean()\n"
    )
    (elsewhere / "loss" / "spread.yaml").write_text("label: Spread\nkind: pair\nmake: {_target_: beside.Spread}\n")
    assert run(["train", "loss=spread", *folder(photos()), "--config-dir", str(elsewhere)]) == 0
    assert rows()[0]["loss"] == "spread"


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16", "1", "P"])
def test_grey_transparent_16_bit_and_palette_images_are_converted(photos: Photos, mode: str) -> None:
    root = photos()
    for path in root.rglob("*.png"):
        image = Image.open(path)
        if mode == "I;16":
            converted = Image.fromarray(np.asarray(image.convert("L"), dtype=np.uint16) * 257)
        else:
            converted = image.convert(mode)
        converted.save(path)
    assert run(["train", "loss=contrastive", *folder(root)]) == 0


def truncated(root: Path) -> Path:
    path = root / "class01" / "broken.jpg"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:600])
    return path


def test_a_truncated_image_is_refused_by_name(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    path = truncated(photos())
    sentence = refused(capsys, "train", "loss=contrastive", *folder(path.parents[1]))
    assert "broken.jpg" in sentence
    assert "dataset.on_unreadable=skip" in sentence


def test_a_truncated_image_is_skipped_and_counted_on_request(photos: Photos) -> None:
    path = truncated(photos())
    assert run(["train", "loss=contrastive", *folder(path.parents[1], "dataset.on_unreadable=skip")]) == 0
    [row] = rows()
    assert (row["n_images_skipped"], row["n_train_images"]) == (1, 20)


def test_an_empty_class_folder_is_refused_by_name(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    (root / "empty").mkdir()
    assert "empty" in refused(capsys, "train", *folder(root))


def test_a_dangling_link_is_refused_by_name(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    (root / "class00" / "gone.png").symlink_to(root / "nowhere.png")
    assert "gone.png" in refused(capsys, "train", "loss=contrastive", *folder(root))


def test_a_loss_that_draws_its_start_from_numpy_gives_equal_rows(photos: Photos) -> None:
    Path("drawn.py").write_text(
        "import numpy as np\nimport torch\n\n\nclass Drawn(torch.nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.pull = torch.nn.Parameter(torch.tensor(np.random.randn(8)).float())\n\n"
        "    def forward(self, embeddings, labels):\n        return (embeddings @ self.pull).square().mean()\n"
    )
    Path("mine/loss").mkdir(parents=True)
    Path("mine/loss/drawn.yaml").write_text("label: D\nkind: classification\nmake: {_target_: drawn.Drawn}\n")
    for place in ("runs/a", "runs/b"):
        assert run(["train", "loss=drawn", *folder(photos(root=place[-1])), "--config-dir", "mine", f"paths.runs={place}"]) == 0
    first, second = rows()
    assert first["final_loss"] == second["final_loss"]


def test_fewer_classes_than_the_batch_needs_are_refused(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refused(capsys, "train", *folder(photos(), "protocol.batch_size=32"))
    assert "needs 8 classes, but the training split has 4" in sentence


def test_a_class_with_too_few_images_is_said_and_handled(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    for k in range(3):
        (root / "class00" / f"{k}.png").unlink()
    assert run(["train", "loss=contrastive", *folder(root)]) == 0
    assert "1 training classes have fewer than 4 images" in capsys.readouterr().out


def test_weights_of_another_architecture_are_refused(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    torch.save({"features.0.weight": torch.zeros(1)}, "weights.pth")
    words = [*folder(photos()), "trunk=squeezenet1_0", "trunk.weights=weights.pth"]
    words.remove("trunk=convnet")
    assert "holds the weights of another architecture" in refused(capsys, "train", *words)


def test_a_label_column_with_gaps_is_accepted_and_relabelled(photos: Photos) -> None:
    root = photos()
    lines = ["file,class_id"]
    lines += [f"{p.relative_to(root)},{int(p.parent.name[5:]) * 1000 + 7}" for p in sorted(root.rglob("*.png"))]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    assert run(["train", "loss=arcface", *folder(root, "dataset.manifest=labels.csv")]) == 0
    assert rows()[0]["loss_make_num_classes"] == 4


def test_paths_workers_and_cache_do_not_change_a_run(photos: Photos, tmp_path: Path) -> None:
    root = photos()
    assert run(["train", "loss=contrastive", *folder(root)]) == 0
    moved = tmp_path / "elsewhere" / "photos"
    moved.parent.mkdir()
    root.rename(moved)
    words = ["train", "loss=contrastive", *folder(moved), "workers=1", "paths.data=other", "paths.runs=runs/more"]
    assert run(words) == 0
    first, second = rows()
    assert first["run_id"] == second["run_id"]
    assert first["map_at_r"] == second["map_at_r"]


@pytest.mark.parametrize(
    ("typed", "handed"),
    [
        ([], [["--multirun", "sweep=seven"]]),
        (["dataset=cub", "seed=0,1"], [["--multirun", "sweep=seven", "dataset=cub", "seed=0,1"]]),
        (["loss=mine"], [["--multirun", "loss=untrained"], ["--multirun", "loss=mine"]]),
        (["loss=my-loss,glob(a*)"], [["--multirun", "loss=untrained"], ["--multirun", "loss=my-loss,glob(a*)"]]),
        (["loss=untrained,mine", "-m"], [["--multirun", "loss=untrained,mine"]]),
        (
            ["loss=mine", "loss.make.margin=1,2", "+loss.make.new=3", "seed=0,1"],
            [
                ["--multirun", "seed=0,1", "loss=untrained"],
                ["--multirun", "loss=mine", "loss.make.margin=1,2", "+loss.make.new=3", "seed=0,1"],
            ],
        ),
        (["+sweep=all"], [["--multirun", "sweep=all"]]),  # with the plus, Hydra would refuse a second value
    ],
)
def test_a_sweep_is_hydras_multirun_over_the_seven_losses_unless_others_are_named(
    typed: list[str], handed: list[list[str]]
) -> None:
    assert sweep_words(typed) == handed


@pytest.mark.parametrize("group", GROUPS)
def test_list_shows_every_file_of_a_group_with_its_opening(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", group]) == 0
    said = capsys.readouterr().out
    for name, opening in entries(GROUPS[group]):
        assert opening, f"{group}/{name} opens without a comment"
        assert name in said


def test_list_shows_ones_own_files_beside_ours(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine/loss").mkdir(parents=True)
    Path("mine/loss/pull.yaml").write_text("# Pull. Nobody, 2026.\nlabel: Pull\n")
    assert run(["list", "loss", "--config-dir", "mine"]) == 0
    said = capsys.readouterr().out
    assert "Pull. Nobody, 2026." in said
    assert "SoftTriple. Qian et al." in said


def test_data_check_says_counts_duplicates_and_small_classes(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    (root / "class07" / "copy.png").write_bytes((root / "class06" / "0.png").read_bytes())
    assert run(["data", "check", "folder", f"dataset.root={root}"]) == 0
    said = capsys.readouterr().out
    assert "20 images of 4 classes" in said
    assert "byte-identical" in said


@pytest.mark.parametrize("words", [["--help"], ["list", "losses"], ["table", "--help"]])
def test_help_and_list_load_neither_torch_nor_hydra_nor_pandas(words: list[str]) -> None:
    code = (
        "import sys; from dmlbench.cli import run; run(sys.argv[1:]); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'hydra', 'pandas', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code, *words], check=False, capture_output=True).returncode == 0


def test_python_m_dmlbench_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dmlbench", "trian"], check=False, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 2
    assert done.stderr == "dmlbench: dmlbench has no command 'trian'; did you mean 'train'?\n"
    assert done.stdout == ""


@pytest.fixture
def study() -> None:
    """Rows of two losses, two seeds each, with their costs."""
    for row in (make_row(0.5, loss=loss, seed=seed, **COST) for loss in ("triplet", "arcface") for seed in (0, 1)):
        write_row(Path("runs") / str(row["run_id"]), row)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--format", "htm"], "format=htm is no format of a table; did you mean 'html'?"),
        (["--explain", "--format", "htm"], "format=htm is no format of a table; did you mean 'html'?"),
        (["--published", "al"], "--published al is not known; did you mean 'all'?"),
        (["--metrics", "map_at_r,recal_at_1"], "metrics=recal_at_1: no row has this metric; did you mean 'recall_at_1'?"),
        (["--oracle"], "--oracle: no row has the column oracle_map_at_r"),
        (["vary=trunck"], "vary=trunck is no axis of a table; did you mean 'trunk'?"),
    ],
)
def test_a_misspelt_choice_of_a_table_is_refused_with_a_near_name(
    study: None, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["table", *words]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert sentence in said.err


def test_metrics_are_printed_in_the_order_that_was_typed(study: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table", "--metrics", "map_at_r, recall_at_1,map_at_r", "--no-cost"]) == 0
    assert re.search(r"\| Method +\| +n \| +MAP@R +\| +R@1 +\|\n", capsys.readouterr().out)


def test_costs_are_printed_unless_they_are_not_wanted(study: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table"]) == 0
    assert "| Train (s) | Images/s |" in capsys.readouterr().out
    assert run(["table", "--no-cost"]) == 0
    assert "Train (s)" not in capsys.readouterr().out


def test_tables_are_explained_instead_of_printed(study: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table", "--explain"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("All rows stand in one table: 4 rows, 2 methods, seeds 0, 1.\n")
    assert "|" not in said


@pytest.mark.parametrize(
    ("form", "begins"), [("html", "<!doctype html>"), ("latex", "% needs"), ("csv", "dataset,"), ("markdown", "Digit")]
)
def test_a_table_is_printed_in_the_format_that_was_typed(
    study: None, form: str, begins: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["table", "--format", form]) == 0
    assert capsys.readouterr().out.startswith(begins)
