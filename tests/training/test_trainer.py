"""Training is a pure function of its plan, also after an interruption."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dmlbench.config.plan import Plan
from dmlbench.config.schema import Method
from dmlbench.data.loader import Batches
from dmlbench.data.split import Split
from dmlbench.errors import MethodFailure, UserError
from dmlbench.losses.objective import Objective
from dmlbench.models.embedder import Embedder, build_embedder
from dmlbench.results import run_files
from dmlbench.training.checkpoint import History
from dmlbench.training.epoch_sampler import EpochSampler, training_labels
from dmlbench.training.trained_model import initial_objective
from dmlbench.training.trainer import out_of_patience, train

MakePlan = Callable[..., Plan]
STEPS_PER_EPOCH = 5  # 30 training images in batches of 6


def trained(plan: Plan, split: Split) -> tuple[Embedder, Objective, History]:
    model, objective = build_embedder(plan), initial_objective(plan)
    assert objective is not None
    history = train(model, objective, split, Batches(split.paths(), plan.protocol, plan.workers), plan)
    return model, objective, history


def weights(model: Embedder, objective: Objective) -> dict[str, torch.Tensor]:
    return {**model.state_dict(), **{f"objective.{name}": value for name, value in objective.state_dict().items()}}


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, make_plan: MakePlan, colours: Split) -> dict[str, torch.Tensor]:
    """The weights after a training without interruption."""
    model, objective, _ = trained(make_plan(tmp_path_factory.mktemp("reference")), colours)
    return weights(model, objective)


# The same plan gives the same weights


def test_trunk_head_and_the_parameters_of_the_loss_are_trained(
    tmp_path: Path, make_plan: MakePlan, colours: Split, reference: dict[str, torch.Tensor]
) -> None:
    plan = make_plan(tmp_path)
    objective = initial_objective(plan)
    assert objective is not None
    before = weights(build_embedder(plan), objective)
    assert before.keys() == reference.keys()
    for name, value in before.items():
        assert not torch.equal(value, reference[name]), name


def test_the_weights_do_not_depend_on_the_state_of_the_global_generators(
    tmp_path: Path, make_plan: MakePlan, colours: Split, reference: dict[str, torch.Tensor]
) -> None:
    torch.manual_seed(12345)
    np.random.seed(7)
    torch.rand(3)
    model, objective, _ = trained(make_plan(tmp_path), colours)
    assert_same(weights(model, objective), reference)


def test_the_weights_do_not_depend_on_the_number_of_processes_that_load_images(
    tmp_path: Path, make_plan: MakePlan, colours: Split, reference: dict[str, torch.Tensor]
) -> None:
    model, objective, _ = trained(make_plan(tmp_path, workers=2), colours)
    assert_same(weights(model, objective), reference)


def test_another_seed_gives_other_weights(
    tmp_path: Path, make_plan: MakePlan, colours: Split, reference: dict[str, torch.Tensor]
) -> None:
    model, objective, _ = trained(make_plan(tmp_path, seed=1), colours)
    assert not torch.equal(model.projection.weight, reference["projection.weight"])
    assert not torch.equal(objective.loss.fc, reference["objective.loss.fc"])


def test_every_method_starts_from_the_same_trunk_and_projection(tmp_path: Path, make_plan: MakePlan) -> None:
    make = {"_target_": "pytorch_metric_learning.losses.ContrastiveLoss"}
    other = make_plan(tmp_path, method=Method("contrastive", "C", "pair", make=make))
    assert_same(build_embedder(make_plan(tmp_path)).state_dict(), build_embedder(other).state_dict())


# Interruption


class PowerFailureError(Exception):
    pass


@pytest.mark.parametrize("steps", [STEPS_PER_EPOCH - 1, 2 * STEPS_PER_EPOCH - 2, 3 * STEPS_PER_EPOCH - 1])
def test_an_interrupted_training_resumes_to_the_same_weights(
    tmp_path: Path,
    make_plan: MakePlan,
    colours: Split,
    reference: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
) -> None:
    plan = make_plan(tmp_path)
    step = torch.optim.AdamW.step
    calls = 0

    def failing(self: torch.optim.AdamW, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > steps:
            raise PowerFailureError
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", failing)
        with pytest.raises(PowerFailureError):
            trained(plan, colours)
    model, objective, history = trained(plan, colours)
    assert_same(weights(model, objective), reference)
    assert [epoch["epoch"] for epoch in history.epochs] == [1, 2, 3]
    assert history.n_resumed == (1 if steps >= STEPS_PER_EPOCH else 0)
    assert len((plan.folder / run_files.HISTORY).read_text().splitlines()) == 3


def test_a_damaged_checkpoint_is_reported_and_training_starts_from_the_first_step(
    tmp_path: Path,
    make_plan: MakePlan,
    colours: Split,
    reference: dict[str, torch.Tensor],
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = make_plan(tmp_path)
    trained(plan, colours)
    checkpoint = plan.folder / run_files.CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    model, objective, history = trained(plan, colours)
    printed = "".join(capsys.readouterr())
    assert "checkpoint.pt cannot be read: " in printed
    assert "; training starts from the first step" in printed
    assert history.n_resumed == 0
    assert_same(weights(model, objective), reference)


def test_a_training_does_not_resume_from_the_checkpoint_of_another_run_or_fold(
    tmp_path: Path, make_plan: MakePlan, colours: Split
) -> None:
    plan = make_plan(tmp_path, protocol={"epochs": 1})
    trained(plan, colours)
    for other in ({"run_id": "other"}, {"seed": 1}):
        changed = make_plan(tmp_path, protocol={"epochs": 1}, **other)
        if changed.folder != plan.folder:
            shutil.copy(plan.folder / run_files.CHECKPOINT, changed.folder)
        with pytest.raises(UserError, match=r"checkpoint\.pt belongs to another training \(run, trained with seed 0\)"):
            trained(changed, colours)


# Optimization


def test_a_loss_that_is_not_finite_ends_training_with_the_number_of_the_step(
    tmp_path: Path, make_plan: MakePlan, colours: Split
) -> None:
    with pytest.raises(MethodFailure, match=r"^the loss is (nan|inf) at epoch \d, step \d$"):
        trained(make_plan(tmp_path, protocol={"lr": 1e30}), colours)


def test_clipping_limits_the_length_of_a_step_of_plain_gradient_descent(
    tmp_path: Path, make_plan: MakePlan, colours: Split
) -> None:
    clipped = {"clip_grad_norm": 1e-3, "lr": 1.0, "head_lr_scale": 1.0, "epochs": 1}
    softtriple = make_plan(tmp_path).method
    method = Method("s", "S", "classification", 2, lr_scale=1, make=softtriple.make)
    plan = make_plan(tmp_path, optimizer={"_target_": "torch.optim.SGD"}, protocol=clipped, method=method)
    before = dict(build_embedder(plan).named_parameters())
    model, _, _ = trained(plan, colours)
    distance = math.sqrt(sum((p - before[name]).square().sum().item() for name, p in model.named_parameters()))
    assert 0 < distance <= STEPS_PER_EPOCH * 1e-3 * 1.001


def test_clipping_by_value_limits_every_element_of_a_step_of_plain_gradient_descent(
    tmp_path: Path, make_plan: MakePlan, colours: Split
) -> None:
    clipped = {"clip_grad_value": 1e-4, "lr": 1.0, "head_lr_scale": 1.0, "epochs": 1}
    method = Method("s", "S", "classification", 2, lr_scale=1, make=make_plan(tmp_path).method.make)
    plan = make_plan(tmp_path, optimizer={"_target_": "torch.optim.SGD"}, protocol=clipped, method=method)
    before = dict(build_embedder(plan).named_parameters())
    model, _, _ = trained(plan, colours)
    moved = max((p - before[name]).abs().max().item() for name, p in model.named_parameters())
    assert 1e-4 * 0.9 < moved <= STEPS_PER_EPOCH * 1e-4 * 1.001


def test_the_trunk_is_not_trained_in_epochs_for_the_head_only_and_is_trained_after_them(
    tmp_path: Path, make_plan: MakePlan, colours: Split
) -> None:
    def moved(epochs: int) -> tuple[bool, bool]:
        plan = make_plan(tmp_path / str(epochs), protocol={"head_only_epochs": 2, "epochs": epochs})
        before = build_embedder(plan)
        model, _, _ = trained(plan, colours)
        parts = ((before.trunk.parameters(), model.trunk.parameters()), (before.head_parameters(), model.head_parameters()))
        trunk, head = (any(not torch.equal(a, b) for a, b in zip(*pair, strict=True)) for pair in parts)
        return trunk, head

    assert moved(2) == (False, True)
    assert moved(3) == (True, True)


# Epochs and patience


def test_an_epoch_has_as_many_steps_as_the_protocol_says(tmp_path: Path, make_plan: MakePlan, colours: Split) -> None:
    labels = training_labels(colours)
    batches = EpochSampler(make_plan(tmp_path, protocol={"steps_per_epoch": 12}), labels)(0)
    assert batches.shape == (12, 6)
    one_pass = EpochSampler(make_plan(tmp_path), labels)(0)
    np.testing.assert_array_equal(one_pass, batches[:STEPS_PER_EPOCH])


@pytest.mark.parametrize(
    ("scores", "stops"), [([3, 5, 4, 4], False), ([3, 5, 4, 4, 4], True), ([5, 4, 4], False), ([3, 4, 5], False), ([], False)]
)
def test_training_stops_when_the_best_epoch_is_more_than_patience_epochs_ago(
    tmp_path: Path, make_plan: MakePlan, scores: list[int], stops: bool
) -> None:
    """Every second epoch is validated and the patience is 5 epochs, so a best epoch 4 epochs ago continues, and 6 stops."""
    evaluations = [{"epoch": 2 * i, "validation_map_at_r": score} for i, score in enumerate(scores)]
    protocol = make_plan(tmp_path, protocol={"patience": 5, "selection": "validation"}).protocol
    assert out_of_patience(History(evaluations=evaluations), protocol) is stops


# Crops


def test_an_image_that_occurs_twice_in_a_batch_has_two_different_crops(
    tmp_path: Path, make_plan: MakePlan, colours: Split
) -> None:
    batches = Batches(colours.paths(), make_plan(tmp_path).protocol)
    [(images, ids)] = list(batches.training(iter([[0, 0, 1]]), seed=0))
    assert ids.tolist() == [0, 0, 1]
    assert images.shape == (3, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert not torch.equal(images[0], images[1])


def test_a_crop_depends_only_on_seed_step_and_position(tmp_path: Path, make_plan: MakePlan, colours: Split) -> None:
    protocol = make_plan(tmp_path).protocol
    both = list(Batches(colours.paths(), protocol).training(iter([[0, 1], [2, 3]]), seed=0))
    [(second, _)] = list(Batches(colours.paths(), protocol).training(iter([[2, 3]]), seed=0, first=1))
    assert torch.equal(both[1][0], second)
    [(other, _)] = list(Batches(colours.paths(), protocol).training(iter([[2, 3]]), seed=1, first=1))
    assert not torch.equal(other, second)


def test_test_images_have_the_same_centre_crop_every_time(tmp_path: Path, make_plan: MakePlan, colours: Split) -> None:
    protocol = make_plan(tmp_path).protocol
    first, again = (torch.cat([b for b, _ in Batches(colours.paths(), protocol).test([3, 4])]) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (2, 3, 16, 16)
