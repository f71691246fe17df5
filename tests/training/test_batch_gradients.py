"""The loss of a batch and its gradients are those of the whole batch, however it is divided into chunks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from dmlbench.config.compose import compose, resolve
from dmlbench.config.files import conf_dir, entries
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Method
from dmlbench.data.loader import Batches
from dmlbench.data.split import Split
from dmlbench.errors import MethodFailure, UserError
from dmlbench.losses.objective import Objective, build_objective
from dmlbench.models.embedder import Embedder, build_embedder
from dmlbench.runs.plan_checks import check_plan
from dmlbench.system.seeding import seed_globals
from dmlbench.training.batch_gradients import add_gradients, refuse_divided_batches
from dmlbench.training.trained_model import initial_objective
from dmlbench.training.trainer import train

MakePlan = Callable[..., Plan]
CLASSES, DIM, BATCH, N_ATTRIBUTES = 6, 8, 24, 5
TRAINED = [name for name, _ in entries("loss") if "kind: none" not in (conf_dir() / "loss" / f"{name}.yaml").read_text()]


FROZEN = {"freeze_batch_norm": True}


def model_with(layer: nn.Module, plan: Plan) -> Embedder:
    """The plan's model with a layer after its trunk, in training mode."""
    model = build_embedder(plan)
    model.trunk = nn.Sequential(model.trunk, layer)
    return model.train()


@cache
def method(name: str) -> Method:
    overrides = ["loss.make.memory_size=40", "loss.make.start_step=0"] if name == "cross_batch_memory" else []
    composed = compose([f"loss={name}", f"protocol.embedding_dim={DIM}", *overrides])
    found = resolve(composed, {"train_classes": CLASSES, "train_images": 40}).method
    return replace(found, n_attributes=N_ATTRIBUTES if found.attributes == "predicted" else None)


def built(plan: Plan) -> tuple[Embedder, Objective]:
    """Model and objective in float64, always with the same parameters."""
    model = build_embedder(plan).double()
    torch.manual_seed(1)
    objective = build_objective(plan.method)
    assert objective is not None
    return model.train(), objective.double().train()


def batch(plan: Plan) -> dict[str, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(BATCH, N_ATTRIBUTES, generator=generator, dtype=torch.float64)
    known = torch.where(values < 0.1, torch.nan, (values > 0.5).double())
    return {
        "images": torch.randint(0, 256, (BATCH, 3, 16, 16), generator=generator, dtype=torch.uint8),
        "labels": torch.arange(BATCH) % CLASSES,
        "attributes": None if plan.method.attributes == "ignored" else known,
    }


def gradients(plan: Plan) -> dict[str, torch.Tensor]:
    """The loss, and the gradient of each parameter, of two steps without an update, so that a memory has been filled."""
    model, objective = built(plan)
    for step in range(2):
        seed_globals(step)  # one of the miners samples
        loss = add_gradients(model, objective, plan=plan, **batch(plan))  # type: ignore[arg-type]
    named = [*model.named_parameters(), *((f"objective.{name}", value) for name, value in objective.named_parameters())]
    return {"loss": loss, **{name: value.grad for name, value in named if value.grad is not None}}


@pytest.mark.parametrize("name", TRAINED)
def test_chunks_of_a_half_and_of_an_eighth_of_the_batch_give_its_gradients(
    name: str, tmp_path: Path, make_plan: MakePlan
) -> None:
    def plan(chunk_size: int | None) -> Plan:
        protocol = {"freeze_batch_norm": True, "head_layers": (7,), "chunk_size": chunk_size}
        return make_plan(tmp_path, method=method(name), protocol=protocol)

    whole = gradients(plan(None))
    assert len(whole) > 5
    assert max(value.abs().max().item() for key, value in whole.items() if key != "loss") > 1e-6
    for size in (BATCH, BATCH // 2, BATCH // 8, 5):
        divided = gradients(plan(size))
        assert divided.keys() == whole.keys()
        for key, value in whole.items():
            largest = value.abs().max().clamp(min=1e-12)
            assert ((divided[key] - value).abs().max() / largest).item() <= 1e-10, (size, key)


def test_a_batch_in_chunks_is_embedded_with_the_activations_of_one_chunk(tmp_path: Path, make_plan: MakePlan) -> None:
    plan = make_plan(tmp_path, protocol={"freeze_batch_norm": True, "chunk_size": 5})
    model, objective = built(plan)
    sizes: list[tuple[int, bool]] = []
    model.trunk.register_forward_hook(lambda module, images, output: sizes.append((len(output), torch.is_grad_enabled())))
    add_gradients(model, objective, plan=plan, **batch(plan))  # type: ignore[arg-type]
    assert sizes == [(n, with_graph) for with_graph in (False, True) for n in (5, 5, 5, 5, 4)]


def test_a_training_in_chunks_ends_with_the_weights_of_one_without_them_up_to_rounding(
    tmp_path: Path, make_plan: MakePlan, colours: Split
) -> None:
    ends = []
    for size in (None, 2):
        plan = make_plan(tmp_path / str(size), protocol={"freeze_batch_norm": True, "chunk_size": size})
        model, objective = build_embedder(plan), initial_objective(plan)
        assert objective is not None
        train(model, objective, colours, Batches(colours.paths(), plan.protocol, plan.workers), plan)
        ends.append(torch.cat([value.detach().flatten() for value in model.parameters()]))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-3, atol=1e-5)
    assert not torch.equal(ends[1], torch.zeros_like(ends[1]))


class DropPath(nn.Module):
    """Stochastic depth with the names of timm."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps


@pytest.mark.parametrize(
    ("layer", "is_refused"),
    [
        *((nn.Dropout(0.1), True), (nn.Dropout2d(0.5), True), (DropPath(0.2), True), (StochasticDepth(0.2, "row"), True)),
        *((nn.Dropout(0.0), False), (DropPath(0.0), False)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_a_model_is_refused_exactly_if_it_drops_values_at_random(
    layer: nn.Module, is_refused: bool, tmp_path: Path, make_plan: MakePlan
) -> None:
    in_chunks, whole = (make_plan(tmp_path, protocol={**FROZEN, "chunk_size": size}) for size in (4, None))
    sentence = rf"chunk_size is 4, but the model drops values.* trunk.1 \({type(layer).__name__}\)"
    with pytest.raises(UserError, match=sentence) if is_refused else nullcontext():
        refuse_divided_batches(model_with(layer, in_chunks), in_chunks.protocol)
    refuse_divided_batches(model_with(layer, whole), whole.protocol)


class Attention(nn.Module):
    """Self-attention over the positions of a feature map, which drops weights."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        positions = maps.flatten(2).transpose(1, 2)
        return self.attention(positions, positions, positions)[0].transpose(1, 2).unflatten(2, maps.shape[2:])


class RandomShift(nn.Module):
    """Shifts a feature map by a random number of positions; nothing in its name says so."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps + torch.rand(()) * maps.flip(1)


class Centred(nn.Module):
    """Subtracts the mean over the images."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps - maps.mean(0)


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (Attention(), "its model gives other embeddings of the same images each time"),
        (RandomShift(), "its model gives other embeddings of the same images each time"),
        (Centred(), "the embedding of an image depends on the other images"),
        (nn.BatchNorm2d(8, track_running_stats=False), "the embedding of an image depends on the other images"),
        (nn.GroupNorm(2, 8), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_model_whose_embeddings_depend_on_chance_or_on_the_chunk_is_refused_whatever_its_layers_are_called(
    layer: nn.Module, sentence: str | None, tmp_path: Path, make_plan: MakePlan
) -> None:
    plan = make_plan(tmp_path, protocol={**FROZEN, "chunk_size": 4})
    model = model_with(layer.train(), plan)
    with nullcontext() if sentence is None else pytest.raises(UserError, match=f"chunk_size is 4, but {sentence}"):
        refuse_divided_batches(model, plan.protocol)


def test_batch_normalization_that_is_not_frozen_is_refused_before_the_run_starts(
    tmp_path: Path, make_plan: MakePlan, colours: Split
) -> None:
    plan = make_plan(tmp_path, protocol={"chunk_size": 4})
    with pytest.raises(UserError, match=r"chunk_size is 4, but batch normalization is not frozen.* \(BatchNorm2d\); use"):
        check_plan(plan, colours)
    check_plan(make_plan(tmp_path, protocol={"chunk_size": 4, "freeze_batch_norm": True}), colours)


@pytest.mark.parametrize("size", [None, 5])
def test_embeddings_that_are_not_finite_are_a_failure_of_the_method(
    size: int | None, tmp_path: Path, make_plan: MakePlan
) -> None:
    class Refuses(nn.Module):
        def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            raise ValueError("cannot draw")

    plan = make_plan(tmp_path, protocol={"freeze_batch_norm": True, "chunk_size": size})
    model, _ = built(plan)
    values: dict[str, Any] = {"plan": plan, **batch(plan)}
    with pytest.raises(ValueError, match="cannot draw"):
        add_gradients(model, Objective(Refuses()), **values)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(MethodFailure, match=r"embeddings of a batch are not finite \(cannot draw\)"):
        add_gradients(model, Objective(Refuses()), **values)
