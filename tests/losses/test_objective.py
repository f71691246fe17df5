"""Each shipped method against its authors' formula, and each one's own parameters in training."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from dmlbench.launch import compose, method_of
from torch.nn.functional import normalize

from dmlbench.config.files import conf_dir, entries
from dmlbench.config.schema import Dataset, Method, Protocol
from dmlbench.config.typed import typed
from dmlbench.losses.objective import Objective, build_objective

CLASSES, DIM = 6, 8
METHODS = [name for name, _ in entries("loss")]
TRAINED = [name for name in METHODS if name != "untrained"]
CLASSIFICATION = ("proxy_nca", "softtriple", "cosface", "arcface", "normalized_softmax", "proxy_anchor")
WITH_PARAMETERS = (*CLASSIFICATION, "margin")  # whose beta learns


def method(name: str, *words: str) -> Method:
    cfg, choices = compose([f"loss={name}", f"protocol.embedding_dim={DIM}", f"dataset.train_classes={CLASSES}", *words])
    dataset = Dataset("d", "D", (1,), {}, train_classes=CLASSES)
    given = {"version": 1, "epochs": 1, "batch_size": 8, "image_px": 32}
    return method_of(cfg, choices["loss"], dataset, typed(Protocol, "p", {"name": "p", "embedding_dim": DIM, **given}))


def objective(name: str, *words: str) -> Objective:
    torch.manual_seed(1)
    made = build_objective(method(name, *words))
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


def normalized_softmax(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    return cosine_classifier(x, y, o, 1 / 0.05, lambda cosine: cosine)


def fastap(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    """Average precision over a histogram of squared distances in [0, 4], each pair shared between its two bins."""
    bins, width = 10, 4 / 10
    costs = []
    for i in range(len(x)):
        relevant, every = np.zeros(bins + 1), np.zeros(bins + 1)
        for j in range(len(x)):
            if i != j:
                place = np.sum((x[i] - x[j]) ** 2) / width
                low = int(place)
                for bin_, share in ((low, 1 - (place - low)), (low + 1, place - low)):
                    every[bin_] += share
                    relevant[bin_] += share * (y[i] == y[j])
        filled = every.cumsum() > 0
        precision = np.divide(relevant.cumsum(), every.cumsum(), where=filled, out=np.zeros(bins + 1))
        costs.append(1 - (relevant * precision).sum() / (np.sum(y == y[i]) - 1))
    return float(np.mean(costs))


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
    mined = o.miner(torch.from_numpy(x), torch.from_numpy(y))  # draws as the objective did: the test seeds both
    pairs = []
    for a, p, n in zip(*(part.tolist() for part in mined), strict=True):
        pairs.append(max(0.0, np.linalg.norm(x[a] - x[p]) - 1.2 + 0.2))
        pairs.append(max(0.0, 1.2 - np.linalg.norm(x[a] - x[n]) + 0.2))
    return float(np.mean([cost for cost in pairs if cost > 0]))


def supcon(x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    logits = x @ x.T / 0.1
    costs = []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        total = np.log(sum(np.exp(logits[i, j]) for j in others))
        costs.append(-np.mean([logits[i, j] - total for j in others if y[j] == y[i]]))
    return float(np.mean(costs))


PAIRS = (contrastive, triplet, multi_similarity, fastap, snr_contrastive, margin, supcon)
CLASSIFIERS = (proxy_nca, softtriple, cosface, arcface, normalized_softmax, proxy_anchor)
ORACLES = {f.__name__: f for f in (*PAIRS, *CLASSIFIERS)}


def test_every_shipped_loss_has_an_oracle() -> None:
    assert set(ORACLES) == set(TRAINED)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_loss_equals_its_authors_formula(name: str, seed: int) -> None:
    made = objective(name).double()
    embeddings, labels = batch(seed)
    torch.manual_seed(seed)
    got = made(embeddings, labels).item()
    torch.manual_seed(seed)  # for the one miner that draws
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
def test_classification_losses_have_parameters_of_their_own_and_of_the_others_only_margins_beta_learns(name: str) -> None:
    has_parameters = any(True for _ in objective(name).parameters())
    assert has_parameters == (name in WITH_PARAMETERS)
    assert method(name).kind == ("classification" if name in CLASSIFICATION else "pair")


@pytest.mark.parametrize(("name", "opening"), [entry for entry in entries("loss") if entry[0] != "untrained"])
def test_the_list_of_losses_says_whether_a_losss_values_are_its_authors(name: str, opening: str) -> None:
    assert "Values: the authors' code" in opening or "Values: no official source" in opening


def test_the_sweep_of_all_names_every_shipped_loss() -> None:
    text = (conf_dir() / "sweep" / "all.yaml").read_text()
    assert sorted(re.findall(r"[a-z_]+", text.partition("loss:")[2])) == sorted(METHODS)


def test_untrained_has_no_objective() -> None:
    assert build_objective(method("untrained")) is None


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
