"""CPU time of losses relative to pytorch-metric-learning, for the same value and gradient, forward and backward, one thread.

The two sides alternate in one process. Embeddings have 512 dimensions and form clusters, so that triplets of all kinds occur.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import normalize

from benchmarks.timing import alternate, measure_in_process
from dmlbench.config.compose import compose, resolve
from dmlbench.losses.objective import Objective, build_objective

DIM, ROUNDS = 512, 5
_MINER = "loss.miner._target_=pytorch_metric_learning.miners.triplet_margin_miner.TripletMarginMiner"
_SOFTTRIPLE = "loss.make._target_=pytorch_metric_learning.losses.SoftTripleLoss"


class Comparison(NamedTuple):
    """A loss of dmlbench and the equal one of the library, on one kind of batch."""

    ours: str
    """Override that chooses the loss."""
    library: tuple[str, ...]
    """Overrides that choose the library's."""
    images: int
    """Images per batch."""
    per_class: int
    """Images per class."""
    classes: int
    """Training classes."""
    limit: float
    """Largest accepted ratio."""


COMPARISONS = {
    "batch_all": Comparison("loss=batch_all", ("loss=batch_all_library",), 512, 4, 128, 0.12),
    "batch_all, 16 per class": Comparison("loss=batch_all", ("loss=batch_all_library",), 512, 16, 32, 0.12),
    "batch_all_squared": Comparison(
        "loss=batch_all_squared",
        ("loss=batch_all_library", "+loss.make.distance={_target_: pytorch_metric_learning.distances.LpDistance, power: 2}"),
        *(512, 4, 128, 0.12),
    ),
    "triplet": Comparison("loss=triplet", ("loss=triplet", _MINER), 512, 4, 128, 0.5),
    "triplet, 16 per class": Comparison("loss=triplet", ("loss=triplet", _MINER), 512, 16, 32, 0.5),
    # The library's regulariser compares all centres, which needs 48 GiB.
    "softtriple": Comparison(
        "loss=softtriple loss.make.weight_reg_weight=0", ("loss=softtriple", _SOFTTRIPLE), 112, 4, 11_318, 0.5
    ),
}


def measure(quick: bool, names: Sequence[str] = ()) -> None:
    """Print one line per comparison: the ratio and the largest difference.

    Args:
        quick: Measure small batches.
        names: Losses to compare; none for all.
    """
    for name, one in COMPARISONS.items():
        if names and name.partition(",")[0] not in names:
            continue
        found = measure_in_process("loss_ratio", name, str(int(quick)))
        ratio, milliseconds = found["ours"] / found["library"], found["library"] * 1000
        one = _reduced(one) if quick else one
        text = f"{one.images} images, {one.per_class} per class" + (f", {one.classes:,} classes" if one.classes > 1000 else "")
        print(
            f"loss    {name:26} {ratio:5.3f} of the library's CPU time (at most {one.limit}; {milliseconds:.0f} ms; {text}); "
            f"largest relative difference {found['difference']:.0e}",
            flush=True,
        )


def _reduced(one: Comparison) -> Comparison:
    return one._replace(images=32, classes=min(one.classes, 2000))


def _objective(overrides: Sequence[str], classes: int) -> Objective:
    composed = compose(["dataset=cub", f"protocol.embedding_dim={DIM}", *overrides])
    torch.manual_seed(0)
    objective = build_objective(resolve(composed, {"train_classes": classes, "train_images": 5 * classes}).method)
    assert objective is not None
    return objective


def _compare(one: Comparison) -> dict[str, float]:
    """Median CPU seconds of both sides, and the largest relative difference of value or gradient."""
    labels = torch.arange(one.images) // one.per_class
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(one.images, DIM, generator=generator)[labels]
    embeddings = normalize(0.5 * centres + torch.randn(one.images, DIM, generator=generator)).requires_grad_()
    sides = {"ours": one.ours.split(), "library": list(one.library)}
    objectives = {name: _objective(overrides, one.classes) for name, overrides in sides.items()}
    results: dict[str, list[torch.Tensor]] = {}

    def step(name: str) -> Callable[[], float]:
        def run() -> float:
            parameters = [embeddings, *objectives[name].parameters()]
            for parameter in parameters:
                parameter.grad = None
            began = time.process_time()
            value = objectives[name](embeddings, labels)
            value.backward()
            seconds = time.process_time() - began
            results[name] = [value.detach(), *(one.grad for one in parameters if one.grad is not None)]
            return seconds

        return run

    seconds = alternate(ROUNDS, **{name: step(name) for name in sides})
    pairs = zip(results["ours"], results["library"], strict=True)
    return {**seconds, "difference": max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    name_, quick_ = sys.argv[1:]
    chosen = COMPARISONS[name_]
    print(json.dumps(_compare(_reduced(chosen) if quick_ == "1" else chosen)))
