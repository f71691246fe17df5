"""Losses and trunks of the user: where they are found, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cli_helpers import Photos, on_photos, refused, rows_below, write_config, write_own_loss

from dmlbench.cli import run


def test_a_file_of_the_user_may_not_have_the_name_of_a_shipped_one(capsys: pytest.CaptureFixture[str]) -> None:
    write_config("mine/loss/triplet.yaml", "label: Mine\n")
    sentence = refused(capsys, "train", "loss=triplet", "--config-dir", "mine")
    assert "mine/loss/triplet.yaml has the name of a file of dmlbench" in sentence


def test_a_loss_that_is_not_a_module_is_refused(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    Path("plain.py").write_text("class Plain:\n    def __call__(self, embeddings, labels):\n        return embeddings.sum()\n")
    write_config("mine/loss/plain.yaml", "label: P\nkind: classification\nmake: {_target_: plain.Plain}\n")
    sentence = refused(capsys, "train", "loss=plain", *on_photos(photos()), "--config-dir", "mine")
    assert "a loss must be a torch.nn.Module" in sentence


@pytest.mark.parametrize(
    ("yaml", "sentence"),
    [
        ("label: [x\nkind: pair\n", "line 2, column 5 is not valid YAML"),
        ("", "loss.kind is missing"),
        ("kind: pairs\n", "loss.kind is 'pairs', but 'pair' or"),
        (
            "kind: pair\nmake: {_target_: torch.nn.Softplus, beta: '${dataset.betta}'}\n",
            "loss.make.beta: Interpolation key 'dataset.betta' not found",
        ),
        ("kind: pair\nmake: {_target_: nope.Loss}\n", "loss.make._target_ 'nope.Loss' cannot be imported: No module named"),
        ("kind: pair\nmake: {_target_: torn.Loss}\n", "loss.make._target_ 'torn.Loss' cannot be imported: invalid syntax"),
    ],
    ids=["YAML", "empty", "kind", "interpolation", "module", "syntax"],
)
def test_a_broken_configuration_file_of_the_user_is_refused_with_its_problem(
    yaml: str, sentence: str, photos: Photos, capfd: pytest.CaptureFixture[str]
) -> None:
    write_config("mine/loss/broken.yaml", yaml)
    Path("torn.py").write_text("impor torch\n")
    assert sentence in refused(capfd, "train", "loss=broken", *on_photos(photos()), "--config-dir", "mine")


def test_the_module_of_a_loss_is_found_beside_its_yaml_in_another_directory(photos: Photos, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "beside.py").write_text(
        "import torch\n\n\nclass Spread(torch.nn.Module):\n"
        "    def forward(self, embeddings, labels):\n        return (embeddings @ embeddings.T).mean()\n"
    )
    write_config(f"{elsewhere}/loss/spread.yaml", "label: Spread\nkind: pair\nmake: {_target_: beside.Spread}\n")
    assert run(["train", "loss=spread", *on_photos(photos()), "--config-dir", str(elsewhere)]) == 0
    assert rows_below("runs")[0]["loss"] == "spread"


def test_an_edited_module_of_the_user_makes_a_new_run(photos: Photos) -> None:
    code = (
        "    def forward(self, embeddings, labels):\n        same = labels[:, None] == labels[None]\n"
        "        return (embeddings @ embeddings.T)[~same].mean()\n"
    )
    write_own_loss("pull", code)
    argv = ["train", "loss=pull", "--config-dir", "mine", *on_photos(photos())]
    for _ in range(2):
        sys.modules.pop("pull", None)  # as in a new process
        assert run(argv) == 0
    assert len(rows_below("runs")) == 1
    Path("pull.py").write_text(Path("pull.py").read_text().replace("~same", "~same & True"))
    del sys.modules["pull"]
    assert run(argv) == 0
    first, second = rows_below("runs")
    assert first["fingerprint"] == second["fingerprint"]
    assert first["method_digest"] != second["method_digest"]


def test_a_collapsed_embedding_is_a_failed_row(photos: Photos) -> None:
    Path("flat.py").write_text(
        "import torch\n\n\nclass Flat(torch.nn.Module):\n    def forward(self, images):\n"
        "        return images.mean() * 0 + torch.ones(len(images), 4, requires_grad=True)\n"
    )
    write_config("mine/trunk/flat.yaml", "label: Flat\nmake: {_target_: flat.Flat}\n")
    overrides = [one for one in on_photos(photos()) if not one.startswith("trunk")]
    assert run(["train", "loss=contrastive", "trunk=flat", *overrides, "--config-dir", "mine"]) == 1
    [row] = rows_below("runs")
    assert row["status"] == "failed"
    assert "the embedding collapsed" in row["reason"]


def test_a_loss_that_initialises_itself_with_numpy_gives_equal_rows(photos: Photos) -> None:
    code = (
        "    def __init__(self):\n        super().__init__()\n        import numpy as np\n"
        "        self.pull = torch.nn.Parameter(torch.tensor(np.random.randn(8)).float())\n\n"
        "    def forward(self, embeddings, labels):\n        return (embeddings @ self.pull).square().mean()\n"
    )
    write_own_loss("drawn", code, "label: D\nkind: classification\nmake: {_target_: drawn.Loss}\n")
    for name in ("a", "b"):
        overrides = [*on_photos(photos(root=name)), "--config-dir", "mine", f"paths.runs=runs/{name}"]
        assert run(["train", "loss=drawn", *overrides]) == 0
    first, second = rows_below("runs")
    assert first["final_loss"] == second["final_loss"]


def test_weights_of_another_architecture_are_refused(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    torch.save({"features.0.weight": torch.zeros(1)}, "weights.pth")
    overrides = [one for one in on_photos(photos()) if not one.startswith("trunk")]
    sentence = refused(capsys, "train", *overrides, "trunk=squeezenet1_0", "trunk.weights=weights.pth")
    assert "weights of another architecture" in sentence
