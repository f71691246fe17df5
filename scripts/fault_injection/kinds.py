"""The commands that the campaign disturbs. All are so small that they take less than a second in a forked process."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

DATASET = {"classes": 8, "images_per_class": 4, "image_px": 16, "groups": 4}
_SMALL = (
    "dataset=synthetic",
    *(f"dataset.make.{name}={value}" for name, value in DATASET.items()),
    *(
        "protocol.epochs=2",
        "protocol.batch_size=8",
        "protocol.embedding_dim=4",
        "protocol.lr=0.01",
        "trunk.make.channels=[4,4]",
    ),
    "dataset.recall_at=[1,2]",
)
_SWEEP = ("sweep", "loss=triplet", "seed=0,1", *_SMALL, "protocol.epochs=1")
_SHORT_SWEEP = ("sweep", "loss=arcface", "seed=0", *_SMALL)


@dataclass(frozen=True)
class Kind:
    """A command.

    Args:
        name: Name on the command line of the campaign.
        title: Its description in the report.
        command: Arguments after `dmlbench`.
        generated: Whether the images exist before the command.
        before: Commands that have run before, undisturbed.
        needs: Module of the launcher, which has to be installed.
        new_interpreters: Whether its jobs run in processes that start a new interpreter, which takes seconds.
        forked_jobs: Whether joblib forks the processes of its jobs, instead of starting new interpreters.
        repeats: Whether the command computes its results again if they exist.
    """

    name: str
    title: str
    command: tuple[str, ...]
    generated: bool = True
    before: tuple[tuple[str, ...], ...] = ()
    needs: str | None = None
    new_interpreters: bool = False
    forked_jobs: bool = False
    repeats: bool = False

    @property
    def has_jobs(self) -> bool:
        """Whether its jobs run in processes other than that of the command."""
        return self.needs is not None

    @property
    def installed(self) -> bool:
        """Whether its launcher is installed."""
        return self.needs is None or find_spec(self.needs) is not None


def _train(loss: str, *more: str) -> tuple[str, ...]:
    return ("train", f"loss={loss}", *_SMALL, *more)


_EVALUATE = ("evaluate", "runs", "--layer", "pooled")
_JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
_SUBMITIT, _RAY = ("hydra/launcher=submitit_local",), ("hydra/launcher=ray",)
_PAIRS = ("protocol.batch_size=4", "loss.samples_per_class=2")  # a fold has two training classes
_FOLDS = ("protocol.fold=all", "protocol.folds=2", "protocol.selection=validation", "oracle=true", *_PAIRS)
_TUNING = ("tune", "loss=contrastive", "trials=2", "tuning.folds=2", *_SMALL, *_PAIRS)
KINDS = {
    kind.name: kind
    for kind in (
        Kind("train", "train one run", _train("arcface")),
        Kind("folds", "two folds, validation, oracle", _train("triplet", *_FOLDS)),
        Kind("frozen", "frozen trunk with cached features", _train("triplet", "protocol.trunk_frozen=true")),
        Kind("cache", "generate a data set, decoded cache, train", _train("triplet", "dataset.cache=memmap"), generated=False),
        Kind("tune", "two trials of a hyper-parameter search", _TUNING),
        Kind("evaluate", "evaluate a saved run again", _EVALUATE, before=(_train("triplet"),), repeats=True),
        Kind("sweep", "sweep, one run after the other", _SWEEP),
        Kind("joblib", "sweep, joblib with forked processes", (*_SWEEP, *_JOBLIB), needs="joblib", forked_jobs=True),
        Kind("joblib-new", "sweep, joblib", (*_SHORT_SWEEP, *_JOBLIB), needs="joblib", new_interpreters=True),
        Kind(
            "submitit",
            "sweep, submitit_local",
            (*_SHORT_SWEEP, *_SUBMITIT),
            needs="submitit",
            new_interpreters=True,
        ),
        Kind("ray", "sweep, ray", (*_SHORT_SWEEP, *_RAY), needs="ray", new_interpreters=True),
    )
}


def warm_up(folder: Path, names: Collection[str]) -> None:
    """Run kinds that need no other process once in this process, so that forked processes need not import anything.

    Args:
        folder: A directory for the results, which are not used.
        names: Names of the kinds.
    """
    for kind in KINDS.values():
        if not kind.has_jobs and kind.name in names:
            make_template(kind, folder / kind.name)
            execute([kind.command], folder / kind.name)


def make_template(kind: Kind, folder: Path) -> None:
    """Fill a directory with what the command finds: its images, and the results of earlier commands.

    Args:
        kind: The kind.
        folder: An empty directory.
    """
    from dmlbench.data.datasets.synthetic import synthetic

    folder.mkdir(parents=True)
    if kind.generated:
        synthetic(str(folder / "data"), split_seed=0, **DATASET)
    execute(kind.before, folder)


def execute(commands: Sequence[Sequence[str]], folder: Path) -> None:
    """Run commands in this process; all of them have to succeed.

    Args:
        commands: Arguments after `dmlbench`, of each.
        folder: Working directory.
    """
    from dmlbench.cli import run

    before = Path.cwd()
    os.chdir(folder)
    try:
        for command in commands:
            if status := run([*command]):
                raise RuntimeError(f"dmlbench {' '.join(command)} ended with status {status}")
    finally:
        os.chdir(before)
