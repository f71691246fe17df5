"""What a training prints: a bar on a terminal, and one line per epoch in a file."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

import torch
from tqdm import tqdm

from dmlbench.results.formatting import format_duration, metric_label
from dmlbench.training.checkpoint import History

VALIDATION = "validation_"  # prefix of validation scores in a history


class Progress:
    """Reports the progress of one training.

    Args:
        title: What is trained, for the bar.
        name: Name of this training among several, such as `fold 2 of 4`; empty for the only one.
        epochs: Number of epochs.
        steps: Steps per epoch.
        batch_size: Images per step.
        start: Number of epochs that a checkpoint contains.
    """

    def __init__(self, title: str, name: str, epochs: int, steps: int, batch_size: int, start: int) -> None:
        self.title, self.epochs, self.steps, self.batch_size, self.start = title, epochs, steps, batch_size, start
        self.name = f" ({name})" if name else ""
        if start:
            print(f"resuming {f'from epoch {start + 1}' if start < epochs else f'after epoch {start}'} of {epochs}{self.name}")
            sys.stdout.flush()

    def __enter__(self) -> Progress:
        total, initial = self.epochs * self.steps, self.start * self.steps
        self.began = time.perf_counter()
        columns, rows = shutil.get_terminal_size()  # 80 by 24 if the terminal does not know its size; tqdm would print nothing
        self.bar: tqdm[Any] = tqdm(
            total=total, initial=initial, disable=None, unit="step", leave=False, ncols=columns, nrows=rows
        )
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def start_epoch(self, epoch: int) -> None:
        """Show which epoch begins.

        Args:
            epoch: Index of the epoch, from 0.
        """
        self.bar.set_description(f"{self.title} epoch {epoch + 1}/{self.epochs}{self.name}")
        self.epoch_began = time.perf_counter()

    def step(self, losses: torch.Tensor, done: int) -> None:
        """Show that a step has ended.

        Args:
            losses: Losses of all steps of the epoch, float32 `(steps,)`.
            done: Number of steps of the epoch that have ended.
        """
        self.bar.update()
        if not self.bar.disable and done % 10 == 0:  # reading the loss waits for the device
            speed = done * self.batch_size / (time.perf_counter() - self.epoch_began)
            self.bar.set_postfix_str(f"loss {losses[:done].mean().item():.3f}, {speed:.0f} images/s", refresh=False)

    def end_epoch(self, history: History) -> None:
        """Print a line about the last epoch, unless a terminal shows the bar.

        Args:
            history: History with the epoch and, if there was one, its evaluation.
        """
        if not self.bar.disable and sys.stdout.isatty():
            return
        epoch, done = history.epochs[-1], len(history.epochs)
        parts = [f"loss {epoch['loss']:.4g}", f"{epoch['images_per_second']:,.0f} images/s"]
        evaluation = history.evaluations[-1] if history.evaluations else {"epoch": -1}
        scores = {name: value for name, value in evaluation.items() if name.startswith(VALIDATION)}
        if evaluation["epoch"] == epoch["epoch"]:
            parts += [f"validation {metric_label(name.removeprefix(VALIDATION))} {value:.1%}" for name, value in scores.items()]
        if left := self.epochs - done:
            seconds = (time.perf_counter() - self.began) / (done - self.start) * left
            parts.append(f"about {format_duration(seconds)} left")
        print(f"epoch     {done} of {self.epochs}{self.name}: {', '.join(parts)}", flush=True)
