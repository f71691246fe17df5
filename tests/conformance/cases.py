"""The cases: each a pitfall met in published code, as arrays that show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from oracle import expected

Evaluate = Callable[..., dict[str, float]]
TOLERANCE = 1e-5  # float32 means are allowed; one query that goes wrong is not


@dataclass(frozen=True)
class Case:
    """One question to an evaluator.

    Args:
        name: of the pitfall.
        asks: what must hold, in one sentence.
        holds: whether it does, of an implementation; an exception counts as no.
    """

    name: str
    asks: str
    holds: Callable[[Evaluate], bool]

    def passes(self, evaluate: Evaluate) -> bool:
        """Whether an implementation does what is asked."""
        try:
            return self.holds(evaluate)
        except Exception:  # whatever it dies of
            return False


def unit(values: np.ndarray) -> np.ndarray:
    """Rows of unit length, float32."""
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def clusters(labels: np.ndarray, dim: int = 8, noise: float = 0.6, seed: int = 0) -> np.ndarray:
    """Unit vectors around a centre for each label, so that some queries succeed and some fail."""
    rng = np.random.default_rng(seed)
    names, place = np.unique(labels, return_inverse=True)
    return unit(rng.standard_normal((len(names), dim))[place] + noise * dim**0.5 * rng.standard_normal((len(labels), dim)))


def everyone(x: np.ndarray, labels: np.ndarray, ids: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Every item a query among all the others."""
    labels = np.asarray(labels, dtype=np.int64)
    ids = np.arange(len(x)) if ids is None else ids
    return x, x, labels, labels, ids, ids


def agrees(arguments: tuple[np.ndarray, ...], ks: tuple[int, ...] = (1, 2, 4)) -> Callable[[Evaluate], bool]:
    """That every number given is the oracle's, and R-precision, MAP@R and Recall@1 are among them."""
    right = expected(*arguments, ks=ks)

    def holds(evaluate: Evaluate) -> bool:
        found = evaluate(*arguments, ks=ks)
        needed = {"recall_at_1", "r_precision", "map_at_r"} <= found.keys()
        return needed and all(abs(value - right[name]) <= TOLERANCE for name, value in found.items() if name in right)

    return holds


def same(*sets: tuple[np.ndarray, ...]) -> Callable[[Evaluate], bool]:
    """That several ways to put one question have one answer."""

    def holds(evaluate: Evaluate) -> bool:
        first, *others = (evaluate(*arguments, ks=(1, 2, 4)) for arguments in sets)
        return all(abs(other[name] - first[name]) <= TOLERANCE for other in others for name in first)

    return holds


def refuses(arguments: tuple[np.ndarray, ...]) -> Callable[[Evaluate], bool]:
    """That it raises."""

    def holds(evaluate: Evaluate) -> bool:
        try:
            evaluate(*arguments, ks=(1,))
        except Exception:
            return True
        return False

    return holds


def one_at_a_time(arguments: tuple[np.ndarray, ...]) -> Callable[[Evaluate], bool]:
    """That the mean over queries asked alone is the number of all asked together."""
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
    """All of them."""
    rng = np.random.default_rng(7)
    labels = np.repeat(np.arange(12), 5)
    x = clusters(labels)

    yield Case("plain", "Without any pitfall the textbook's numbers come out.", agrees(everyone(x, labels)))

    twins = x.copy()
    twins[1::5] = twins[np.roll(np.arange(0, 60, 5), 1)]  # the copy of an item of another class
    yield Case(
        "self among duplicates",
        "A query is left out by its id; a duplicate of another class that ties with it is not left out in its stead.",
        agrees(everyone(twins[::-1].copy(), labels[::-1].copy())),
    )
    yield Case(
        "ties",
        "Tied items score their expected value over random orders.",
        agrees(everyone(x[rng.integers(0, 20, 60)], rng.integers(0, 6, 60))),
    )
    one_point = np.repeat(x[:1], 60, axis=0)
    yield Case("collapse, sorted by class", "A collapsed embedding scores chance.", agrees(everyone(one_point, labels)))
    mixed = rng.permutation(labels)
    yield Case("collapse, shuffled", "A collapsed embedding scores chance.", agrees(everyone(one_point, mixed)))
    near = unit(x[:1] + 1e-4 * rng.standard_normal((60, 8)))
    yield Case(
        "nearly collapsed",
        "Scores that differ by less than float32 rounds are ordered by their exact values.",
        agrees(everyone(near, labels)),
    )
    small = np.repeat(np.arange(15), 2)
    yield Case("small classes", "R is the query's own, 1 here.", agrees(everyone(clusters(small, noise=0.3), small)))
    uneven = np.repeat(np.arange(8), [2, 2, 3, 4, 6, 9, 14, 20])
    yield Case("uneven classes", "Each query has the R of its class.", agrees(everyone(clusters(uneven), uneven)))
    lonely = np.concatenate([labels, 100 + np.arange(10)])
    yield Case("singletons", "A query without a relevant item is left out.", agrees(everyone(clusters(lonely), lonely)))
    few = np.repeat(np.arange(2), 30)
    yield Case(
        "k below R",
        "MAP@R looks at R ranks, however small the k of Recall@k.",
        agrees(everyone(clusters(few, noise=1.5), few), ks=(1,)),
    )
    yield Case(
        "k above R",
        "Precision@k divides by k and Recall@k looks at k ranks, also where R is smaller.",
        agrees(everyone(clusters(small), small), ks=(1, 8, 29)),
    )
    side = rng.permutation(60)
    q, g = side[:20], side[20:]
    apart = x[q], x[g], labels[q], labels[g], q, g
    yield Case("query and gallery apart", "Where no query is in the gallery, none is left out of it.", agrees(apart))
    within = x[q], x, labels[q], labels, q, np.arange(60)
    yield Case("queries within the gallery", "Some of the gallery are queries, and left out for themselves.", agrees(within))
    unseen = np.where(labels[q] < 6, labels[q], labels[q] + 50)
    yield Case(
        "classes the gallery lacks",
        "A query whose class the gallery lacks is left out.",
        agrees((x[q], x[g], unseen, labels[g], q, g)),
    )
    for name, base in (("2^24", 2**24), ("2^53", 2**53), ("2^62", 2**62)):
        huge = base + labels
        yield Case(f"labels from {name}", "Labels are compared as whole numbers.", agrees(everyone(x, huge)))
    negative = everyone(x, labels - 2**40)
    yield Case("negative labels", "Labels may be any whole numbers.", agrees(negative))
    yield Case("ids in any order", "Ids are names, not positions.", agrees(everyone(x, labels, rng.permutation(60) * 7 + 3)))
    tied = x[rng.integers(0, 20, 60)]
    order = rng.permutation(60)
    permuted = everyone(tied[order], labels[order], order)
    yield Case("permutation", "The order of the rows changes nothing.", same(everyone(tied, labels), permuted))
    yield Case("chunks", "Queries asked one by one or together score the same.", one_at_a_time(everyone(tied, labels)))
    # a component that all share: scores become .01 s + .99
    shifted = np.concatenate([0.1 * x.astype(float), np.full((60, 1), 0.99**0.5)], 1).astype(np.float32)
    yield Case(
        "constant shift",
        "A constant added to all scores changes nothing but what rounding leaves.",
        agrees(everyone(shifted, labels)),
    )
    broken = x.copy()
    broken[3, 2] = np.nan
    yield Case("NaN", "Embeddings that are no numbers are refused.", refuses(everyone(broken, labels)))
    infinite = x.copy()
    infinite[5, 0] = np.inf
    yield Case("infinity", "Embeddings that are not finite are refused.", refuses(everyone(infinite, labels)))
