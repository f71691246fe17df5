"""Proxies are found in every loss, and start at unit length where the configuration says so."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from loss_formulas import CLASSIFICATION_LOSSES
from torch import nn

from dmlbench.config.compose import Composed, compose, resolve
from dmlbench.config.schema import Method
from dmlbench.errors import UserError
from dmlbench.losses.objective import build_objective
from dmlbench.losses.proxies import copy_proxies, proxy_parameters

CLASSES, DIM = 6, 8


@cache
def composed(name: str, *overrides: str) -> Composed:
    return compose([f"loss={name}", f"protocol.embedding_dim={DIM}", *overrides])


def method(name: str, *overrides: str, classes: int = CLASSES) -> Method:
    return resolve(composed(name, *overrides), {"train_classes": classes, "train_images": 40}).method


def built(name: str, *overrides: str, classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(1)
    objective = build_objective(method(name, *overrides, classes=classes))
    assert objective is not None
    return objective


@pytest.mark.parametrize("classes", [CLASSES, DIM])  # with as many classes as dimensions, shapes say nothing
@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES)
def test_proxies_start_at_unit_length_in_the_direction_of_the_constructor(name: str, classes: int) -> None:
    [unit] = copy_proxies(built(name, classes=classes), DIM)
    [own] = copy_proxies(built(name, "loss.proxy_init=constructor", classes=classes), DIM)
    assert len(unit) % classes == 0
    assert torch.allclose(unit.norm(dim=1), torch.ones(len(unit)))
    assert torch.allclose(unit, nn.functional.normalize(own))
    assert not torch.allclose(unit, own)


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES)
def test_the_length_of_proxies_does_not_affect_the_loss(name: str) -> None:
    objective = built(name).double()
    generator = torch.Generator().manual_seed(0)
    embeddings = nn.functional.normalize(torch.randn(12, DIM, generator=generator, dtype=torch.float64))
    labels = torch.arange(12) % CLASSES
    before = objective(embeddings, labels).item()
    [(parameter, in_columns)] = proxy_parameters(objective, DIM)
    lengths = torch.rand(parameter.shape[1 if in_columns else 0], generator=generator, dtype=torch.float64) + 0.5
    parameter.data *= lengths if in_columns else lengths[:, None]
    assert objective(embeddings, labels).item() == pytest.approx(before, rel=1e-9)


def test_the_first_steps_turn_the_proxies_of_all_losses_alike_whatever_the_number_of_classes() -> None:
    """Adam moves each coordinate by the learning rate in its first step."""
    angles = {}
    for classes in (4, 40):
        for name in CLASSIFICATION_LOSSES:
            objective = built(name, classes=classes)
            before = copy_proxies(objective, DIM)[0]
            optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
            generator = torch.Generator().manual_seed(0)
            embeddings = nn.functional.normalize(torch.randn(160, DIM, generator=generator))
            objective(embeddings, torch.arange(160) % classes).backward()
            optimizer.step()
            after = copy_proxies(objective, DIM)[0]
            angles[name, classes] = nn.functional.cosine_similarity(before.double(), after.double()).arccos().mean().item()
    assert max(angles.values()) < 1.3 * min(angles.values())
    assert max(angles.values()) <= 1e-3 * DIM**0.5


def test_proxies_may_start_at_any_length() -> None:
    [unit], [short] = (copy_proxies(built("normalized_softmax", *one), DIM) for one in ((), ("loss.proxy_init=0.25",)))
    assert torch.allclose(short, 0.25 * unit)
    assert torch.equal(copy_proxies(built("normalized_softmax", "loss.proxy_init=1"), DIM)[0], unit)


@pytest.mark.parametrize("length", ["0", "-1"])
def test_a_length_that_is_not_positive_is_refused(length: str) -> None:
    with pytest.raises(UserError, match=rf"^loss/proxy_nca: proxy_init is {length}\.0; a length must be above 0$"):
        built("proxy_nca", f"loss.proxy_init={length}")


def test_unit_length_is_refused_for_a_loss_without_proxies() -> None:
    with pytest.raises(UserError, match=r"^loss/triplet: proxy_init is 'unit', but loss.make has no embedding_size; use "):
        built("triplet", "loss.proxy_init=unit")
    with pytest.raises(UserError, match=r"^loss/triplet: proxy_init is 0.5, but loss.make has no embedding_size; use "):
        built("triplet", "loss.proxy_init=0.5")
    with pytest.raises(
        UserError, match=r"^loss/cross_batch_memory: proxy_init is 'unit', but the loss has no matrix of proxies"
    ):
        built("cross_batch_memory", "loss.proxy_init=unit")


def test_a_square_matrix_of_an_unknown_name_has_its_proxies_in_rows() -> None:
    module = nn.Module()
    module.own, module.fc, module.beta = (nn.Parameter(torch.ones(*shape)) for shape in ((3, 3), (3, 3), (3,)))
    assert [in_columns for _, in_columns in proxy_parameters(module, 3)] == [False, True]
