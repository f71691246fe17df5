"""Every shipped loss as its authors' formula, in float64 with NumPy, independent of the library that trains with it.

Each function takes the embeddings `x` `(B, D)`, the labels `y` `(B,)`, the objective `o`, whose parameters it reads, and `at`:
the embeddings at which everything is evaluated that the loss does not differentiate, such as the choice of a miner. For the
value of the loss, `at` is `x`; for a derivative by finite differences it stays fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from dmlbench.losses.objective import Objective

Array = np.ndarray
Formula = Callable[[Array, Array, Objective, Array], float]


def unit(array: Any) -> Array:
    array = np.asarray(array, dtype=np.float64)
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def mean(values: Iterable[float] | Array) -> float:
    """The mean; 0 of nothing."""
    values = np.asarray(list(values), dtype=np.float64)
    return float(values.mean()) if len(values) else 0.0


def mean_above_zero(values: Iterable[float] | Array) -> float:
    return mean([value for value in values if value > 0])


def log_sum_exp(values: Iterable[float] | Array) -> float:
    values = np.asarray(list(values), dtype=np.float64)
    return float(np.log(np.exp(values - values.max()).sum()) + values.max())


def sigmoid(values: Any) -> Any:
    return np.exp(-np.logaddexp(0, -np.asarray(values, dtype=np.float64)))


def pairs(y: Array) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """All ordered positive and negative pairs."""
    every = [(i, j) for i in range(len(y)) for j in range(len(y)) if i != j]
    return [(i, j) for i, j in every if y[i] == y[j]], [(i, j) for i, j in every if y[i] != y[j]]


# Pair losses


def contrastive(x: Array, y: Array, o: Objective, at: Array) -> float:
    positive, negative = pairs(y)
    near = [np.linalg.norm(x[i] - x[j]) for i, j in positive]
    far = [1 - np.linalg.norm(x[i] - x[j]) for i, j in negative]
    return mean_above_zero(near) + mean_above_zero(far)


def contrastive_hadsell(x: Array, y: Array, o: Objective, at: Array) -> float:
    positive, negative = pairs(y)
    losses = [((x[i] - x[j]) ** 2).sum() / 2 for i, j in positive]
    losses += [max(0.0, 1 - np.linalg.norm(x[i] - x[j])) ** 2 / 2 for i, j in negative]
    return mean(losses)


def triplet(x: Array, y: Array, o: Objective, at: Array) -> float:
    positive, negative = pairs(y)
    losses = []
    for a, p in positive:
        for n in [n for anchor, n in negative if anchor == a]:
            ap, an = (((at[a] - at[other]) ** 2).sum() for other in (p, n))
            if ap < an <= ap + 0.2:  # semi-hard: farther than the positive, but within the margin
                losses.append(((x[a] - x[p]) ** 2).sum() - ((x[a] - x[n]) ** 2).sum() + 0.2)
    return mean_above_zero(losses)


def multi_similarity(x: Array, y: Array, o: Objective, at: Array) -> float:
    return _multi_similarity(x, y, at, epsilon=0.1)


def multi_similarity_no_miner(x: Array, y: Array, o: Objective, at: Array) -> float:
    return _multi_similarity(x, y, at, epsilon=None)


def _multi_similarity(x: Array, y: Array, at: Array, epsilon: float | None) -> float:
    alpha, beta, threshold = 2, 40, 0.5
    similarity, mined = x @ x.T, at @ at.T
    total = 0.0
    for i in range(len(x)):
        positive = [j for j in range(len(x)) if j != i and y[j] == y[i]]
        negative = [j for j in range(len(x)) if y[j] != y[i]]
        if epsilon is not None:
            largest = max((mined[i, j] for j in negative), default=-np.inf)
            smallest = min((mined[i, j] for j in positive), default=np.inf)
            positive = [j for j in positive if mined[i, j] - epsilon < largest]
            negative = [j for j in negative if mined[i, j] + epsilon > smallest]
        if positive:
            total += log_sum_exp([0, *(-alpha * (similarity[i, j] - threshold) for j in positive)]) / alpha
        if negative:
            total += log_sum_exp([0, *(beta * (similarity[i, j] - threshold) for j in negative)]) / beta
    return total / len(x)


def fastap(x: Array, y: Array, o: Objective, at: Array) -> float:
    """Average precision over a histogram of squared distances in [0, 4], each pair shared between its two bins."""
    bins, width = 10, 4 / 10
    losses = []
    for i in range(len(x)):
        relevant, every = np.zeros(bins + 2), np.zeros(bins + 2)
        for j in range(len(x)):
            if i != j:
                position = np.sum((x[i] - x[j]) ** 2) / width
                low = int(position)
                for bin_, share in ((low, 1 - (position - low)), (low + 1, position - low)):
                    every[bin_] += share
                    relevant[bin_] += share * (y[i] == y[j])
        filled = every.cumsum() > 0
        precision = np.divide(relevant.cumsum(), every.cumsum(), where=filled, out=np.zeros(bins + 2))
        n_positives = np.sum(y == y[i]) - 1
        if n_positives:
            losses.append(1 - (relevant * precision).sum() / n_positives)
    return mean(losses)


def snr_contrastive(x: Array, y: Array, o: Objective, at: Array) -> float:
    positive, negative = pairs(y)

    def distance(i: int, j: int) -> float:
        return float(np.var(x[i] - x[j], ddof=1) / np.var(x[i], ddof=1))

    near = mean_above_zero(distance(i, j) for i, j in positive)
    far = mean_above_zero(1 - distance(i, j) for i, j in negative)
    return near + far + 0.005 * mean(np.abs(x.sum(1)))


def margin(x: Array, y: Array, o: Objective, at: Array) -> float:
    assert o.miner is not None
    torch.manual_seed(0)  # the miner samples; the test seeds the objective in the same way
    mined = o.miner(torch.from_numpy(at), torch.from_numpy(y))
    beta: Array = o.loss.beta.detach().numpy()  # type: ignore[union-attr, operator]
    losses = []
    for a, p, n in zip(*(part.tolist() for part in mined), strict=True):
        boundary = beta[y[a]] if len(beta) > 1 else beta[0]
        losses += [np.linalg.norm(x[a] - x[p]) - boundary + 0.2, boundary - np.linalg.norm(x[a] - x[n]) + 0.2]
    return mean_above_zero(losses)


margin_per_class = margin


def supcon(x: Array, y: Array, o: Objective, at: Array) -> float:
    logits = x @ x.T / 0.1
    losses = []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        positive = [j for j in others if y[j] == y[i]]
        if positive and len(positive) < len(others):
            losses.append(log_sum_exp(logits[i, others]) - mean(logits[i, positive]))
    return mean_above_zero(losses)


def ntxent(x: Array, y: Array, o: Objective, at: Array) -> float:
    positive, negative = pairs(y)
    if not negative:  # nothing to compare with
        return 0.0
    logits = x @ x.T / 0.07
    far = {a: [logits[a, n] for anchor, n in negative if anchor == a] for a in range(len(x))}
    return mean(log_sum_exp([logits[a, p], *far[a]]) - logits[a, p] for a, p in positive)


def circle(x: Array, y: Array, o: Objective, at: Array) -> float:
    m, gamma = 0.4, 80
    similarity, weighing = x @ x.T, at @ at.T  # the weights have no gradient
    losses = []
    for i in range(len(x)):
        positive = [j for j in range(len(x)) if j != i and y[j] == y[i]]
        negative = [j for j in range(len(x)) if y[j] != y[i]]
        if positive and negative:
            near = [-gamma * max(0, 1 + m - weighing[i, j]) * (similarity[i, j] - (1 - m)) for j in positive]
            far = [gamma * max(0, weighing[i, j] + m) * (similarity[i, j] - m) for j in negative]
            losses.append(np.logaddexp(0, log_sum_exp(near) + log_sum_exp(far)))
    return mean_above_zero(losses)


def lifted_structure(x: Array, y: Array, o: Objective, at: Array) -> float:
    positive, negative = pairs(y)
    losses = []
    for i, j in positive:
        far = [1 - np.linalg.norm(x[anchor] - x[n]) for anchor, n in negative if anchor in (i, j)]
        if far:
            losses.append(max(0.0, log_sum_exp(far) + np.linalg.norm(x[i] - x[j])) ** 2 / 2)
    return mean(losses)


def cross_batch_memory(x: Array, y: Array, o: Objective, at: Array) -> float:
    """The test begins with a memory in use, so both parts count: batch against batch, and against batch and memory."""
    loss: Any = o.loss
    filled = loss.labels.numpy() >= 0
    memory, labels = loss.embeddings.numpy()[filled], loss.labels.numpy()[filled]
    total = 0.0
    for others, other_labels in ((x, y), (memory, labels)):
        for i in range(len(x)):
            for other, label in zip(others, other_labels, strict=True):
                similarity = x[i] @ other
                if label == y[i] and similarity < 1 - 1e-5:
                    total += 1 - similarity
                elif label != y[i] and similarity > 0.5:
                    total += similarity
    return float(total / len(x))


# Losses with attributes


def attribute_batch(n: int) -> tuple[Array, Array]:
    """Logits and annotated attributes of a batch, each `(n, 5)`; some annotations are missing."""
    generator = np.random.default_rng(7)
    logits, attributes = 2 * generator.normal(size=(n, 5)), (generator.random((n, 5)) < 0.4).astype(float)
    attributes[generator.random((n, 5)) < 0.2] = np.nan
    return logits, attributes


def binomial_deviance(x: Array, y: Array, o: Objective, at: Array) -> float:
    return deviance(x, y, lambda i, j: 0.0)


def soft_binomial_deviance(x: Array, y: Array, o: Objective, at: Array) -> float:
    _, attributes = attribute_batch(len(x))
    return deviance(x, y, lambda i, j: annotated_cosine(attributes[i], attributes[j]))


def attributes_only(x: Array, y: Array, o: Objective, at: Array) -> float:
    return cross_entropy(*attribute_batch(len(x)))


def multitask(x: Array, y: Array, o: Objective, at: Array) -> float:
    return binomial_deviance(x, y, o, at) + cross_entropy(*attribute_batch(len(x)))


def sgml(x: Array, y: Array, o: Objective, at: Array) -> float:
    logits, attributes = attribute_batch(len(x))
    probabilities = sigmoid(logits)
    return deviance(x, y, lambda i, j: cosine(probabilities[i], probabilities[j])) + cross_entropy(logits, attributes)


def deviance(
    x: Array, y: Array, granularity: Callable[[int, int], float], alpha: float = 2.0, beta: float = 0.5, chosen: Any = None
) -> float:
    """The mean over positive pairs plus the mean over negative pairs; `chosen` replaces all pairs."""
    positive, negative = pairs(y) if chosen is None else chosen
    near = [np.logaddexp(0, -alpha * (x[i] @ x[j] + granularity(i, j) - beta)) for i, j in positive]
    far = [np.logaddexp(0, alpha * (x[i] @ x[j] - granularity(i, j) - beta)) for i, j in negative]
    return mean(near) + mean(far)


def cosine(a: Array, b: Array) -> float:
    norms = np.sqrt((a * a).sum()) * np.sqrt((b * b).sum())
    return float((a * b).sum() / norms) if norms else 0.0


def annotated_cosine(a: Array, b: Array) -> float:
    """The cosine over the attributes that are known for both."""
    known = ~np.isnan(a) & ~np.isnan(b)
    return cosine(a[known], b[known])


def cross_entropy(logits: Array, attributes: Array) -> float:
    """The mean over the known values."""
    known = ~np.isnan(attributes)
    z, a = logits[known], attributes[known]
    return mean(a * np.logaddexp(0, -z) + (1 - a) * np.logaddexp(0, z))


# Losses of ranks


def smooth_ap(x: Array, y: Array, o: Objective, at: Array) -> float:
    return 1 - _mean_average_precision(x, y, lambda lead, relevant, fixed: sigmoid(lead / 0.01), at)


def roadmap(x: Array, y: Array, o: Objective, at: Array) -> float:
    def step(lead: float, relevant: bool, fixed: float) -> float:
        if relevant:
            return float(fixed >= 0)
        if lead > 0.05:
            return 100 * lead + 1.44
        return float(sigmoid(lead / 0.01)) + 0.5 * (lead > 0)

    similarity = x @ x.T
    positive, negative = pairs(y)
    near = mean_above_zero(0.9 - similarity[i, j] for i, j in positive)
    far = mean_above_zero(similarity[i, j] - 0.6 for i, j in negative)
    return 1 - _mean_average_precision(x, y, step, at) + near + far


def _mean_average_precision(x: Array, y: Array, step: Callable[[float, bool, float], float], at: Array) -> float:
    """Every item is a query, and one of its own positives."""
    similarity, fixed = x @ x.T, at @ at.T
    precisions = []
    for q in range(len(x)):
        ratios = []
        for p in np.flatnonzero(y == y[q]):
            steps = {
                j: step(similarity[q, j] - similarity[q, p], bool(y[j] == y[q]), fixed[q, j] - fixed[q, p])
                for j in range(len(x))
                if j != p
            }
            ratios.append((1 + sum(steps[j] for j in steps if y[j] == y[q])) / (1 + sum(steps.values())))
        precisions.append(mean(ratios))
    return mean(precisions)


def recall_at_k(x: Array, y: Array, o: Objective, at: Array) -> float:
    similarity = x @ x.T
    losses = []
    for q in range(len(x)):
        positive = [p for p in range(len(x)) if p != q and y[p] == y[q]]
        if not positive:
            continue
        ranks = np.array(
            [1 + sum(sigmoid((similarity[q, j] - similarity[q, p]) / 0.01) for j in range(len(x)) if j != p) for p in positive]
        )
        recalls = []
        for nominal in (1, 2, 4, 8, 16):
            k = min(nominal, len(x))
            recalls.append(min(k, sigmoid((k - ranks) / nominal).sum()) / min(k, len(positive)))
        losses.append(1 - mean(recalls))
    return mean(losses)


# Triplet losses over all triplets of a batch, and over consecutive ones


def _triplet_loss(form: str, d: Array, a: int, p: int, n: int) -> float:
    """The loss of a triplet, of the distances between all items."""
    ap, an, pn = d[a, p], d[a, n], d[p, n]
    if form == "hinge":
        return float(max(0.0, ap - an + 0.2))
    if form == "hinge_squared":
        return float(max(0.0, ap**2 - an**2 + 0.2))
    if form == "ratio":
        both = np.exp(ap) + np.exp(an)
        return float((np.exp(ap) / both) ** 2 - (np.exp(an) / both) ** 2)
    return float(ap + np.log(np.exp(0.2 - an) + np.exp(0.2 - pn)))


def _unit_distances(x: Array) -> Array:
    return np.asarray(np.linalg.norm(unit(x)[:, None] - unit(x)[None], axis=-1))


def all_triplets(form: str, x: Array, y: Array, at: Array, percentile: float = 100, swap: bool = False) -> float:
    """The mean over the triplets whose loss is not zero; positives are those within a percentile of the anchor's distances."""
    positive, _ = pairs(y)
    d, fixed = _unit_distances(x), _unit_distances(at)
    losses = []
    for a in range(len(x)):
        own = [p for anchor, p in positive if anchor == a]
        local = [p for p in own if fixed[a, p] <= np.percentile([fixed[a, q] for q in own], percentile) + 1e-12]
        for p in local:
            for n in np.flatnonzero(y != y[a]):
                swapped = swap and fixed[p, n] < fixed[a, n]
                first, second = (p, a) if swapped else (a, p)
                if _triplet_loss(form, fixed, first, second, n) != 0:
                    losses.append(_triplet_loss(form, d, first, second, n))
    return mean(losses)


def batch_all(x: Array, y: Array, o: Objective, at: Array) -> float:
    return all_triplets("hinge", x, y, at)


def batch_all_squared(x: Array, y: Array, o: Objective, at: Array) -> float:
    return all_triplets("hinge_squared", x, y, at)


def batch_all_ratio(x: Array, y: Array, o: Objective, at: Array) -> float:
    return all_triplets("ratio", x, y, at)


def batch_all_soft(x: Array, y: Array, o: Objective, at: Array) -> float:
    return all_triplets("soft", x, y, at)


def batch_all_local(x: Array, y: Array, o: Objective, at: Array) -> float:
    return all_triplets("hinge", x, y, at, 60)


def batch_all_squared_local(x: Array, y: Array, o: Objective, at: Array) -> float:
    return all_triplets("hinge_squared", x, y, at, 60)


def batch_all_ratio_local(x: Array, y: Array, o: Objective, at: Array) -> float:
    return all_triplets("ratio", x, y, at, 60)


def batch_all_soft_local(x: Array, y: Array, o: Objective, at: Array) -> float:
    return all_triplets("soft", x, y, at, 60)


batch_all_library = batch_all


def consecutive_triplets(form: str, x: Array) -> float:
    """The mean over the triplets (0, 1, 2), (3, 4, 5) and so on, whatever their labels."""
    d = _unit_distances(x)
    return mean(_triplet_loss(form, d, a, a + 1, a + 2) for a in range(0, len(x), 3))


def conventional(x: Array, y: Array, o: Objective, at: Array) -> float:
    return consecutive_triplets("hinge", x)


def conventional_squared(x: Array, y: Array, o: Objective, at: Array) -> float:
    return consecutive_triplets("hinge_squared", x)


def conventional_ratio(x: Array, y: Array, o: Objective, at: Array) -> float:
    return consecutive_triplets("ratio", x)


def conventional_soft(x: Array, y: Array, o: Objective, at: Array) -> float:
    return consecutive_triplets("soft", x)


# Classification losses


def proxy_nca(x: Array, y: Array, o: Objective, at: Array) -> float:
    distances = 9 * ((x[:, None] - _proxies(o)[None]) ** 2).sum(-1)
    return mean(log_sum_exp(-row) + row[label] for row, label in zip(distances, y, strict=True))


def proxy_nca_original(x: Array, y: Array, o: Objective, at: Array) -> float:
    distances = ((x[:, None] - _proxies(o)[None]) ** 2).sum(-1)
    return mean(log_sum_exp(-np.delete(row, label)) + row[label] for row, label in zip(distances, y, strict=True))


def proxy_anchor(x: Array, y: Array, o: Objective, at: Array) -> float:
    alpha, delta = 32, 0.1
    cosine = x @ _proxies(o).T
    classes = range(cosine.shape[1])
    pull = [log_sum_exp([0, *(-alpha * (cosine[y == c, c] - delta))]) for c in classes if (y == c).any()]
    push = [log_sum_exp([0, *(alpha * (cosine[y != c, c] + delta))]) for c in classes]
    return mean(pull) + mean(push)


def softtriple(x: Array, y: Array, o: Objective, at: Array) -> float:
    la, gamma, delta, tau, k = 20, 0.1, 0.01, 0.2, 10
    centres = unit(o.loss.fc.detach().numpy().T)  # type: ignore[union-attr, operator]
    centres = centres.reshape(-1, k, x.shape[1])
    similarity = np.einsum("nd,ckd->nck", x, centres)
    share = np.exp(similarity / gamma)
    relaxed = (share / share.sum(-1, keepdims=True) * similarity).sum(-1)
    losses = []
    for row, label in zip(relaxed, y, strict=True):
        logits = la * (row - delta * (np.arange(len(centres)) == label))
        losses.append(log_sum_exp(logits) - logits[label])
    distances = [np.linalg.norm(own[i] - own[j]) for own in centres for i in range(k) for j in range(i + 1, k)]
    return mean(losses) + tau * mean(distances) / 2


def _classifier(x: Array, y: Array, o: Objective, scale: float, target: Callable[[Array], Array], centres: int = 1) -> float:
    weights = unit(o.loss.W.detach().numpy().T)  # type: ignore[union-attr, operator]
    cosine = (x @ weights.T).reshape(len(x), -1, centres).max(-1)
    losses = []
    for row, label in zip(cosine, y, strict=True):
        logits = scale * np.where(np.arange(len(row)) == label, target(row), row)
        losses.append(log_sum_exp(logits) - logits[label])
    return mean(losses)


def cosface(x: Array, y: Array, o: Objective, at: Array) -> float:
    return _classifier(x, y, o, 64, lambda cosine: cosine - 0.35)


def arcface(x: Array, y: Array, o: Objective, at: Array) -> float:
    # 28.6 degrees; above 180 degrees the loss uses cos - margin * sin(margin), which does not occur here
    return _classifier(x, y, o, 64, lambda cosine: np.cos(np.arccos(cosine) + np.deg2rad(28.6)))


def subcenter_arcface(x: Array, y: Array, o: Objective, at: Array) -> float:
    return _classifier(x, y, o, 64, lambda cosine: np.cos(np.arccos(cosine) + np.deg2rad(28.6)), centres=3)


def normalized_softmax(x: Array, y: Array, o: Objective, at: Array) -> float:
    return _classifier(x, y, o, 1 / 0.05, lambda cosine: cosine)


def _proxies(o: Objective) -> Array:
    return unit(o.loss.proxies.detach().numpy())  # type: ignore[union-attr, operator]


PAIR_LOSSES = (
    *("contrastive", "contrastive_hadsell", "triplet", "multi_similarity", "multi_similarity_no_miner", "fastap"),
    *("snr_contrastive", "margin", "margin_per_class", "supcon", "ntxent", "circle", "lifted_structure"),
    *("cross_batch_memory", "smooth_ap", "roadmap", "recall_at_k"),
    *("binomial_deviance", "soft_binomial_deviance", "attributes_only", "multitask", "sgml"),
    *("batch_all", "batch_all_squared", "batch_all_ratio", "batch_all_soft", "batch_all_library"),
    *("batch_all_local", "batch_all_squared_local", "batch_all_ratio_local", "batch_all_soft_local"),
    *("conventional", "conventional_squared", "conventional_ratio", "conventional_soft"),
)
CLASSIFICATION_LOSSES = (
    *("proxy_nca", "proxy_nca_original", "softtriple", "cosface", "arcface", "subcenter_arcface", "normalized_softmax"),
    "proxy_anchor",
)
FORMULAS: dict[str, Formula] = {name: globals()[name] for name in (*PAIR_LOSSES, *CLASSIFICATION_LOSSES)}
