"""Throughput of `trainer.train`, relative to a minimal loop with the same model, loss, batches and loader.

The minimal loop is also measured with one batch that stays on the device: what remains is the time for loading images.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence

import torch

from benchmarks.timing import alternate
from dmlbench.config.compose import compose
from dmlbench.data.loader import Batch, make_batches, to_device
from dmlbench.losses.objective import Objective
from dmlbench.models.embedder import Embedder, build_embedder
from dmlbench.results import run_files
from dmlbench.runs.prepare import prepare
from dmlbench.training.environment import make_deterministic
from dmlbench.training.epoch_sampler import EpochSampler, training_labels
from dmlbench.training.optimization import make_optimizer
from dmlbench.training.trained_model import initial_objective
from dmlbench.training.trainer import train


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the images per second of both sides and their ratio.

    Args:
        quick: Measure one round of one epoch.
        overrides: Overrides of the configuration, such as a trunk and a device.
    """
    rounds, epochs = (1, 1) if quick else (5, 2)
    with tempfile.TemporaryDirectory() as directory:
        paths = [f"paths.runs={directory}/runs", f"paths.data={directory}/data"]
        plan, split = prepare(compose(["loss=multi_similarity", f"protocol.epochs={epochs}", *paths, *overrides]))
        make_deterministic(plan.protocol.threads)
        plan.folder.mkdir(parents=True)
        batches = make_batches(plan, split)
        labels = torch.from_numpy(training_labels(split))
        ids, sampler = split.ids("train"), EpochSampler(plan, training_labels(split))
        batches_of_run = [batch for epoch in range(epochs) for batch in sampler(epoch)]

        def build() -> tuple[Embedder, Objective]:
            objective = initial_objective(plan)
            assert objective is not None
            return build_embedder(plan).to(plan.device, memory_format=torch.channels_last), objective.to(plan.device)

        def harness() -> float:
            (plan.folder / run_files.CHECKPOINT).unlink(missing_ok=True)
            model, objective = build()
            began = time.perf_counter()
            train(model, objective, split, batches, plan)
            return time.perf_counter() - began

        def bare(loaded: Iterable[Batch]) -> float:
            model, objective = build()
            optimizer = make_optimizer([{"params": [*model.parameters(), *objective.parameters()]}], plan)
            mixed = torch.autocast(plan.device, dtype=torch.bfloat16, enabled=plan.precision == "bf16_training")
            began = time.perf_counter()
            model.train()
            loss = torch.zeros(())
            for batch, (images, _) in zip(batches_of_run, loaded, strict=True):
                with mixed:
                    embeddings = model(to_device(images, plan.device))
                loss = objective(embeddings, labels[batch].to(plan.device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            loss.item()  # waits for the device
            return time.perf_counter() - began

        def in_batches() -> Iterator[Batch]:
            return batches.training((ids[batch] for batch in batches_of_run), plan.seed)

        images, image_ids = next(in_batches())
        one = [(to_device(images, plan.device), image_ids)] * len(batches_of_run)
        took = alternate(rounds, harness=harness, bare=lambda: bare(in_batches()), step=lambda: bare(one))
    n_images = len(batches_of_run) * plan.protocol.batch_size
    speeds = {name: n_images / seconds for name, seconds in took.items()}
    print(f"train   dmlbench {speeds['harness']:.0f} images/s, bare {speeds['bare']:.0f}, without loading {speeds['step']:.0f}")
    print(f"train   ratio {took['bare'] / took['harness']:.3f} of the throughput of the minimal loop (at least 0.95)")
    print(f"train   ratio {took['step'] / took['harness']:.3f} of the throughput of steps without loading")
