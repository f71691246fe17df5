"""The training loop. A training that resumes from a checkpoint ends with the same weights as one without interruption."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from dmlbench.config.plan import Plan
from dmlbench.config.schema import Method, Protocol
from dmlbench.data.loader import AnyBatches, Batch
from dmlbench.data.split import Split
from dmlbench.losses.objective import Objective
from dmlbench.losses.proxy_diagnostics import FIRST_STEPS
from dmlbench.models.embedder import Embedder
from dmlbench.models.state_files import save_state
from dmlbench.results import run_files
from dmlbench.system.seeding import derive_seed, seed_globals
from dmlbench.training import processes
from dmlbench.training.batch_gradients import add_gradients
from dmlbench.training.checkpoint import History, load_model, resume, save_checkpoint
from dmlbench.training.embed import embed
from dmlbench.training.epoch_sampler import EpochSampler, training_labels
from dmlbench.training.optimization import (
    clip_gradients,
    divergence_as_failure,
    lr_factor,
    make_optimizer,
    parameter_groups,
    refuse_non_finite,
    refuse_zero_loss,
    set_training_mode,
)
from dmlbench.training.progress import Progress

__all__ = ["ValidateFunction", "out_of_patience", "record_validation", "train"]

# Scores a model during training: `Protocol.validation_score`, and `test_map_at_r` for the oracle.
ValidateFunction = Callable[[Embedder], dict[str, float]]


def train(
    model: Embedder,
    objective: Objective,
    split: Split,
    batches: AnyBatches,
    plan: Plan,
    folder: Path | None = None,
    validate: ValidateFunction | None = None,
    on_epoch_end: Callable[[History], None] = lambda history: None,
    name: str = "",
    proxy_turn: Callable[[], float | None] | None = None,
) -> History:
    """Train model and objective in place, for the epochs of the protocol or until its patience is exceeded.

    Args:
        model: Model to train, on the device of the plan. It ends with the weights that the protocol selects: of the last epoch,
            or of the best validation.
        objective: Objective to minimise; its parameters are trained as well.
        split: Data set with the training images.
        batches: Loads the images, or their features within `model.over_features()`.
        plan: Plan of the run.
        folder: Directory of the checkpoint, which is read if it exists and written after every epoch. None for the directory of
            the plan.
        validate: Scores the model before the first step and every `validate_every` epochs. Required if the protocol selects on
            validation.
        on_epoch_end: Called with the history before the first step, when it may come from a checkpoint, and after every epoch.
            It may raise to end training.
        name: Name of this training if a run has several, such as `fold 2 of 4`, for the lines about its progress.
        proxy_turn: Measures the angle by which proxies have turned since initialisation; recorded in the history after the
            first steps. None to leave it out.

    Returns:
        The history of the training.

    Raises:
        MethodFailure: A loss was not finite, or every loss was zero.
        UserError: The training images do not suffice for the batches of the plan.
    """
    protocol, folder = plan.protocol, folder or plan.folder
    ids, labels = split.ids("train"), training_labels(split)
    sampler = EpochSampler(plan, labels, lambda: embed(model, batches, ids.tolist(), plan.device).numpy())
    steps, batch_size = EpochSampler(plan, labels)(0).shape
    optimizer = make_optimizer(parameter_groups(model, objective, plan), plan)
    base_lrs = [group["lr"] for group in optimizer.param_groups]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    run = f"{plan.run_id}, trained with seed {plan.seed}"  # each fold of a run has another seed
    history = processes.on_first(lambda: resume(folder / run_files.CHECKPOINT, model, objective, optimizer, plan.oracle, run))
    processes.copy_from_first({"model": model, "objective": objective, "optimizer": optimizer}, plan.device)
    sampler.load_state_dict(history.sampler)
    start = len(history.epochs)
    label_of = torch.full((len(split.frame),), -1, dtype=torch.int64)
    label_of[torch.from_numpy(ids)] = torch.from_numpy(labels)
    attributes = attribute_values(split, plan.method)
    batches_of = epoch_batches(sampler, batches, ids, plan, range(start, protocol.epochs), (steps, batch_size))

    def run_epoch(epoch: int, progress: Progress) -> dict[str, float]:
        progress.start_epoch(epoch)
        began, losses = time.perf_counter(), torch.zeros(steps, device=plan.device)
        loaded = batches_of(epoch)
        set_training_mode(model, epoch, protocol)
        for step in range(epoch * steps, (epoch + 1) * steps):
            factor = lr_factor(step, steps, protocol)
            for group, lr in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = lr * factor
            images, image_ids = next(loaded)
            seed_globals(derive_seed(plan.seed, "step", step))
            with divergence_as_failure(parameters, epoch, step % steps):
                known = None if attributes is None else attributes[image_ids]
                optimizer.zero_grad(set_to_none=True)
                losses[step % steps] = add_gradients(model, objective, images, label_of[image_ids], plan, known)
                clip_gradients(parameters, protocol)
                optimizer.step()
            if proxy_turn is not None and is_measured(step + 1, steps):
                history.proxy_turn = proxy_turn()
            progress.step(losses, step % steps + 1)
        refuse_non_finite(losses, epoch)
        seconds = time.perf_counter() - began
        return {
            "epoch": epoch + 1,
            "loss": losses.mean().item(),
            "lr": optimizer.param_groups[0]["lr"],
            "seconds": round(seconds, 3),
            "images_per_second": round(steps * batch_size / seconds, 1),
        }

    progress = Progress(plan.method.name, name, protocol.epochs, steps, batch_size, start)
    if validate is not None and not history.evaluations:
        record_validation(model, 0, history, validate, folder, protocol)
    on_epoch_end(history)
    objective.train()
    with progress:
        for epoch in range(start, protocol.epochs):
            if out_of_patience(history, protocol):
                break
            history.epochs.append(run_epoch(epoch, progress))
            if validate is not None and ((epoch + 1) % protocol.validate_every == 0 or epoch + 1 == protocol.epochs):
                record_validation(model, epoch + 1, history, validate, folder, protocol)
            history.sampler = sampler.state_dict()
            save_checkpoint(folder, model, objective, optimizer, history)
            progress.end_epoch(history)
            on_epoch_end(history)
    refuse_zero_loss([epoch["loss"] for epoch in history.epochs])
    if protocol.selection == "validation":
        processes.on_first(lambda: load_model(folder / run_files.BEST, model, plan.device, run))
        processes.copy_from_first({"model": model}, plan.device)
    return history


def epoch_batches(
    sampler: EpochSampler, batches: AnyBatches, ids: np.ndarray, plan: Plan, epochs: range, shape: tuple[int, int]
) -> Callable[[int], Iterator[Batch]]:
    """Return a function of the epoch that returns an iterator whose next batches are those of the epoch.

    A batch has the images of this process, and the ids of the images of all processes. The batches of all epochs are loaded
    ahead by one loader, unless the sampler depends on the model or on earlier epochs.

    Args:
        sampler: Draws the batches of an epoch, as indices into `ids`.
        batches: Loads the images, or their features.
        ids: Ids of the training images, int64 `(N,)`.
        plan: Plan with the seed.
        epochs: Indices of the epochs.
        shape: Number of steps per epoch, and of images per batch.
    """
    steps, batch_size = shape
    part = processes.part_of(batch_size, processes.rank())

    def load(drawn: Iterable[np.ndarray], first: int) -> Iterator[Batch]:
        requested: deque[np.ndarray] = deque()  # ids of the batches that are being loaded, in their order

        def ids_of_batches() -> Iterator[Sequence[int]]:
            for batch in (batch for epoch in drawn for batch in epoch):
                requested.append(ids[batch])
                yield cast(Sequence[int], requested[-1])

        for images, _ in batches.training(ids_of_batches(), plan.seed, first * steps, part):
            yield images, torch.from_numpy(requested.popleft())

    if sampler.has_state:
        return lambda epoch: load([sampler(epoch)], epoch)
    loaded = load(map(sampler, epochs), epochs.start)
    return lambda epoch: loaded


def is_measured(n_steps: int, steps_per_epoch: int) -> bool:
    """Return whether the angle by which proxies have turned is measured after a step.

    It is measured after `FIRST_STEPS` steps, and before that at the end of each epoch, when a checkpoint is written and
    training may end.

    Args:
        n_steps: Number of steps so far.
        steps_per_epoch: Number of steps per epoch.
    """
    return n_steps == FIRST_STEPS or (n_steps < FIRST_STEPS and n_steps % steps_per_epoch == 0)


def record_validation(
    model: Embedder, epoch: int, history: History, validate: ValidateFunction, folder: Path, protocol: Protocol
) -> None:
    """Score the model, add the scores to the history, and save the model if it is the best on validation so far.

    Args:
        model: Model in training.
        epoch: Number of finished epochs.
        history: History to which the scores are added.
        validate: Scores the model.
        folder: Directory in which the best model is saved.
        protocol: Protocol with the metric on which models are selected.
    """
    history.evaluations.append({"epoch": epoch, **validate(model)})
    name = protocol.validation_score
    if processes.is_first() and name in history.evaluations[-1] and history.best(name) is history.evaluations[-1]:
        save_state(folder / run_files.BEST, {"model": model.state_dict(), "run": history.run})


def out_of_patience(history: History, protocol: Protocol) -> bool:
    """Return whether the last validation is more than `patience` epochs after the best one.

    Args:
        history: History with validations.
        protocol: Protocol with the patience; None disables early stopping.

    Source:
        pytorch-metric-learning, logging presets, as the reality check uses them: epoch - best epoch > patience.
    """
    if protocol.patience is None or not history.evaluations:
        return False
    return history.evaluations[-1]["epoch"] - history.best(protocol.validation_score)["epoch"] > protocol.patience


def attribute_values(split: Split, method: Method) -> torch.Tensor | None:
    """Return the attributes of all images, if a method uses them.

    Args:
        split: Data set, with attributes if the method uses them.
        method: Method that is trained.

    Returns:
        float32 `(N, K)` in the order of the image ids, NaN for missing values; None if the method ignores attributes.
    """
    if method.attributes == "ignored":
        return None
    assert split.attributes is not None  # `runs.prepare` refuses such a plan
    return torch.from_numpy(split.attributes.values)
