"""One training, from the first step or from its checkpoint, to the same weights."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dmlbench.config.instantiate import build
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Protocol
from dmlbench.data.loader import AnyBatches, to_device
from dmlbench.data.split import Split
from dmlbench.errors import MethodFailure
from dmlbench.losses.objective import Objective
from dmlbench.models.embedder import Embedder
from dmlbench.results import run_files
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.seeding import derive_seed, numpy_generator, seed_globals

# Scores of a model in the midst of training: `validation_map_at_r`, and `test_map_at_r` where the oracle is asked for.
ValidateFunction = Callable[[Embedder], dict[str, float]]


@dataclass
class History:
    """What happened in training, an entry an epoch.

    Args:
        epochs: each with `epoch` (from 1), `loss` (mean), `lr` (at its end, the trunk's, or the head's where the trunk is
            frozen), `seconds` and `images_per_second`.
        n_resumed: how often the run went on from its checkpoint.
        evaluations: the scores in the midst of training, each with its `epoch`; 0 is before the first step.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    n_resumed: int = 0
    evaluations: list[dict[str, float]] = field(default_factory=list)

    def best(self, score: str) -> dict[str, float]:
        """The look with the highest score; of equals, the first."""
        return max(self.evaluations, key=lambda look: look[score])

    @property
    def seconds(self) -> float:
        """Time spent in training, before and after every break."""
        return sum(epoch["seconds"] for epoch in self.epochs)

    @property
    def images_per_second(self) -> float | None:
        """Median over the epochs; None before the first."""
        return float(np.median([epoch["images_per_second"] for epoch in self.epochs])) if self.epochs else None

    def write(self, file: Path) -> None:
        """Write a line of JSON an epoch, with its scores where it was looked at."""
        evaluations = {look["epoch"]: look for look in self.evaluations}
        lines = [{**epoch, **evaluations.get(epoch["epoch"], {})} for epoch in self.epochs]
        if 0 in evaluations:
            lines.insert(0, evaluations[0])
        atomic_write(file, "".join(json.dumps(line) + "\n" for line in lines))


def train(
    model: Embedder,
    objective: Objective,
    split: Split,
    batches: AnyBatches,
    plan: Plan,
    folder: Path | None = None,
    watch: ValidateFunction | None = None,
    on_epoch_end: Callable[[History], None] = lambda history: None,
) -> History:
    """Train model and objective in place for the protocol's epochs, or until its patience ends.

    Args:
        model: what to train; its device is the plan's. Ends as the protocol's selection says: as of the last epoch, or of
            the best on validation.
        objective: what to minimise; its parameters learn too.
        split: gives the training images.
        batches: loads them, or their features where the model is `over_features`.
        plan: everything else.
        folder: a checkpoint there is taken up, and one is written after each epoch; None for the plan's own.
        watch: scores the model before the first step and every `validate_every` epochs; needed for selection on validation.
        on_epoch_end: told of the history before the first step, which may be a checkpoint's, and after each epoch; may end the
            training by raising.

    Raises:
        MethodFailure: the loss was not finite.
        UserError: the training images do not make the batches the plan asks for.
    """
    protocol, folder = plan.protocol, folder or plan.folder
    ids, labels = split.ids("train"), training_labels(split)
    sampler = epoch_sampler(plan, labels)
    steps = len(sampler(0))
    optimizer = build("optimizer", plan.optimizer, parameter_groups(model, objective, plan))
    base_lrs = [group["lr"] for group in optimizer.param_groups]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    history = resume(folder / run_files.CHECKPOINT, model, objective, optimizer, plan.oracle)
    start = len(history.epochs)
    label_of = torch.full((len(split.frame),), -1, dtype=torch.int64)
    label_of[torch.from_numpy(ids)] = torch.from_numpy(labels)
    loaded = batches.training(
        (ids[row] for epoch in range(start, protocol.epochs) for row in sampler(epoch)), plan.seed, first=start * steps
    )

    def run_epoch(epoch: int, bar: tqdm[Any]) -> dict[str, float]:
        bar.set_description(f"{plan.method.name} epoch {epoch + 1}/{protocol.epochs}")
        began, losses = time.perf_counter(), torch.zeros(steps, device=plan.device)
        for step in range(epoch * steps, (epoch + 1) * steps):
            factor = lr_factor(step, steps, protocol)
            for group, lr in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = lr * factor
            images, image_ids = next(loaded)
            seed_globals(derive_seed(plan.seed, "step", step))
            loss = loss_of(model, objective, images, label_of[image_ids], plan)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if protocol.clip_grad_norm is not None:
                nn.utils.clip_grad_norm_(parameters, protocol.clip_grad_norm)
            optimizer.step()
            losses[step % steps] = loss.detach()
            _show(bar, losses, step % steps + 1, protocol.batch_size, began)
        refuse_non_finite(losses, epoch)
        seconds = time.perf_counter() - began
        return {
            "epoch": epoch + 1,
            "loss": losses.mean().item(),
            "lr": optimizer.param_groups[0]["lr"],
            "seconds": round(seconds, 3),
            "images_per_second": round(steps * protocol.batch_size / seconds, 1),
        }

    if watch is not None and not history.evaluations:
        look(model, 0, history, watch, folder)
    on_epoch_end(history)
    objective.train()
    with tqdm(total=protocol.epochs * steps, initial=start * steps, disable=None, unit="step", leave=False) as bar:
        for epoch in range(start, protocol.epochs):
            if out_of_patience(history, protocol):
                break
            model.train()
            history.epochs.append(run_epoch(epoch, bar))
            if watch is not None and ((epoch + 1) % protocol.validate_every == 0 or epoch + 1 == protocol.epochs):
                look(model, epoch + 1, history, watch, folder)
            history.write(folder / run_files.HISTORY)
            save_checkpoint(folder / run_files.CHECKPOINT, model, objective, optimizer, history)
            on_epoch_end(history)
    if protocol.selection == "validation":
        model.load_state_dict(torch.load(folder / run_files.BEST, map_location=plan.device, weights_only=True)["model"])
    return history


def look(model: Embedder, epoch: int, history: History, watch: ValidateFunction, folder: Path) -> None:
    """Score the model after an epoch, and keep it where it is the best on validation so far."""
    history.evaluations.append({"epoch": epoch, **watch(model)})
    if "validation_map_at_r" in history.evaluations[-1] and history.best("validation_map_at_r") is history.evaluations[-1]:
        save(folder / run_files.BEST, {"model": model.state_dict()})


def out_of_patience(history: History, protocol: Protocol) -> bool:
    """Whether the last validation lies more than the protocol's patience behind the best.

    Source:
        pytorch-metric-learning's logging presets, as the reality check uses them: epoch - best epoch > patience.
    """
    if protocol.patience is None or not history.evaluations:
        return False
    return history.evaluations[-1]["epoch"] - history.best("validation_map_at_r")["epoch"] > protocol.patience


def training_labels(split: Split) -> np.ndarray:
    """The labels of the training images, numbered 0..C-1 among the training classes, int64 `(N,)`."""
    return np.unique(split.labels("train"), return_inverse=True)[1].astype(np.int64)


def epoch_sampler(plan: Plan, labels: np.ndarray) -> Any:
    """A function of the epoch that returns its batches, as `samplers` tells."""

    def sample(epoch: int) -> np.ndarray:
        generator = numpy_generator(plan.seed, "data order", epoch)
        wanted = plan.protocol.steps_per_epoch
        passes = [build("sampler", plan.sampler, labels, plan.protocol.batch_size, generator)]
        while wanted is not None and sum(map(len, passes)) < wanted:
            passes.append(build("sampler", plan.sampler, labels, plan.protocol.batch_size, generator))
        return np.concatenate(passes)[:wanted]

    return sample


def parameter_groups(model: Embedder, objective: Objective, plan: Plan) -> list[dict[str, Any]]:
    """Trunk, head, and the method's own parameters, each with its learning rate.

    Returns:
        Groups for a torch optimizer; a group without parameters is left out.
    """
    protocol, method = plan.protocol, plan.method
    groups: list[dict[str, Any]] = [
        {"params": list(model.trunk.parameters()), "lr": protocol.lr},
        {"params": model.head_parameters(), "lr": protocol.lr * protocol.head_lr_scale},
        {"params": list(objective.parameters()), "lr": protocol.lr * method.lr_scale},
    ]
    if method.weight_decay is not None:
        groups[2]["weight_decay"] = method.weight_decay
    return [group for group in groups if group["params"]]


def lr_factor(step: int, steps_per_epoch: int, protocol: Protocol) -> float:
    """What every learning rate is multiplied with at a step.

    Args:
        step: from 0, over all epochs.
        steps_per_epoch: steps of an epoch.
        protocol: schedule and warm-up. The schedule runs from the first step; warm-up multiplies it with a linear rise.

    Returns:
        A factor in [0, 1].
    """
    warm = protocol.warmup_epochs * steps_per_epoch
    rise = min(1.0, (step + 1) / warm) if warm else 1.0
    if protocol.schedule == "cosine":
        return rise * (1 + math.cos(math.pi * step / (protocol.epochs * steps_per_epoch))) / 2
    if protocol.schedule == "step":
        return rise * protocol.step_gamma ** (step // steps_per_epoch // protocol.step_epochs)
    return rise


def loss_of(model: Embedder, objective: Objective, images: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """The objective of one batch: the trunk in the plan's precision, the loss in float32.

    Args:
        model: on the plan's device.
        objective: likewise.
        images: uint8 `(B, 3, H, W)`, or features, float32 `(B, C)`; on the CPU.
        labels: int64 `(B,)`, on the CPU.
        plan: gives device and precision.

    Returns:
        A scalar with its graph.
    """
    moved = to_device(images, plan.device)
    with torch.autocast(plan.device, dtype=torch.bfloat16, enabled=plan.precision == "bf16"):
        embeddings = model(moved)
    return objective(embeddings.float(), labels.to(plan.device, non_blocking=True))


def refuse_non_finite(losses: torch.Tensor, epoch: int) -> None:
    """End the training where a loss of the epoch was not finite.

    Args:
        losses: of the epoch's steps, float32 `(steps,)`; looked at once an epoch, for a look waits for the device.
        epoch: from 0.

    Raises:
        MethodFailure: names the first such step.
    """
    broken = torch.nonzero(~torch.isfinite(losses)).flatten()
    if len(broken):
        step = int(broken[0])
        raise MethodFailure(f"the loss is {losses[step].item()} at epoch {epoch + 1}, step {step + 1}")


def save_checkpoint(
    file: Path, model: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer, history: History
) -> None:
    """Write all that resuming needs, by rename: a checkpoint is whole or it is the one before."""
    state = {
        "model": model.state_dict(),
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": dataclasses.asdict(history),
    }
    save(file, state)


def save(file: Path, state: dict[str, Any]) -> None:
    """Write what `torch.load(file, weights_only=True)` reads."""
    atomic_write(file, lambda stream: torch.save(state, stream))


def resume(file: Path, model: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer, oracle: bool) -> History:
    """Take up a checkpoint.

    Returns:
        Its history; an empty one where there is no checkpoint that can be read, or one without the evaluations at the test set that
        the oracle needs: the training starts anew.
    """
    if not file.is_file():
        return History()
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        if "looks" in state["history"]:  # its name in earlier versions
            state["history"]["evaluations"] = state["history"].pop("looks")
        history = History(**state["history"])
    except (RuntimeError, EOFError, KeyError, ValueError, TypeError, pickle.UnpicklingError):
        tqdm.write(f"{file} cannot be read; the run starts anew")
        return History()
    if oracle and "test_map_at_r" not in (history.evaluations or [{}])[0]:
        return History()
    model.load_state_dict(state["model"])
    objective.load_state_dict(state["objective"])
    optimizer.load_state_dict(state["optimizer"])
    history.n_resumed += 1
    return history


def _show(bar: tqdm[Any], losses: torch.Tensor, done: int, batch_size: int, began: float) -> None:
    bar.update()
    if not bar.disable and done % 10 == 0:  # reading the loss waits for the device
        speed = done * batch_size / (time.perf_counter() - began)
        bar.set_postfix_str(f"loss {losses[:done].mean().item():.3f}, {speed:.0f} images/s", refresh=False)
