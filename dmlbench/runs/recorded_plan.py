"""The plan of a saved run, made again from its row, to embed images with its models.

A run directory may come from somebody else, so its row is data. Constructors, the names of their arguments, and paths come from
trusted configuration: the shipped files, the user's `--config-dir`, and the options that the user typed. The row supplies
numbers and plain names; see `recorded_values`. The trunk is built without weights, because the file of the model contains all
of them, so nothing is downloaded. Loss, sampler and optimizer are not built at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dmlbench.config.compose import SPLIT_FACTS, Composed, compose, dataset_settings, directory, plain
from dmlbench.config.files import entries
from dmlbench.config.identity import flatten
from dmlbench.config.instantiate import source_sha256
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Dataset, Method, Protocol, Trunk
from dmlbench.config.typed import typed
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.runs.checks import available_device
from dmlbench.runs.prepare import load_split
from dmlbench.runs.recorded_values import json_object, local_path, plain_value, with_columns

# The largest values of a protocol that a row may have: a forged size must not exhaust the machine.
_MOST = {"threads": 1024, "batch_size": 65_536, "image_px": 4096, "resize_px": 8192, "embedding_dim": 1_000_000}
_PATHS = ("root", "manifest")


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
    place = row.folder or row["run_id"]
    try:
        if row["protocol"] == EXTERNAL or row.get("parent") is not None:
            raise UserError("it was not written by `dmlbench train`, so it has no model")
        choices = [f"trunk={_known('trunk', str(row['trunk']), config_dir)}", f"dataset={_dataset_file(row, config_dir)}"]
        composed = compose([*choices, *options], config_dir)
        plan = _plan(composed, row, options)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    split = load_split(_without_facts(plan.dataset), directory(composed.cfg, "data"))
    if split.digest != row.get("split_digest"):
        raise UserError(
            f"{place}: the images below {split.root} are not those of the run; name others with dataset.root=DIRECTORY, or "
            "type what the run changed, such as dataset.make.KEY=VALUE"
        )
    return plan, split


def _without_facts(dataset: Dataset) -> Dataset:
    """The declared facts are not compared with the files: the digest of the split says more."""
    none: Any = dict.fromkeys(("images", *SPLIT_FACTS))
    return replace(dataset, **none)


def _known(group: str, name: str, config_dir: Path | None) -> str:
    if name not in dict(entries(group, config_dir)):
        kind = "data set" if group == "dataset" else group
        raise UserError(f"there is no {kind} {name!r} here; one of the user needs its --config-dir")
    return name


def _dataset_file(row: Row, config_dir: Path | None) -> str:
    """The configuration file of the data set. Older rows do not record it; it has the name of the data set, or is `folder`."""
    files = json_object(row.get("config_files"))
    for file in files:
        if file.startswith("dataset/"):
            return _known("dataset", file.removeprefix("dataset/"), config_dir)
    name = str(row["dataset"])
    return name if name in dict(entries("dataset", config_dir)) else "folder"


def _plan(composed: Composed, row: Row, options: Sequence[str]) -> Plan:
    precision = row.get("precision")
    if precision == "bf16":
        raise UserError("it was embedded in bfloat16 by an earlier version, and embeddings are now float32; train it again")
    device = composed.cfg.device
    if device == "auto":
        device = "cpu" if str(row.get("device")).startswith("cpu") else "cuda"
    return Plan(
        dataset=_dataset(composed, row, options),
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
    return typed(Method, "loss", {**values, "make": None if kind == "none" else {}})


def _dataset(composed: Composed, row: Row, options: Sequence[str]) -> Dataset:
    """The data set as configured and typed, with the recorded paths and arguments that are accepted from a row.

    Arguments that the configuration takes from elsewhere, such as `root: ${paths.data}`, are not read from the row.
    """
    configured = plain(composed.cfg, "dataset")
    typed_keys = {one.partition("=")[0].lstrip("+~").removeprefix("dataset.") for one in options}
    source = json_object(row.get("dataset_source"))
    rule, seed = row.get("split_rule"), row.get("split_seed")
    values = {"split": plain_value("split_rule", rule), "split_seed": seed} if rule is not None else {"split_seed": seed}
    roots = (Path(), directory(composed.cfg, "data"))
    for name in _PATHS:
        if name not in typed_keys:
            values[name] = local_path(name, source.get(name), configured.get(name), roots)
    if "on_unreadable" in source:
        values["on_unreadable"] = plain_value("on_unreadable", source["on_unreadable"])
    if source.get("make_group") is not None:
        values["group"] = plain_value("group", source["make_group"])
    kept = {f"dataset.{key}": value for key, value in values.items() if key not in typed_keys and key in configured}
    dataset = dataset_settings(composed.with_values(kept))
    if not source:
        return dataset
    written = OmegaConf.to_container(composed.cfg.dataset.make, resolve=False)
    elsewhere = {name for name, value in flatten("make", written) if "${" in str(value)}
    trusted = dict(flatten("make", dataset.make))
    names = elsewhere | {key.replace(".", "_") for key in typed_keys}
    columns = {**source, **{name: trusted[name] for name in names if name in trusted}}
    return replace(dataset, make=with_columns("make", dataset.make, columns))
