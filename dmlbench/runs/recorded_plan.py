"""The plan of a saved run, made again from its row, to embed images with its models.

A run directory may come from somebody else, so its row is data. Constructors, the names of their arguments, and paths come from
trusted configuration: the shipped files, the user's `--config-dir`, and the options that the user typed. The row supplies
numbers and plain names; see `recorded_values`. The trunk is built without weights, because the file of the model contains all
of them, so nothing is downloaded. Loss, sampler and optimizer are not built at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dmlbench.config.compose import Composed, compose, directory, plain
from dmlbench.config.instantiate import source_sha256
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Method, Protocol, Trunk
from dmlbench.config.typed import typed
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.runs.checks import available_device
from dmlbench.runs.recorded_dataset import dataset_choice, known_file, load_recorded, recorded_dataset
from dmlbench.runs.recorded_values import plain_value, with_columns

# The largest values of a protocol that a row may have: a forged size must not exhaust the machine.
_MOST = {"threads": 1024, "batch_size": 65_536, "image_px": 4096, "resize_px": 8192, "embedding_dim": 1_000_000}
_MOST_ATTRIBUTES = 100_000
# Fields of a method that determine its model, and their values in rows without them.
_OF_MODEL: dict[str, Any] = {"attributes": "ignored", "n_attributes": None, "layer": "embedding"}


def recorded_plan(row: Row, options: Sequence[str] = (), config_dir: Path | None = None) -> tuple[Plan, Split]:
    """Make the plan of a saved run, as far as embedding needs it, and read its images.

    Args:
        row: Row of the run. It is not trusted.
        options: Overrides that the user typed, such as `dataset.root=photos`. They are trusted.
        config_dir: Directory of the user's own configuration files, which are trusted.

    Returns:
        The plan, whose trunk has no weights, and the images of the run.

    Raises:
        UserError: A value is missing, or not accepted from a row. The images or the user's own code are not those of the run.
        HydraException, OmegaConfBaseException: The options do not compose.
    """
    plan, composed = _composed_plan(row, options, config_dir)
    split = load_recorded(plan.dataset, composed, row)
    return plan, split


def recorded_model_plan(row: Row, options: Sequence[str] = (), config_dir: Path | None = None) -> Plan:
    """Make the plan of a saved run as `recorded_plan` does, without reading its images, to embed other images.

    Args:
        row: Row of the run. It is not trusted.
        options: Overrides that the user typed. They are trusted.
        config_dir: Directory of the user's own configuration files, which are trusted.

    Raises:
        UserError: A value is missing, or not accepted from a row. The user's own code is not that of the run.
        HydraException, OmegaConfBaseException: The options do not compose.
    """
    return _composed_plan(row, options, config_dir)[0]


def _composed_plan(row: Row, options: Sequence[str], config_dir: Path | None) -> tuple[Plan, Composed]:
    place = row.folder or row["run_id"]
    try:
        if row["protocol"] == EXTERNAL or row.get("parent") is not None:
            raise UserError("it was not written by `dmlbench train`, so it has no model")
        choices = [f"trunk={known_file('trunk', str(row['trunk']), config_dir)}", dataset_choice(row, config_dir)]
        composed = compose([*choices, *options], config_dir)
        return _plan(composed, row, options), composed
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def _plan(composed: Composed, row: Row, options: Sequence[str]) -> Plan:
    precision = row.get("precision")
    if precision == "bf16":
        raise UserError("it was embedded in bfloat16 by an earlier version, and embeddings are now float32; train it again")
    device = composed.cfg.device
    if device == "auto":
        device = "cpu" if str(row.get("device")).startswith("cpu") else "cuda"
        if device not in ("cpu", available_device("auto")):
            raise UserError(
                f"it was computed on {row['device']}, and this machine has no CUDA; add device=cpu to compute on the CPU, with "
                "other rounding"
            )
    return Plan(
        dataset=recorded_dataset(composed, row, options),
        trunk=_trunk(composed, row),
        method=_method(row),
        protocol=_protocol(row),
        sampler={},
        optimizer={},
        seed=row.seed,
        shared=row.shared,
        fingerprint=str(row["fingerprint"]),
        method_digest=str(row["method_digest"]),
        run_id=str(row["run_id"]),
        runs=Path(),
        device=available_device(device),
        precision=str(precision),
        workers=-1 if composed.cfg.workers == "auto" else composed.cfg.workers,
        caches=directory(composed.cfg, "data") / "cache",
    )


def _trunk(composed: Composed, row: Row) -> Trunk:
    configured = plain(composed.cfg, "trunk")
    name, make = str(row["trunk"]), with_columns("trunk_make", configured["make"], row.columns)
    if source_sha256("trunk.make", make) != row.get("trunk_source_sha256"):
        raise UserError(
            f"the source of trunk/{name} is not that of the run (trunk_source_sha256), or an earlier version digested it; "
            "train it again"
        )
    convention = {key: plain_value(f"trunk_{key}", row.get(f"trunk_{key}")) for key in _CONVENTION}
    return typed(Trunk, "trunk", {"name": name, "label": name, "make": make, **convention})


_CONVENTION = ("mean", "std", "channel_order", "input_range")


def _protocol(row: Row) -> Protocol:
    columns = {name.removeprefix("protocol_"): name for name in row.columns if name.startswith("protocol_")}
    values = {key: plain_value(name, row[name]) for key, name in columns.items()}
    for key, most in _MOST.items():
        if isinstance(values.get(key), int | float) and values[key] > most:
            raise UserError(f"protocol.{key} is {values[key]}; a run directory may have at most {most:,}")
    return typed(Protocol, "protocol", {**values, "name": str(row["protocol"])})


def _method(row: Row) -> Method:
    """The method without its constructors: embedding needs to know only whether it trained a projection."""
    kind = row.get("loss_kind")
    values = {"name": str(row["loss"]), "label": str(row.get("loss_label")), "kind": kind}
    values["features"] = row.get("loss_features", "trunk")
    values |= {key: row.get(f"loss_{key}", default) for key, default in _OF_MODEL.items()}
    n_attributes = values["n_attributes"]
    if values["attributes"] == "predicted" and not (isinstance(n_attributes, int) and 1 <= n_attributes <= _MOST_ATTRIBUTES):
        raise UserError(f"loss.n_attributes is {n_attributes}; a run directory needs 1 to {_MOST_ATTRIBUTES:,}")
    return typed(Method, "loss", {**values, "make": None if kind == "none" else {}})
