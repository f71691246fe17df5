"""Every shipped loss equals the formula of its authors, and its parameters are trained."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from loss_formulas import CLASSIFICATION_LOSSES, FORMULAS, attribute_batch, unit
from torch.nn.functional import normalize

from dmlbench.config.compose import Settings, compose, resolve
from dmlbench.config.files import conf_dir, entries
from dmlbench.config.schema import Method
from dmlbench.errors import UserError
from dmlbench.losses.objective import Objective, build_objective
from dmlbench.runs.checks import checked_method

CLASSES, DIM = 6, 8
METHODS = [name for name, _ in entries("loss")]
TRAINED = [name for name in METHODS if "kind: none" not in (conf_dir() / "loss" / f"{name}.yaml").read_text().splitlines()]
WITH_PARAMETERS = (*CLASSIFICATION_LOSSES, "margin", "margin_per_class")  # the beta of the margin loss is trained


@cache
def settings(name: str, *overrides: str) -> Settings:
    composed = compose([f"loss={name}", f"protocol.embedding_dim={DIM}", *overrides])
    return resolve(composed, {"train_classes": CLASSES, "train_images": 40})


def method(name: str, *overrides: str) -> Method:
    return settings(name, *overrides).method


def objective(name: str, *overrides: str) -> Objective:
    torch.manual_seed(1)
    built = build_objective(method(name, *overrides))
    assert built is not None
    return built


def batch(seed: int = 0, n: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = normalize(torch.randn(n, DIM, generator=generator, dtype=torch.float64))
    return embeddings.requires_grad_(), torch.arange(n) % CLASSES


BATCHES: dict[str, list[int]] = {
    "random": [i % CLASSES for i in range(18)],
    "unequal classes": [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4],
    "one class": [2] * 24,
    "no positives": list(range(CLASSES)),
    "all equal": [0, 0, 0, 1, 1, 1],
}


def labelled_batch(kind: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.tensor(BATCHES[kind])
    embeddings, _ = batch(seed, len(labels))
    if kind == "all equal":  # of unit length without rounding, so that ties are ties
        embeddings = torch.eye(DIM, dtype=torch.float64)[0].repeat(len(labels), 1).requires_grad_()
    return embeddings, labels


def in_use(name: str) -> Objective:
    """The objective in float64, as it is in the middle of a training."""
    built = objective(name, *IN_USE.get(name, ())).double()
    if name == "cross_batch_memory":
        torch.manual_seed(2)
        earlier = normalize(torch.randn(10, DIM, dtype=torch.float64))
        built(earlier, torch.arange(10) % CLASSES)
    return built


IN_USE = {"cross_batch_memory": ("loss.make.memory_size=40", "loss.make.start_step=0")}


def loss_of(name: str, built: Objective, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)  # one of the miners samples
    return built(embeddings, labels, **attributes_for(name, len(labels), embeddings.dtype))


def attributes_for(name: str, n: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """What the loss receives in addition to embeddings and labels."""
    logits, attributes = (torch.from_numpy(array).to(dtype) for array in attribute_batch(n))
    inputs = {"ignored": {}, "annotated": {"attributes": attributes}}
    return inputs.get(method(name).attributes, {"attributes": attributes, "logits": logits})


def test_every_shipped_loss_has_a_formula() -> None:
    assert set(FORMULAS) == set(TRAINED)


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("name", TRAINED)
def test_the_value_of_a_loss_equals_the_formula_of_its_authors(name: str, kind: str) -> None:
    built = in_use(name)
    embeddings, labels = labelled_batch(kind)
    loss = loss_of(name, built, embeddings, labels).item()
    x = embeddings.detach().numpy()
    assert loss == pytest.approx(FORMULAS[name](x, labels.numpy(), built, x), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kind", [kind for kind in BATCHES if kind != "all equal"])
@pytest.mark.parametrize("name", TRAINED)
def test_the_gradient_of_a_loss_equals_the_derivative_of_its_formula(name: str, kind: str) -> None:
    built = in_use(name)
    embeddings, labels = labelled_batch(kind, seed=1)
    x, y, h = embeddings.detach().numpy(), labels.numpy(), 1e-6
    loss = loss_of(name, built, embeddings, labels)
    if loss.requires_grad:  # the cross-entropy of attributes does not depend on the embeddings
        loss.backward()
    generator = np.random.default_rng(0)
    memory = {key: value.clone() for key, value in built.state_dict().items()}

    def derivative(formula_at: Callable[[float], float]) -> float:
        found = (formula_at(h) - formula_at(-h)) / (2 * h)
        built.load_state_dict(memory)
        return found

    for _ in range(2):  # along random directions on the sphere
        direction = generator.normal(size=x.shape)
        direction -= (direction * x).sum(1, keepdims=True) * x
        expected = derivative(lambda step, along=direction: FORMULAS[name](unit(x + step * along), y, built, x))  # type: ignore[misc]
        gradient = 0.0 if embeddings.grad is None else float((embeddings.grad.numpy() * direction).sum())
        assert gradient == pytest.approx(expected, rel=1e-4, abs=1e-7)
    for parameter in built.parameters():
        along = torch.from_numpy(generator.normal(size=tuple(parameter.shape)))
        start = parameter.detach().clone()

        def moved(step: float, parameter: Any = parameter, start: Any = start, along: Any = along) -> float:
            parameter.data = start + step * along
            return FORMULAS[name](x, y, built, x)

        expected = derivative(moved)
        gradient = 0.0 if parameter.grad is None else float((parameter.grad * along).sum())
        assert gradient == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("name", TRAINED)
def test_every_batch_has_a_finite_loss_and_finite_gradients_in_float32(name: str, kind: str) -> None:
    built = in_use(name).float()
    embeddings, labels = labelled_batch(kind)
    embeddings = embeddings.detach().float().requires_grad_()
    loss = loss_of(name, built, embeddings, labels)
    assert torch.isfinite(loss)
    if loss.requires_grad:
        loss.backward()
    for tensor in (embeddings, *built.parameters()):
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "attributes_only"])
def test_every_parameter_and_every_embedding_has_a_gradient(name: str) -> None:
    built = objective(name).double()
    embeddings, labels = batch()
    loss_of(name, built, embeddings, labels).backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() > 0
    for parameter_name, parameter in built.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", TRAINED)
def test_only_classification_losses_and_the_margin_loss_have_parameters(name: str) -> None:
    has_parameters = any(True for _ in objective(name).parameters())
    assert has_parameters == (name in WITH_PARAMETERS)
    assert method(name).kind == ("classification" if name in CLASSIFICATION_LOSSES else "pair")


@pytest.mark.parametrize(("name", "opening"), [entry for entry in entries("loss") if entry[0] in TRAINED])
def test_the_description_of_a_loss_says_whether_its_hyper_parameters_are_from_its_authors(name: str, opening: str) -> None:
    origins = ("Hyper-parameters from the authors' code", "Hyper-parameters from the paper", "No official hyper-parameters")
    assert any(origin in opening for origin in origins)


def test_the_sweep_over_all_losses_names_every_shipped_loss_that_needs_no_attributes() -> None:
    text = (conf_dir() / "sweep" / "all.yaml").read_text()
    expected = [name for name in METHODS if method(name).attributes == "ignored"]
    assert sorted(re.findall(r"[a-z_]+", text.partition("loss:")[2])) == sorted(expected)


def test_the_untrained_method_has_no_objective() -> None:
    assert build_objective(method("untrained")) is None


def test_the_triplet_miner_has_the_margin_and_the_distance_of_its_loss() -> None:
    built = objective("triplet", "loss.make.margin=0.3")
    assert built.miner is not None
    assert built.miner.margin == built.loss.margin == 0.3
    assert built.miner.distance.power == built.loss.distance.power == 2


def test_a_loss_that_is_not_a_module_is_refused() -> None:
    not_a_module = Method("mine", "Mine", "pair", make={"_target_": "collections.Counter"})
    with pytest.raises(
        UserError, match=r"^loss/mine: collections\.Counter returned Counter; a loss must be a torch\.nn\.Module"
    ):
        build_objective(not_a_module)


@pytest.mark.parametrize(
    ("name", "override", "sentence"),
    [
        (
            "arcface",
            "loss.make.num_classes=5",
            r"loss/arcface: num_classes is 5 but omniglot has 6 training classes; use \$\{dataset.train_classes\}",
        ),
        (
            "softtriple",
            "loss.make.embedding_size=4",
            r"embedding_size is 4 but .* has 8 dimensions; use \$\{protocol.embedding_dim\}",
        ),
    ],
)
def test_a_size_that_differs_from_the_data_set_or_the_protocol_is_refused(name: str, override: str, sentence: str) -> None:
    found = settings(name, override)
    with pytest.raises(UserError, match=sentence):
        checked_method(found.method, found.dataset, found.protocol)
