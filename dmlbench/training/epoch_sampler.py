"""The batches of each epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from dmlbench.config.instantiate import build, locate, parameters
from dmlbench.config.plan import Plan
from dmlbench.data.split import Split
from dmlbench.data.triplet_sampler import TripletState
from dmlbench.system.seeding import numpy_generator


class EpochSampler:
    """Draws the batches of an epoch.

    Args:
        plan: Plan with sampler, batch size and seed.
        labels: Labels of the training images, int64 `(N,)`.
        embed: Embeds the training images with the current model, float32 `(N, D)`. None draws batches as they would be without
            a model, for their number and size.
    """

    def __init__(self, plan: Plan, labels: np.ndarray, embed: Callable[[], np.ndarray] | None = None) -> None:
        self.plan = plan
        self.labels = labels
        accepted = parameters(locate("sampler", plan.sampler)) or {}
        self.state = TripletState(embed, 0, np.random.default_rng()) if embed is not None and "state" in accepted else None

    @property
    def has_state(self) -> bool:
        """Whether batches depend on the model or on earlier epochs, so that none may be drawn before their epoch starts."""
        return self.state is not None

    def __call__(self, epoch: int) -> np.ndarray:
        """Draw the batches of an epoch.

        Args:
            epoch: Index of the epoch, from 0.

        Returns:
            Indices into the labels, int64 `(steps, batch_size)`.
        """
        seed, size, steps = self.plan.seed, self.plan.protocol.batch_size, self._steps()
        further: dict[str, Any] = {}
        if self.state is not None:
            self.state.epoch, self.state.generator = epoch, numpy_generator(seed, "triplets", epoch)
            further["state"] = self.state
        generator = numpy_generator(seed, "data order", epoch)
        passes = [build("sampler", self.plan.sampler, self.labels, size, generator, **further)]
        while steps is not None and sum(map(len, passes)) < steps:
            passes.append(build("sampler", self.plan.sampler, self.labels, size, generator, **further))
        return np.concatenate(passes)[:steps]

    def _steps(self) -> int | None:
        """Steps per epoch. With its own sampler, a method trains on as many batches as others do."""
        steps = self.plan.protocol.steps_per_epoch
        if steps is None and self.plan.method.sampler is not None:
            return max(len(self.labels) // self.plan.protocol.batch_size, 1)
        return steps

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs to draw the same batches; empty for most samplers."""
        if self.state is None or self.state.triplets is None:
            return {}
        return {"triplets": torch.from_numpy(self.state.triplets), "drawn_in": self.state.drawn_in}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state.

        Args:
            state: What `state_dict` returned.
        """
        if self.state is not None and state:
            self.state.triplets, self.state.drawn_in = state["triplets"].numpy(), int(state["drawn_in"])


def training_labels(split: Split) -> np.ndarray:
    """Return the labels of the training images as indices of the training classes.

    Args:
        split: Data set.

    Returns:
        int64 `(N,)`, from 0 to the number of training classes minus 1, in the order of `split.ids("train")`.
    """
    return np.unique(split.labels("train"), return_inverse=True)[1].astype(np.int64)
