"""Every shipped loss equals the formula of its authors, and its parameters are trained."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from dmlbench.config.compose import Settings, compose, resolve
from dmlbench.config.files import conf_dir, entries
from dmlbench.config.schema import Method
from dmlbench.errors import UserError
from dmlbench.losses.objective import Objective, build_objective
from dmlbench.runs.checks import checked_method

CLASSES, DIM = 6, 8
METHODS = [name for name, _ in entries("loss")]
TRAINED = [name for name in METHODS if name != "untrained"]
CLASSIFICATION = ("proxy_nca", "softtriple", "cosface", "arcface", "normalized_softmax", "proxy_anchor")
WITH_PARAMETERS = (*CLASSIFICATION, "margin")  # the beta of the margin loss is trained


@cache
def settings(name: str, *overrides: str) -> Settings:
    composed = compose([f"loss={name}", f"protocol.embedding_dim={DIM}", *overrides])
    return resolve(composed, {"train_classes": CLASSES})


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
    # pytorch-metric-learning takes the mean over the pairs with a loss above 0
    return float(np.mean([p for p in positive if p > 0]) + np.mean([n for n in negative if n > 0]))


def triplet(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    losses = []
    for a in range(len(x)):
        for p in range(len(x)):
            for n in range(len(x)):
                if a != p and y[a] == y[p] and y[a] != y[n]:
                    ap, an = np.sum((x[a] - x[p]) ** 2), np.sum((x[a] - x[n]) ** 2)
                    if ap < an <= ap + 0.2:  # semi-hard: farther than the positive, but within the margin
                        losses.append(ap - an + 0.2)
    return float(np.mean([loss for loss in losses if loss > 0]))


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
    losses = []
    for row, label in zip(relaxed, y, strict=True):
        logits = la * (row - margin * (np.arange(CLASSES) == label))
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
    pairs = 0.0
    for own in centres:
        for i in range(k):
            for j in range(i + 1, k):
                pairs += np.sqrt(max(2 + 1e-5 - 2 * own[i] @ own[j], 0))
    return float(np.mean(losses) + tau * pairs / (CLASSES * k * (k - 1)))


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
    losses = []
    for row, label in zip(cosine, y, strict=True):
        logits = scale * np.where(np.arange(CLASSES) == label, target(row), row)
        losses.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label])
    return float(np.mean(losses))


def cosface(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    return cosine_classifier(x, y, o, 64, lambda cosine: cosine - 0.35)


def arcface(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    # 28.6 degrees; above 180 degrees the loss uses cos - margin * sin(margin), which does not occur here
    return cosine_classifier(x, y, o, 64, lambda cosine: np.cos(np.arccos(cosine) + np.deg2rad(28.6)))


def normalized_softmax(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    return cosine_classifier(x, y, o, 1 / 0.05, lambda cosine: cosine)


def fastap(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    """Average precision over a histogram of squared distances in [0, 4], each pair shared between its two bins."""
    bins, width = 10, 4 / 10
    losses = []
    for i in range(len(x)):
        relevant, every = np.zeros(bins + 1), np.zeros(bins + 1)
        for j in range(len(x)):
            if i != j:
                position = np.sum((x[i] - x[j]) ** 2) / width
                low = int(position)
                for bin_, share in ((low, 1 - (position - low)), (low + 1, position - low)):
                    every[bin_] += share
                    relevant[bin_] += share * (y[i] == y[j])
        filled = every.cumsum() > 0
        precision = np.divide(relevant.cumsum(), every.cumsum(), where=filled, out=np.zeros(bins + 1))
        losses.append(1 - (relevant * precision).sum() / (np.sum(y == y[i]) - 1))
    return float(np.mean(losses))


def snr_contrastive(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    positive, negative = [], []
    for i in range(len(x)):
        for j in range(len(x)):
            distance = np.var(x[i] - x[j], ddof=1) / np.var(x[i], ddof=1)
            if i != j and y[i] == y[j]:
                positive.append(distance)
            elif y[i] != y[j]:
                negative.append(max(0.0, 1 - distance))
    zero_mean = np.mean(np.abs(x.sum(1)))
    return float(np.mean(positive) + np.mean([n for n in negative if n > 0]) + 0.005 * zero_mean)


def proxy_anchor(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    alpha, margin = 32, 0.1
    cosine = x @ unit(o.loss.proxies.detach().numpy()).T
    pull = [np.log1p(np.exp(-alpha * (cosine[y == c, c] - margin)).sum()) for c in range(CLASSES) if (y == c).any()]
    push = [np.log1p(np.exp(alpha * (cosine[y != c, c] + margin)).sum()) for c in range(CLASSES)]
    return float(np.mean(pull) + np.mean(push))


def margin(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    assert o.miner is not None
    mined = o.miner(torch.from_numpy(x), torch.from_numpy(y))  # the test seeds the random numbers of both
    pairs = []
    for a, p, n in zip(*(part.tolist() for part in mined), strict=True):
        pairs.append(max(0.0, np.linalg.norm(x[a] - x[p]) - 1.2 + 0.2))
        pairs.append(max(0.0, 1.2 - np.linalg.norm(x[a] - x[n]) + 0.2))
    return float(np.mean([loss for loss in pairs if loss > 0]))


def supcon(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    logits = x @ x.T / 0.1
    losses = []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        total = np.log(sum(np.exp(logits[i, j]) for j in others))
        losses.append(-np.mean([logits[i, j] - total for j in others if y[j] == y[i]]))
    return float(np.mean(losses))


PAIRS = (contrastive, triplet, multi_similarity, fastap, snr_contrastive, margin, supcon)
CLASSIFIERS = (proxy_nca, softtriple, cosface, arcface, normalized_softmax, proxy_anchor)
ORACLES = {f.__name__: f for f in (*PAIRS, *CLASSIFIERS)}


def test_every_shipped_loss_has_an_oracle() -> None:
    assert set(ORACLES) == set(TRAINED)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_loss_equals_the_formula_of_its_authors(name: str, seed: int) -> None:
    built = objective(name).double()
    embeddings, labels = batch(seed)
    torch.manual_seed(seed)
    loss = built(embeddings, labels).item()
    torch.manual_seed(seed)  # one of the miners samples
    assert loss == pytest.approx(ORACLES[name](embeddings.detach().numpy(), labels.numpy(), built), rel=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_and_every_embedding_has_a_gradient(name: str) -> None:
    built = objective(name).double()
    embeddings, labels = batch()
    built(embeddings, labels).backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() > 0
    for parameter_name, parameter in built.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", TRAINED)
def test_only_classification_losses_and_the_margin_loss_have_parameters(name: str) -> None:
    has_parameters = any(True for _ in objective(name).parameters())
    assert has_parameters == (name in WITH_PARAMETERS)
    assert method(name).kind == ("classification" if name in CLASSIFICATION else "pair")


@pytest.mark.parametrize(("name", "opening"), [entry for entry in entries("loss") if entry[0] != "untrained"])
def test_the_description_of_a_loss_says_whether_its_hyper_parameters_are_from_its_authors(name: str, opening: str) -> None:
    assert "Hyper-parameters from the authors' code" in opening or "No official hyper-parameters" in opening


def test_the_sweep_over_all_losses_names_every_shipped_loss() -> None:
    text = (conf_dir() / "sweep" / "all.yaml").read_text()
    assert sorted(re.findall(r"[a-z_]+", text.partition("loss:")[2])) == sorted(METHODS)


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
            r"loss/arcface: num_classes is 5 but digits has 6 training classes; use \$\{dataset.train_classes\}",
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
