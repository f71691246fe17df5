"""A plan: everything that determines one result row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmlbench.config.identity import columns_of, flatten
from dmlbench.config.schema import Dataset, Method, Protocol, Scalar, Trunk


@dataclass(frozen=True)
class Plan:
    """Everything that determines a row: the same plan gives the same row on the same kind of device.

    Args:
        dataset: Data set, with the facts of its files.
        trunk: Trunk.
        method: Method.
        protocol: Protocol, resolved.
        sampler: Name, constructor and arguments of the sampler, resolved.
        optimizer: Name, constructor and arguments of the optimizer, resolved.
        seed: Seed of initialisation, data order and augmentation; never of the test set.
        shared: Columns in which two compared rows must agree. References to the method stay text.
        fingerprint: 8 hex digits that identify the shared columns.
        method_digest: 8 hex digits that identify the method.
        run_id: Fingerprint, method digest and seed.
        runs: Directory of all runs.
        device: `cpu` or `cuda`.
        precision: `fp32`, or `bf16_training` if the device will really train in bfloat16.
        workers: Processes that load images; -1 for automatic. It does not affect results.
        caches: Directory of decoded images and of features of frozen trunks. It does not affect results.
        oracle: Also record what choosing the epoch on the test set would have claimed. It does not affect other results.
        compile: Compile the trunk. It affects results by rounding only.
        tuned: Columns that describe the hyper-parameter search; empty without one.
        provenance: Columns that record how the plan was composed: overrides and configuration files.
    """

    dataset: Dataset
    trunk: Trunk
    method: Method
    protocol: Protocol
    sampler: dict[str, Any]
    optimizer: dict[str, Any]
    seed: int
    shared: Mapping[str, Scalar]
    fingerprint: str
    method_digest: str
    run_id: str
    runs: Path
    device: str = "cpu"
    precision: str = "fp32"
    workers: int = 0
    caches: Path = Path("data/cache")
    oracle: bool = False
    compile: bool = False
    tuned: Mapping[str, Scalar] = field(default_factory=dict)
    provenance: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Directory of the run."""
        return self.runs / self.dataset.name / self.method.name / self.run_id


def method_columns(method: Method) -> dict[str, Scalar]:
    """Return the hyper-parameters of a method as `loss_*` columns. Name, label and search space are left out.

    Args:
        method: Method.

    Returns:
        Column name to value.
    """
    return columns_of("loss", method)


def protocol_columns(protocol: Protocol) -> dict[str, Scalar]:
    """Return a protocol as `protocol_*` columns.

    Args:
        protocol: Protocol, resolved.

    Returns:
        Column name to value. A given `resize_px` that equals the scaled crop is the same protocol.
    """
    return {**columns_of("protocol", protocol), "protocol_resize_px": protocol.resized_px}


def dataset_source(dataset: Dataset) -> str:
    """Return where the images of a data set came from, for the column `dataset_source`.

    Args:
        dataset: Data set.

    Returns:
        JSON object: `root`, `manifest`, `on_unreadable`, and the arguments of the constructor as `make_*`.
    """
    values = {name: getattr(dataset, name) for name in ("root", "manifest", "on_unreadable")}
    return json.dumps({**values, **dict(flatten("make", dataset.make))})
