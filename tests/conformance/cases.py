"""The cases. Each shows a pitfall that occurs in published code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from oracle import expected

Evaluate = Callable[..., dict[str, float]]
TOLERANCE = 1e-5  # accepts means in float32, but not one wrong query


@dataclass(frozen=True)
class Case:
    """One check of an implementation.

    Args:
        name: Name of the pitfall.
        requirement: What the implementation has to do, in one sentence.
        holds: Function from an implementation to whether it does.
    """

    name: str
    requirement: str
    holds: Callable[[Evaluate], bool]

    def passes(self, evaluate: Evaluate) -> bool:
        """Return whether an implementation meets the requirement; False if it raises any exception.

        Args:
            evaluate: The implementation.
        """
        try:
            return self.holds(evaluate)
        except Exception:
            return False


def unit(values: np.ndarray) -> np.ndarray:
    """Normalise rows to unit length, float32 `(N, D)`."""
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def clusters(labels: np.ndarray, dim: int = 8, noise: float = 0.6, seed: int = 0) -> np.ndarray:
    """Make unit vectors around one centre per label, such that some queries succeed and some fail."""
    rng = np.random.default_rng(seed)
    names, index = np.unique(labels, return_inverse=True)
    return unit(rng.standard_normal((len(names), dim))[index] + noise * dim**0.5 * rng.standard_normal((len(labels), dim)))


def each_against_others(x: np.ndarray, labels: np.ndarray, ids: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Return the arguments of an evaluation in which every item is a query among all others."""
    labels = np.asarray(labels, dtype=np.int64)
    ids = np.arange(len(x)) if ids is None else ids
    return x, x, labels, labels, ids, ids


def agrees(arguments: tuple[np.ndarray, ...], ks: tuple[int, ...] = (1, 2, 4)) -> Callable[[Evaluate], bool]:
    """Require that every returned metric equals the oracle's, and that R-precision, MAP@R and Recall@1 are returned."""
    correct = expected(*arguments, ks=ks)

    def holds(evaluate: Evaluate) -> bool:
        found = evaluate(*arguments, ks=ks)
        needed = {"recall_at_1", "r_precision", "map_at_r"} <= found.keys()
        return needed and all(abs(value - correct[name]) <= TOLERANCE for name, value in found.items() if name in correct)

    return holds


def same(*sets: tuple[np.ndarray, ...]) -> Callable[[Evaluate], bool]:
    """Require that several sets of arguments give the same metrics."""

    def holds(evaluate: Evaluate) -> bool:
        first, *others = (evaluate(*arguments, ks=(1, 2, 4)) for arguments in sets)
        return all(abs(other[name] - first[name]) <= TOLERANCE for other in others for name in first)

    return holds


def refuses(arguments: tuple[np.ndarray, ...]) -> Callable[[Evaluate], bool]:
    """Require that the arguments are refused with an exception."""

    def holds(evaluate: Evaluate) -> bool:
        try:
            evaluate(*arguments, ks=(1,))
        except Exception:
            return True
        return False

    return holds


def one_at_a_time(arguments: tuple[np.ndarray, ...]) -> Callable[[Evaluate], bool]:
    """Require that the mean over queries that are evaluated alone equals the metrics of all together."""
    queries, gallery, query_labels, gallery_labels, query_ids, gallery_ids = arguments

    def holds(evaluate: Evaluate) -> bool:
        whole = evaluate(*arguments, ks=(1, 2, 4))
        alone = []
        for i in range(len(queries)):
            one = slice(i, i + 1)
            alone.append(
                evaluate(queries[one], gallery, query_labels[one], gallery_labels, query_ids[one], gallery_ids, ks=(1, 2, 4))
            )
        return all(abs(np.mean([each[name] for each in alone]) - whole[name]) <= TOLERANCE for name in whole)

    return holds


def cases() -> Iterator[Case]:
    """Iterate over all cases."""
    rng = np.random.default_rng(7)
    labels = np.repeat(np.arange(12), 5)
    x = clusters(labels)

    yield Case("plain", "Data without a pitfall gives the textbook values.", agrees(each_against_others(x, labels)))

    twins = x.copy()
    twins[1::5] = twins[np.roll(np.arange(0, 60, 5), 1)]  # copies of items of another class
    yield Case(
        "self among duplicates",
        "A query is excluded by its id. A duplicate of another class that ties with it is not excluded instead.",
        agrees(each_against_others(twins[::-1].copy(), labels[::-1].copy())),
    )
    yield Case(
        "ties",
        "A tie counts with its expected value over random orders of the tied items.",
        agrees(each_against_others(x[rng.integers(0, 20, 60)], rng.integers(0, 6, 60))),
    )
    one_point = np.repeat(x[:1], 60, axis=0)
    yield Case(
        "collapse, sorted by class",
        "A collapsed embedding scores at chance level.",
        agrees(each_against_others(one_point, labels)),
    )
    mixed = rng.permutation(labels)
    yield Case(
        "collapse, shuffled", "A collapsed embedding scores at chance level.", agrees(each_against_others(one_point, mixed))
    )
    near = unit(x[:1] + 1e-4 * rng.standard_normal((60, 8)))
    yield Case(
        "nearly collapsed",
        "Scores whose difference is below the precision of float32 are ordered by their exact values.",
        agrees(each_against_others(near, labels)),
    )
    small = np.repeat(np.arange(15), 2)
    yield Case(
        "small classes",
        "R is the number of relevant items of the query, here 1.",
        agrees(each_against_others(clusters(small, noise=0.3), small)),
    )
    uneven = np.repeat(np.arange(8), [2, 2, 3, 4, 6, 9, 14, 20])
    yield Case("uneven classes", "Each query has the R of its class.", agrees(each_against_others(clusters(uneven), uneven)))
    with_singletons = np.concatenate([labels, 100 + np.arange(10)])
    yield Case(
        "singletons",
        "A query without a relevant item is excluded.",
        agrees(each_against_others(clusters(with_singletons), with_singletons)),
    )
    few = np.repeat(np.arange(2), 30)
    yield Case(
        "k below R",
        "MAP@R uses R ranks, even if all k of Recall@k are smaller.",
        agrees(each_against_others(clusters(few, noise=1.5), few), ks=(1,)),
    )
    yield Case(
        "k above R",
        "Precision@k divides by k and Recall@k uses k ranks, even if R is smaller.",
        agrees(each_against_others(clusters(small), small), ks=(1, 8, 29)),
    )
    side = rng.permutation(60)
    q, g = side[:20], side[20:]
    separate = x[q], x[g], labels[q], labels[g], q, g
    yield Case("query and gallery separate", "If no query is in the gallery, no gallery item is excluded.", agrees(separate))
    within = x[q], x, labels[q], labels, q, np.arange(60)
    yield Case(
        "queries within the gallery",
        "If queries are part of the gallery, each is excluded from its own results only.",
        agrees(within),
    )
    unseen = np.where(labels[q] < 6, labels[q], labels[q] + 50)
    yield Case(
        "classes missing from the gallery",
        "A query whose class is not in the gallery is excluded.",
        agrees((x[q], x[g], unseen, labels[g], q, g)),
    )
    for name, base in (("2^24", 2**24), ("2^53", 2**53), ("2^62", 2**62)):
        huge = base + labels
        yield Case(f"labels from {name}", "Labels are compared as integers.", agrees(each_against_others(x, huge)))
    negative = each_against_others(x, labels - 5)  # small, because "labels from 2^24" tests large ones
    yield Case("negative labels", "Labels may be any integers.", agrees(negative))
    yield Case(
        "ids in any order",
        "Ids identify items; they are not positions.",
        agrees(each_against_others(x, labels, rng.permutation(60) * 7 + 3)),
    )
    tied = x[rng.integers(0, 20, 60)]
    order = rng.permutation(60)
    permuted = each_against_others(tied[order], labels[order], order)
    yield Case(
        "permutation", "The order of the rows does not change metrics.", same(each_against_others(tied, labels), permuted)
    )
    yield Case(
        "chunks",
        "Queries that are evaluated one at a time or together have the same metrics.",
        one_at_a_time(each_against_others(tied, labels)),
    )
    # A component that all items share turns a score s into 0.01 s + 0.99.
    shifted = np.concatenate([0.1 * x.astype(float), np.full((60, 1), 0.99**0.5)], 1).astype(np.float32)
    yield Case(
        "constant shift",
        "A constant that is added to all scores does not change metrics, except for ties that rounding creates.",
        agrees(each_against_others(shifted, labels)),
    )
    broken = x.copy()
    broken[3, 2] = np.nan
    yield Case("NaN", "Embeddings that contain NaN are refused.", refuses(each_against_others(broken, labels)))
    infinite = x.copy()
    infinite[5, 0] = np.inf
    yield Case("infinity", "Embeddings that contain infinity are refused.", refuses(each_against_others(infinite, labels)))
