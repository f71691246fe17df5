"""Requirements of data set, weights and batches that can be checked before torch is imported and the data are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.config.identity import current_target
from dmlbench.errors import UserError, suggest

if TYPE_CHECKING:
    from dmlbench.config.compose import Settings

_READERS, _SAMPLERS = "dmlbench.data.datasets.", "dmlbench.data.samplers."
_TRIPLETS = "dmlbench.data.triplet_sampler.triplets"


def check_requirements(settings: Settings) -> None:
    """Refuse directories and files that do not exist, and batches that the sampler cannot make.

    Constructors of the user are not checked, because what they need is not known.

    Args:
        settings: Values of one job.

    Raises:
        UserError: Names the value, and what would have worked.
    """
    _check_directories(settings)
    _check_root(settings)
    _check_weights(settings)
    _check_batch_size(settings)


def _check_directories(settings: Settings) -> None:
    for key, path in (("paths.data", settings.data_dir), ("paths.runs", settings.runs_dir)):
        existing = next((one for one in (path, *path.parents) if one.exists()), None)
        if existing is not None and not existing.is_dir():
            raise UserError(f"{key} is '{path}', but {existing} is not a directory; set another one with {key}=DIRECTORY")


def _check_root(settings: Settings) -> None:
    dataset = settings.dataset
    reader = current_target(str(dataset.make.get("_target_")))
    if dataset.root is not None and dataset.make.get("root") == dataset.root and reader.startswith(_READERS):
        require_directory(dataset.root, reader.rpartition(".")[2])


def require_directory(root: str, reader: str) -> None:
    """Refuse the root of a data set that is not a directory.

    Args:
        root: Directory that the user set.
        reader: Function that reads the data set: `folder`, or the name of a published data set.

    Raises:
        UserError: It is not a directory.
    """
    path = Path(root)
    if path.is_dir():
        return
    problem = "is not a directory" if path.exists() else "does not exist"
    advice = "set the directory of the images"
    if reader != "folder":
        advice = f"get the data set with `dmlbench data prepare {reader}`, or set its directory with dataset.root=DIRECTORY"
    raise UserError(f"dataset.root is '{root}', which {problem}; {advice}")


def _check_weights(settings: Settings) -> None:
    """Refuse a path that is not a file, and a name that is not published.

    If the trunk has an architecture, torchvision may publish weights for it. Their names are not known without torch.
    """
    trunk = settings.trunk
    names = ["none", *trunk.published]
    if trunk.weights in names or Path(trunk.weights).is_file():
        return
    value = f"trunk/{trunk.name}: trunk.weights is '{trunk.weights}'"
    if "/" in trunk.weights or Path(trunk.weights).suffix:
        raise UserError(f"{value}, which is not a file; name an existing file, or start from scratch with trunk.weights=none")
    if "architecture" not in trunk.make:
        raise UserError(f"{value}, neither a file nor a published name{suggest(trunk.weights, names)}")


def _check_batch_size(settings: Settings) -> None:
    sampler = settings.batch_sampler
    if settings.method.make is not None and current_target(str(sampler.get("_target_"))) == _TRIPLETS:
        images_of_triplets(settings.protocol.batch_size, sampler.get("smaller_batch") is True)
    argument = {
        f"{_SAMPLERS}m_per_class": "samples_per_class",
        f"{_SAMPLERS}by_kind": "classification" if sampler.get("kind") == "classification" else "pair",
    }.get(current_target(str(sampler.get("_target_"))))
    samples_per_class = sampler.get(argument) if argument else None
    if settings.method.make is not None and type(samples_per_class) is int and samples_per_class > 0:
        require_whole_classes(settings.protocol.batch_size, samples_per_class)


def require_whole_classes(batch_size: int, samples_per_class: int) -> None:
    """Refuse batches that cannot have the same number of images of each of their classes.

    Args:
        batch_size: Images per batch.
        samples_per_class: Images per class in a batch, at least 1.

    Raises:
        UserError: The batch size is not a multiple; names the nearest ones.
    """
    rest = batch_size % samples_per_class
    if rest:
        smaller = f"{batch_size - rest} or " if batch_size > rest else ""
        raise UserError(
            f"protocol.batch_size is {batch_size}, which is not a multiple of samples_per_class {samples_per_class}; "
            f"use {smaller}{batch_size - rest + samples_per_class}"
        )


def images_of_triplets(batch_size: int, smaller: bool) -> int:
    """Return the number of images in a batch of triplets.

    Args:
        batch_size: Images per batch.
        smaller: Whether to use the next smaller multiple of 3.

    Raises:
        UserError: The batch size is not a multiple of 3; names the nearest ones.
    """
    rest = batch_size % 3
    if batch_size < 3 or (rest and not smaller):
        nearest = f"{batch_size - rest} or {batch_size - rest + 3}" if batch_size > 3 else "3"
        raise UserError(f"protocol.batch_size is {batch_size}, but batches of triplets need a multiple of 3; use {nearest}")
    return batch_size - rest
