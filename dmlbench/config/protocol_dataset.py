"""Values of the data set that a protocol brings, such as its split rule.

The defaults list of Hydra cannot do this: the data set is composed last, because it chooses its protocol.
"""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from dmlbench.config.schema import Dataset, Protocol
from dmlbench.errors import UserError

BROUGHT = ("split", "recall_at")  # fields of both


def bring_dataset_values(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Copy `protocol.split` and `protocol.recall_at` to the data set, unless the overrides set these of the data set.

    Args:
        cfg: Composed configuration, which is changed.
        overrides: Hydra overrides.
    """
    given = {one.lstrip("+").partition("=")[0] for one in overrides}
    for key in BROUGHT:
        value = OmegaConf.select(cfg, f"protocol.{key}")
        if value is not None and f"dataset.{key}" not in given:
            OmegaConf.update(cfg, f"dataset.{key}", value)


def refuse_unused_split(protocol: Protocol, dataset: Dataset) -> None:
    """Refuse a protocol whose split rule the data set would ignore.

    Args:
        protocol: Protocol.
        dataset: Its data set.

    Raises:
        UserError: A data set of dmlbench has a single split.
    """
    rule = protocol.split
    if rule is not None and "split" not in dataset.make and str(dataset.make.get("_target_")).startswith("dmlbench."):
        raise UserError(
            f"protocol={protocol.name} needs a data set with dataset.split={rule}, but {dataset.name} has a single split; use "
            "dataset=synthetic, cub, cars, sop, inshop or folder"
        )
