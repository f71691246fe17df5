"""Throughput of `trainer.train`, relative to a minimal loop with the same model, loss, batches and loader."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence

import torch

from benchmarks.timing import alternate
from dmlbench.config.compose import compose
from dmlbench.data.loader import Batches
from dmlbench.losses.objective import Objective
from dmlbench.models.embedder import Embedder, build_embedder
from dmlbench.results import run_files
from dmlbench.runs.prepare import prepare
from dmlbench.training.environment import make_deterministic
from dmlbench.training.epoch_sampler import EpochSampler, training_labels
from dmlbench.training.trained_model import initial_objective
from dmlbench.training.trainer import train


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the images per second of both sides and their ratio.

    Args:
        quick: Measure one round of one epoch.
        overrides: Not used.
    """
    rounds, epochs = (1, 1) if quick else (5, 2)
    with tempfile.TemporaryDirectory() as directory:
        paths = [f"paths.runs={directory}/runs", f"paths.data={directory}/data"]
        plan, split = prepare(compose(["loss=multi_similarity", f"protocol.epochs={epochs}", *paths]))
        make_deterministic(plan.protocol.threads)
        plan.folder.mkdir(parents=True)
        batches = Batches(split.paths(), plan.protocol)  # keeps the decoded images in memory, for both sides
        labels = torch.from_numpy(training_labels(split))
        ids, sampler = split.ids("train"), EpochSampler(plan, training_labels(split))
        batches_of_run = [batch for epoch in range(epochs) for batch in sampler(epoch)]

        def build() -> tuple[Embedder, Objective]:
            objective = initial_objective(plan)
            assert objective is not None
            return build_embedder(plan), objective

        def harness() -> float:
            (plan.folder / run_files.CHECKPOINT).unlink(missing_ok=True)
            model, objective = build()
            began = time.perf_counter()
            train(model, objective, split, batches, plan)
            return time.perf_counter() - began

        def bare() -> float:
            model, objective = build()
            model.to(memory_format=torch.channels_last)
            parameters = [*model.parameters(), *objective.parameters()]
            optimizer = torch.optim.AdamW(parameters, lr=plan.protocol.lr, weight_decay=1e-4)
            loaded = batches.training((ids[batch] for batch in batches_of_run), plan.seed)
            began = time.perf_counter()
            model.train()
            for batch, (images, _) in zip(batches_of_run, loaded, strict=True):
                loss = objective(model(images.to(memory_format=torch.channels_last)), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            return time.perf_counter() - began

        took = alternate(rounds, harness=harness, bare=bare)
    images = len(batches_of_run) * plan.protocol.batch_size
    print(f"train   bare {images / took['bare']:.0f} images/s, dmlbench {images / took['harness']:.0f} images/s")
    print(f"train   ratio {took['bare'] / took['harness']:.3f} of the throughput of the minimal loop (at least 0.95)")
