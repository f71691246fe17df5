"""How far proxies turn in the first steps, for every loss with proxies and several numbers of classes.

A batch has 28 classes with 4 embeddings each, of 512 dimensions: noise around random class means, without a trunk. Optimizer,
learning rates and batches are those of the protocol `standard`. Printed is the mean angle over all proxies, after 1, 5 and 20
steps, in degrees. Numbers are not ratios, and do not depend on the machine except for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dmlbench.config.compose import Settings, compose, resolve
from dmlbench.config.files import entries
from dmlbench.config.instantiate import build
from dmlbench.config.learning_rates import learning_rates
from dmlbench.losses.objective import build_objective
from dmlbench.losses.proxies import copy_proxies
from dmlbench.losses.proxy_diagnostics import mean_turn
from dmlbench.training.environment import make_deterministic

DIM, CLASSES_PER_BATCH, PER_CLASS = 512, 28, 4
CLASSES = (50, 100, 1_000, 3_997, 11_318)
STEPS = (1, 5, 20)
NOISE = 1.0  # expected length of the noise, relative to that of a class mean
# Name in print to overrides, for comparison with the losses as configured.
COMPARED = {
    "softtriple, constructor, x 10": ["loss=softtriple", "loss.proxy_init=constructor", "loss.lr_scale=10"],
    "softtriple, constructor, x 100": ["loss=softtriple", "loss.proxy_init=constructor", "loss.lr_scale=100"],
    "softtriple, authors": [
        "loss=softtriple",
        "loss.proxy_init=constructor",
        "loss.lr_scale=100",
        "optimizer=adam",
        "optimizer.eps=0.01",
    ],
}


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print a table in Markdown: one line per loss, one column per number of classes.

    Args:
        quick: Measure small numbers of classes.
        overrides: Overrides of the configuration; `loss=NAME` measures one loss.
    """
    classes = (30, 60) if quick else CLASSES
    base = ["dataset=cub", "protocol=standard", f"protocol.embedding_dim={DIM}"]
    cases = {name: [f"loss={name}"] for name in _losses_with_proxies(base)} | COMPARED
    chosen = [one for one in overrides if one.startswith("loss=")]
    others = [one for one in overrides if not one.startswith("loss=")]
    make_deterministic(torch.get_num_threads())
    print(f"| mean angle after {' / '.join(map(str, STEPS))} steps | rate | {' | '.join(f'{n:,} classes' for n in classes)} |")
    print(f"|---|--:|{'--:|' * len(classes)}")
    for name, own in cases.items():
        if chosen and own[0] not in chosen:
            continue
        cells, rate = [], 0.0
        for n in classes:
            settings = resolve(compose([*base, *own, *others]), {"train_classes": n, "train_images": 5 * n})
            rate = learning_rates(settings.method, settings.protocol).loss
            cells.append(" / ".join(f"{angle:.1f}" for angle in _angles(settings, n)))
        print(f"| {name} | {rate:g} | {' | '.join(cells)} |", flush=True)


def _losses_with_proxies(base: Sequence[str]) -> list[str]:
    methods = {name: resolve(compose([*base, f"loss={name}"]), {"train_classes": 30}).method for name, _ in entries("loss")}
    return [name for name, method in methods.items() if method.kind == "classification"]


def _angles(settings: Settings, n_classes: int) -> list[float]:
    """The mean angle after each number of `STEPS`, in degrees."""
    torch.manual_seed(0)
    objective = build_objective(settings.method)
    assert objective is not None
    rate = learning_rates(settings.method, settings.protocol).loss
    group: dict[str, object] = {"params": list(objective.parameters()), "lr": rate}
    if settings.method.weight_decay is not None:
        group["weight_decay"] = settings.method.weight_decay
    optimizer = build("optimizer", settings.optimizer, [group])
    before, found = copy_proxies(objective, DIM), []
    generator = torch.Generator().manual_seed(0)
    means = torch.nn.functional.normalize(torch.randn(n_classes, DIM, generator=generator))
    for step in range(1, max(STEPS) + 1):
        drawn = torch.randperm(n_classes, generator=generator)[:CLASSES_PER_BATCH]
        labels = drawn.repeat_interleave(PER_CLASS)
        noise = torch.randn(len(labels), DIM, generator=generator) * NOISE / DIM**0.5
        embeddings = torch.nn.functional.normalize(means[labels] + noise)
        optimizer.zero_grad(set_to_none=True)
        objective(embeddings, labels).backward()
        optimizer.step()
        if step in STEPS:
            turn = mean_turn(before, copy_proxies(objective, DIM))
            assert turn is not None
            found.append(turn)
    return found


if __name__ == "__main__":
    measure(False, ())
