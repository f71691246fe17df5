"""Learning rates of trunk, head and loss, and their schedules."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dmlbench.config.learning_rates import learning_rates
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Method
from dmlbench.data.loader import Batches
from dmlbench.data.split import Split
from dmlbench.errors import MethodFailure
from dmlbench.models.embedder import build_embedder
from dmlbench.training.optimization import lr_factor, make_optimizer, parameter_groups, refuse_non_finite
from dmlbench.training.trained_model import build_model, fit, initial_objective


def test_trunk_head_and_loss_have_their_own_learning_rate_and_the_loss_its_own_weight_decay(
    tmp_path: Path, make_plan: Callable[..., Plan]
) -> None:
    make = make_plan(tmp_path).method.make
    plan = make_plan(tmp_path, method=Method("s", "S", "classification", 2, lr_scale=3, weight_decay=0.0, make=make))
    objective = initial_objective(plan)
    assert objective is not None
    groups = parameter_groups(build_embedder(plan), objective, plan)
    assert [group["lr"] for group in groups] == pytest.approx([0.01, 0.02, 0.03])
    assert [group.get("weight_decay") for group in groups] == [None, None, 0.0]
    assert [id(parameter) for parameter in groups[2]["params"]] == [id(objective.loss.fc)]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, (0.01, 0.02, 0.03)),
        ({"lr": 0.1}, (0.1, 0.2, 0.3)),
        ({"head_lr_scale": 5.0}, (0.01, 0.05, 0.03)),
        ({"lr": 0.0, "head_lr_scale": 5.0}, (0.0, 0.0, 0.0)),
    ],
)
def test_a_method_may_have_its_own_learning_rates(
    tmp_path: Path, make_plan: Callable[..., Plan], own: dict[str, float], expected: tuple[float, float, float]
) -> None:
    plan = make_plan(tmp_path)
    rates = learning_rates(dataclasses.replace(plan.method, **own), plan.protocol)
    assert dataclasses.astuple(rates) == pytest.approx(expected)


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
def test_the_learning_rate_follows_its_schedule(
    tmp_path: Path, make_plan: Callable[..., Plan], changes: dict[str, Any], expected: list[float]
) -> None:
    protocol = make_plan(tmp_path, protocol=changes).protocol
    assert [lr_factor(step, 2, protocol) for step in range(6)] == pytest.approx(expected)


def test_the_first_loss_that_is_not_finite_is_reported() -> None:
    refuse_non_finite(torch.tensor([1.0, 2.0]), epoch=0)
    with pytest.raises(MethodFailure, match=r"^the loss is inf at epoch 3, step 2$"):
        refuse_non_finite(torch.tensor([1.0, math.inf, math.nan]), epoch=2)


@pytest.mark.parametrize(
    ("optimizer", "device", "is_fused"),
    [
        ({"_target_": "torch.optim.AdamW"}, "cuda", True),
        ({"_target_": "torch.optim.AdamW"}, "cpu", False),
        ({"_target_": "torch.optim.AdamW", "foreach": True}, "cuda", False),
        ({"_target_": "torch.optim.AdamW", "fused": False}, "cuda", False),
        ({"_target_": "torch.optim.RMSprop", "lr": 0.01}, "cuda", False),
    ],
)
def test_steps_on_cuda_are_fused_if_the_optimizer_can_do_it_and_the_user_chose_nothing_else(
    optimizer: dict[str, Any], device: str, is_fused: bool, tmp_path: Path, make_plan: Callable[..., Plan]
) -> None:
    plan = dataclasses.replace(make_plan(tmp_path), device=device, optimizer=optimizer)
    assert bool(make_optimizer([{"params": [torch.ones(2, requires_grad=True)]}], plan).defaults.get("fused")) is is_fused


@pytest.mark.slow
def test_a_compiled_trunk_trains_to_the_same_weights_up_to_rounding(
    tmp_path: Path, make_plan: Callable[..., Plan], colours: Split
) -> None:
    ends = []
    for compiled in (False, True):
        plan = dataclasses.replace(make_plan(tmp_path / str(compiled)), compile=compiled)
        images = Batches(colours.paths(), plan.protocol)
        trained = build_model(plan, plan.folder, colours, images)
        fit(trained, colours, plan)
        ends.append(trained.model.state_dict())
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-3, atol=1e-4)
