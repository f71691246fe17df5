"""Training as a pure function of its plan: alone, again, and after a break."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dmlbench.config.plan import Plan
from dmlbench.config.schema import Dataset, Method, Protocol, Trunk
from dmlbench.data.loader import Batches
from dmlbench.data.split import Split
from dmlbench.errors import MethodFailure
from dmlbench.losses.objective import Objective
from dmlbench.models.embedder import Embedder, build_embedder
from dmlbench.runs.experiment import initialised_objective
from dmlbench.training.trainer import CHECKPOINT, History, lr_factor, parameter_groups, train

CLASSES, PER_CLASS = 6, 5
SOFTTRIPLE = {
    "_target_": "pytorch_metric_learning.losses.SoftTripleLoss",
    "num_classes": CLASSES,
    "embedding_size": 8,
    "centers_per_class": 2,
}


@pytest.fixture
def split(tmp_path: Path) -> Split:
    generator = np.random.default_rng(0)
    lines = []
    for label in range(2 * CLASSES):
        colour = generator.integers(0, 256, 3)
        for k in range(PER_CLASS):
            path = f"{label}_{k}.png"
            noise = generator.integers(-40, 41, (20, 24, 3))
            Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(tmp_path / path)
            seen = label < CLASSES
            roles = {"train": seen, "val": False, "query": not seen, "gallery": not seen}
            lines.append({"path": path, "label": label, "class_name": str(label), **roles})
    return Split(pd.DataFrame(lines), tmp_path)


def plan(folder: Path, **changes: Any) -> Plan:
    protocol = Protocol(
        name="tiny",
        version=1,
        epochs=3,
        batch_size=6,
        embedding_dim=8,
        image_px=16,
        freeze_batch_norm=False,
        lr=1e-2,
        head_lr_scale=2,
    )
    given: dict[str, Any] = {
        "dataset": Dataset("colours", "Colours", (1, 2), {}),
        "trunk": Trunk("convnet", "ConvNet", {"_target_": "dmlbench.models.backbones.convnet.ConvNet", "channels": [4, 8]}),
        "method": Method("softtriple", "SoftTriple", "classification", 2, lr_scale=3, make=SOFTTRIPLE),
        "protocol": dataclasses.replace(protocol, **changes.pop("protocol", {})),
        "sampler": {"_target_": "dmlbench.data.samplers.m_per_class", "samples_per_class": 2},
        "optimizer": {"_target_": "torch.optim.AdamW", "weight_decay": 0.1},
        "seed": 0,
        "shared": {"dataset": "colours"},
        "runs": folder,
    }
    made = Plan(**(given | changes))
    made.folder.mkdir(parents=True, exist_ok=True)
    return made


def trained(made: Plan, split: Split) -> tuple[Embedder, Objective, History]:
    model, objective = build_embedder(made), initialised_objective(made)
    assert objective is not None
    history = train(model, objective, split, Batches(split.paths(), made.protocol, made.workers), made)
    return model, objective, history


def weights(model: Embedder, objective: Objective) -> dict[str, torch.Tensor]:
    return {**model.state_dict(), **{f"objective.{name}": value for name, value in objective.state_dict().items()}}


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.fixture
def reference(tmp_path: Path, split: Split) -> dict[str, torch.Tensor]:
    model, objective, _ = trained(plan(tmp_path / "reference"), split)
    return weights(model, objective)


def test_trunk_head_and_the_losss_own_parameters_all_move(tmp_path: Path, split: Split) -> None:
    made = plan(tmp_path)
    model, objective = build_embedder(made), initialised_objective(made)
    assert objective is not None
    before = {name: value.clone() for name, value in weights(model, objective).items()}
    train(model, objective, split, Batches(split.paths(), made.protocol), made)
    for name, value in weights(model, objective).items():
        assert not torch.equal(value, before[name]), name


def test_the_same_plan_gives_the_same_weights_whatever_was_drawn_before(
    tmp_path: Path, split: Split, reference: dict[str, torch.Tensor]
) -> None:
    torch.manual_seed(12345)
    np.random.seed(7)
    torch.rand(3)
    model, objective, _ = trained(plan(tmp_path / "again"), split)
    assert_same(weights(model, objective), reference)


def test_the_number_of_loading_processes_changes_nothing(
    tmp_path: Path, split: Split, reference: dict[str, torch.Tensor]
) -> None:
    model, objective, _ = trained(plan(tmp_path / "workers", workers=2), split)
    assert_same(weights(model, objective), reference)


class PowerCutError(Exception):
    pass


@pytest.mark.parametrize("steps", [4, 8, 14])
def test_a_run_that_broke_off_resumes_to_the_same_weights(
    tmp_path: Path, split: Split, reference: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    made = plan(tmp_path / "broken")
    step = torch.optim.AdamW.step
    calls = 0

    def failing(self: torch.optim.AdamW, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > steps:
            raise PowerCutError
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", failing)
        with pytest.raises(PowerCutError):
            trained(made, split)
    model, objective, history = trained(made, split)
    assert_same(weights(model, objective), reference)
    assert [epoch["epoch"] for epoch in history.epochs] == [1, 2, 3]
    assert history.n_resumed == (1 if steps >= 5 else 0)  # an epoch has five steps
    assert len((made.folder / "history.jsonl").read_text().splitlines()) == 3


def test_a_torn_checkpoint_is_said_and_the_run_starts_anew(
    tmp_path: Path, split: Split, reference: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    made = plan(tmp_path / "torn")
    trained(made, split)
    checkpoint = made.folder / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    model, objective, history = trained(made, split)
    assert "cannot be read; the run starts anew" in "".join(capsys.readouterr())
    assert history.n_resumed == 0
    assert_same(weights(model, objective), reference)


def test_another_seed_gives_other_weights(tmp_path: Path, split: Split, reference: dict[str, torch.Tensor]) -> None:
    model, objective, _ = trained(plan(tmp_path / "other", seed=1), split)
    assert not torch.equal(model.projection.weight, reference["projection.weight"])
    assert not torch.equal(objective.loss.fc, reference["objective.loss.fc"])


def test_every_method_starts_from_the_same_trunk_and_projection(tmp_path: Path) -> None:
    make = {"_target_": "pytorch_metric_learning.losses.ContrastiveLoss"}
    pair = plan(tmp_path, method=Method("contrastive", "C", "pair", make=make))
    assert_same(build_embedder(plan(tmp_path)).state_dict(), build_embedder(pair).state_dict())


def test_each_group_has_its_own_learning_rate_and_the_method_its_weight_decay(tmp_path: Path) -> None:
    method = Method("s", "S", "classification", 2, lr_scale=3, weight_decay=0.0, make=SOFTTRIPLE)
    made = plan(tmp_path, method=method)
    objective = initialised_objective(made)
    assert objective is not None
    groups = parameter_groups(build_embedder(made), objective, made)
    assert [group["lr"] for group in groups] == pytest.approx([0.01, 0.02, 0.03])
    assert [group.get("weight_decay") for group in groups] == [None, None, 0.0]
    assert [id(parameter) for parameter in groups[2]["params"]] == [id(objective.loss.fc)]


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(tmp_path: Path, split: Split) -> None:
    with pytest.raises(MethodFailure, match=r"the loss is (nan|inf) at epoch \d, step \d"):
        trained(plan(tmp_path, protocol={"lr": 1e30}), split)


def test_clipping_bounds_a_step_of_plain_gradient_descent(tmp_path: Path, split: Split) -> None:
    sgd = {"_target_": "torch.optim.SGD"}
    clipped = {"clip_grad_norm": 1e-3, "lr": 1.0, "head_lr_scale": 1.0, "epochs": 1}
    method = Method("s", "S", "classification", 2, lr_scale=1, make=SOFTTRIPLE)
    made = plan(tmp_path, optimizer=sgd, protocol=clipped, method=method)
    before = dict(build_embedder(made).named_parameters())
    model, _, _ = trained(made, split)
    moved = math.sqrt(sum((p - before[name]).square().sum().item() for name, p in model.named_parameters()))
    assert 0 < moved <= 5 * 1e-3 * 1.001  # five steps


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [1, 1, 1, 1, 1, 1]),
        ({"schedule": "step", "step_epochs": 1, "step_gamma": 0.5}, [1, 1, 0.5, 0.5, 0.25, 0.25]),
        ({"schedule": "cosine"}, [(1 + math.cos(math.pi * k / 6)) / 2 for k in range(6)]),
        ({"warmup_epochs": 2}, [0.25, 0.5, 0.75, 1, 1, 1]),
        ({"warmup_epochs": 1, "schedule": "step", "step_epochs": 2, "step_gamma": 0.1}, [0.5, 1, 1, 1, 0.1, 0.1]),
    ],
)
def test_the_learning_rate_follows_its_schedule(tmp_path: Path, changes: dict[str, Any], expected: list[float]) -> None:
    protocol = plan(tmp_path, protocol=changes).protocol
    assert [lr_factor(step, 2, protocol) for step in range(6)] == pytest.approx(expected)


def test_each_image_gets_a_crop_of_its_own_even_where_it_stands_twice_in_a_batch(split: Split, tmp_path: Path) -> None:
    protocol = plan(tmp_path).protocol
    batches = Batches(split.paths(), protocol)
    [(images, ids)] = list(batches.training(iter([[0, 0, 1]]), seed=0))
    assert ids.tolist() == [0, 0, 1]
    assert images.shape == (3, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert not torch.equal(images[0], images[1])


def test_a_crop_depends_on_seed_step_and_position_alone(split: Split, tmp_path: Path) -> None:
    protocol = plan(tmp_path).protocol
    both = list(Batches(split.paths(), protocol).training(iter([[0, 1], [2, 3]]), seed=0))
    [(second, _)] = list(Batches(split.paths(), protocol).training(iter([[2, 3]]), seed=0, first=1))
    assert torch.equal(both[1][0], second)
    [(other, _)] = list(Batches(split.paths(), protocol).training(iter([[2, 3]]), seed=1, first=1))
    assert not torch.equal(other, second)


def test_test_images_are_cropped_at_the_centre_without_chance(split: Split, tmp_path: Path) -> None:
    protocol = plan(tmp_path).protocol
    first, again = (torch.cat([b for b, _ in Batches(split.paths(), protocol).test([3, 4])]) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (2, 3, 16, 16)
