"""Parameter groups, learning-rate schedules, and the failures of a step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from dmlbench.config.instantiate import build, locate, parameters
from dmlbench.config.learning_rates import learning_rates
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Protocol
from dmlbench.errors import MethodFailure
from dmlbench.losses.objective import Objective
from dmlbench.models.embedder import Embedder

STEP_ERRORS = (RuntimeError, ValueError, ArithmeticError, LookupError)  # of losses and optimizers that get infinite values


def parameter_groups(model: Embedder, objective: Objective, plan: Plan) -> list[dict[str, Any]]:
    """Group the parameters of trunk, head and loss, each with its learning rate.

    Args:
        model: Model to train.
        objective: Objective to minimise, whose parameters are trained as well.
        plan: Plan with the learning rates and the weight decay of the loss.

    Returns:
        Groups for an optimizer of torch. Groups without parameters are left out.
    """
    rates = learning_rates(plan.method, plan.protocol)
    groups: list[dict[str, Any]] = [
        {"params": list(model.trunk.parameters()), "lr": rates.trunk},
        {"params": model.head_parameters(), "lr": rates.head},
        {"params": list(objective.parameters()), "lr": rates.loss},
    ]
    if plan.method.weight_decay is not None:
        groups[2]["weight_decay"] = plan.method.weight_decay
    return [group for group in groups if group["params"]]


def make_optimizer(groups: Sequence[dict[str, Any]], plan: Plan) -> torch.optim.Optimizer:
    """Build the optimizer of a plan. On CUDA, its steps are fused if its class can do it, which changes rounding only.

    Args:
        groups: Parameters with their learning rates, on the device of the plan.
        plan: Plan with the constructor of the optimizer.
    """
    accepted = parameters(locate("optimizer", plan.optimizer)) or {}
    chosen = {"fused", "foreach", "differentiable"} & set(plan.optimizer)
    further = {"fused": True} if plan.device == "cuda" and "fused" in accepted and not chosen else {}
    return cast(torch.optim.Optimizer, build("optimizer", plan.optimizer, groups, **further))


def lr_factor(step: int, steps_per_epoch: int, protocol: Protocol) -> float:
    """Return the factor of all learning rates at a step.

    Args:
        step: Index of the step over all epochs, from 0.
        steps_per_epoch: Number of steps per epoch.
        protocol: Protocol with schedule and warm-up. The schedule begins at the first step; warm-up multiplies it by a linear
            rise.

    Returns:
        Factor in [0, 1].
    """
    warmup_steps = protocol.warmup_epochs * steps_per_epoch
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if protocol.schedule == "cosine":
        return warmup * (1 + math.cos(math.pi * step / (protocol.epochs * steps_per_epoch))) / 2
    if protocol.schedule == "step":
        return warmup * protocol.step_gamma ** (step // steps_per_epoch // protocol.step_epochs)
    return warmup


def clip_gradients(parameters: Sequence[nn.Parameter], protocol: Protocol) -> None:
    """Clip the gradients as the protocol says: the norm of all together, then the value of each element.

    Args:
        parameters: Parameters whose gradients are clipped in place.
        protocol: Protocol with the limits.
    """
    if protocol.clip_grad_norm is not None:
        nn.utils.clip_grad_norm_(parameters, protocol.clip_grad_norm)
    if protocol.clip_grad_value is not None:
        nn.utils.clip_grad_value_(parameters, protocol.clip_grad_value)


def set_training_mode(model: Embedder, epoch: int, protocol: Protocol) -> None:
    """Put a model in training mode, with or without gradients of its trunk.

    Args:
        model: Model to train.
        epoch: Index of the epoch, from 0.
        protocol: Protocol with the number of first epochs that train only the head and the loss.
    """
    model.train()
    if protocol.head_only_epochs:
        model.trunk.requires_grad_(epoch >= protocol.head_only_epochs)


@contextmanager
def divergence_as_failure(parameters: Sequence[nn.Parameter], epoch: int, step: int) -> Iterator[None]:
    """Report an error of a step as a failure of the method, if the parameters have diverged.

    Args:
        parameters: All parameters in training.
        epoch: Index of the epoch, from 0.
        step: Index of the step in the epoch, from 0.

    Raises:
        MethodFailure: A parameter is not finite, or would not be after this step.
    """
    try:
        yield
    except STEP_ERRORS as error:
        if "without overflow" in str(error) or not all(bool(torch.isfinite(one).all()) for one in parameters):
            reason = str(error).partition("\n")[0]
            raise MethodFailure(f"training diverged at epoch {epoch + 1}, step {step + 1}: {reason}") from error
        raise


def refuse_non_finite(losses: torch.Tensor, epoch: int) -> None:
    """End training if a loss is not finite.

    Args:
        losses: Losses of all steps of an epoch, float32 `(steps,)`. They are checked once per epoch, because reading them waits
            for the device.
        epoch: Index of the epoch, from 0.

    Raises:
        MethodFailure: Names the first step whose loss is not finite.
    """
    steps = torch.nonzero(~torch.isfinite(losses)).flatten()
    if len(steps):
        step = int(steps[0])
        raise MethodFailure(f"the loss is {losses[step].item()} at epoch {epoch + 1}, step {step + 1}")


def refuse_zero_loss(losses: Sequence[float]) -> None:
    """Refuse a training in which no batch had a loss.

    Args:
        losses: Mean loss of every epoch.

    Raises:
        MethodFailure: There are epochs, and the loss was zero in each.
    """
    if losses and not any(losses):
        raise MethodFailure("the loss was 0.0 in every epoch, so nothing was learnt")
