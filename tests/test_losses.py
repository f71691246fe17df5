"""Each shipped method against its authors' formula, and each one's own parameters in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from dmlbench.configs import entries
from dmlbench.launch import compose, method_of
from dmlbench.losses.objective import Objective, objective_of
from dmlbench.plan import Dataset, Method, Protocol, typed

CLASSES, DIM = 6, 8
METHODS = [name for name, _ in entries("loss")]
TRAINED = [name for name in METHODS if name != "untrained"]
CLASSIFICATION = ("proxy_nca", "softtriple", "cosface", "arcface")


def method(name: str, *words: str) -> Method:
    cfg, choices = compose([f"loss={name}", f"protocol.embedding_dim={DIM}", f"dataset.train_classes={CLASSES}", *words])
    dataset = Dataset("d", "D", (1,), {}, train_classes=CLASSES)
    given = {"version": 1, "epochs": 1, "batch_size": 8, "image_px": 32}
    return method_of(cfg, choices["loss"], dataset, typed(Protocol, "p", {"name": "p", "embedding_dim": DIM, **given}))


def objective(name: str, *words: str) -> Objective:
    torch.manual_seed(1)
    made = objective_of(method(name, *words))
    assert made is not None
    return made


def batch(seed: int = 0, n: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = normalize(torch.randn(n, DIM, generator=generator, dtype=torch.float64))
    return embeddings.requires_grad_(), torch.arange(n) % CLASSES


def unit(array: Any) -> np.ndarray:
    array = np.asarray(array, dtype=np.float64)
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def contrastive(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    positive, negative = [], []
    for i in range(len(x)):
        for j in range(len(x)):
            distance = np.linalg.norm(x[i] - x[j])
            if i != j and y[i] == y[j]:
                positive.append(distance)
            elif y[i] != y[j]:
                negative.append(max(0.0, 1 - distance))
    # the mean over the pairs that still cost something, as pytorch-metric-learning reduces
    return float(np.mean([p for p in positive if p > 0]) + np.mean([n for n in negative if n > 0]))


def triplet(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    costs = []
    for a in range(len(x)):
        for p in range(len(x)):
            for n in range(len(x)):
                if a != p and y[a] == y[p] and y[a] != y[n]:
                    ap, an = np.sum((x[a] - x[p]) ** 2), np.sum((x[a] - x[n]) ** 2)
                    if ap < an <= ap + 0.2:  # semi-hard: farther than the positive, yet inside the margin
                        costs.append(ap - an + 0.2)
    return float(np.mean([cost for cost in costs if cost > 0]))


def proxy_nca(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    proxies = unit(o.loss.proxies.detach())
    distances = 9 * ((x[:, None] - proxies[None]) ** 2).sum(-1)
    return float(np.mean([np.log(np.exp(-row).sum()) + row[label] for row, label in zip(distances, y, strict=True)]))


def softtriple(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    la, gamma, margin, tau, k = 20, 0.1, 0.01, 0.2, 10
    centres = unit(o.loss.fc.detach().numpy().T).reshape(CLASSES, k, DIM)
    similarity = np.einsum("nd,ckd->nck", x, centres)
    share = np.exp(similarity / gamma)
    relaxed = (share / share.sum(-1, keepdims=True) * similarity).sum(-1)
    costs = []
    for row, label in zip(relaxed, y, strict=True):
        logits = la * (row - margin * (np.arange(CLASSES) == label))
        costs.append(np.log(np.exp(logits).sum()) - logits[label])
    pairs = 0.0
    for own in centres:
        for i in range(k):
            for j in range(i + 1, k):
                pairs += np.sqrt(max(2 + 1e-5 - 2 * own[i] @ own[j], 0))
    return float(np.mean(costs) + tau * pairs / (CLASSES * k * (k - 1)))


def multi_similarity(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    alpha, beta, threshold, epsilon = 2, 40, 0.5, 0.1
    similarity = x @ x.T
    total = 0.0
    for i in range(len(x)):
        positive = [similarity[i, j] for j in range(len(x)) if j != i and y[j] == y[i]]
        negative = [similarity[i, j] for j in range(len(x)) if y[j] != y[i]]
        p = [s for s in positive if s - epsilon < max(negative)]
        n = [s for s in negative if s + epsilon > min(positive)]
        if p:
            total += np.log(1 + sum(np.exp(-alpha * (s - threshold)) for s in p)) / alpha
        if n:
            total += np.log(1 + sum(np.exp(beta * (s - threshold)) for s in n)) / beta
    return total / len(x)


def cosine_classifier(x: np.ndarray, y: np.ndarray, o: Objective, scale: float, target: Any) -> float:
    cosine = x @ unit(o.loss.W.detach().numpy().T).T
    costs = []
    for row, label in zip(cosine, y, strict=True):
        logits = scale * np.where(np.arange(CLASSES) == label, target(row), row)
        costs.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label])
    return float(np.mean(costs))


def cosface(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    return cosine_classifier(x, y, o, 64, lambda cosine: cosine - 0.35)


def arcface(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    # 28.6 degrees; past 180 degrees the class falls back to cos - margin * sin(margin), which no pair here reaches
    return cosine_classifier(x, y, o, 64, lambda cosine: np.cos(np.arccos(cosine) + np.deg2rad(28.6)))


ORACLES = {f.__name__: f for f in (contrastive, triplet, proxy_nca, softtriple, multi_similarity, cosface, arcface)}


def test_every_shipped_loss_has_an_oracle() -> None:
    assert set(ORACLES) == set(TRAINED)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_loss_equals_its_authors_formula(name: str, seed: int) -> None:
    made = objective(name).double()
    embeddings, labels = batch(seed)
    got = made(embeddings, labels).item()
    assert got == pytest.approx(ORACLES[name](embeddings.detach().numpy(), labels.numpy(), made), rel=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_and_every_embedding_gets_a_gradient(name: str) -> None:
    made = objective(name).double()
    embeddings, labels = batch()
    made(embeddings, labels).backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() > 0
    for parameter_name, parameter in made.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", TRAINED)
def test_classification_losses_have_parameters_of_their_own_and_pair_losses_have_none(name: str) -> None:
    has_parameters = any(True for _ in objective(name).parameters())
    assert has_parameters == (name in CLASSIFICATION)
    assert method(name).kind == ("classification" if name in CLASSIFICATION else "pair")


def test_untrained_has_no_objective() -> None:
    assert objective_of(method("untrained")) is None


def test_the_triplet_miner_follows_its_loss() -> None:
    made = objective("triplet", "loss.make.margin=0.3")
    assert made.miner is not None
    assert made.miner.margin == made.loss.margin == 0.3
    assert made.miner.distance.power == made.loss.distance.power == 2


def test_a_number_of_classes_that_the_data_set_does_not_have_is_refused_with_what_to_write() -> None:
    sentence = r"loss/arcface: num_classes is 5 but d has 6 training classes; use \$\{dataset.train_classes\}"
    with pytest.raises(Exception, match=sentence):
        method("arcface", "loss.make.num_classes=5")


def test_an_embedding_size_that_the_protocol_does_not_have_is_refused() -> None:
    with pytest.raises(Exception, match=r"embedding_size is 4 but .* has 8 dimensions; use \$\{protocol.embedding_dim\}"):
        method("softtriple", "loss.make.embedding_size=4")
