"""The data set of a saved run, made again from its row. Needs neither the trunk nor the model of the run.

A run directory may come from somebody else, so its row is data: constructors and paths come from trusted configuration, and the
row supplies numbers and plain names; see `recorded_values`.
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
from dmlbench.config.schema import Dataset
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.runs.prepare import load_split
from dmlbench.runs.recorded_values import json_object, local_path, plain_value, with_columns

_PATHS = ("root", "manifest")


def recorded_split(row: Row, options: Sequence[str] = (), config_dir: Path | None = None) -> Split:
    """Read the images of a saved run.

    Args:
        row: Row of the run. It is not trusted.
        options: Overrides that the user typed, such as `dataset.root=photos`. They are trusted.
        config_dir: Directory of the user's own configuration files, which are trusted.

    Raises:
        UserError: A value is missing, or not accepted from a row. The images are not those of the run.
        HydraException, OmegaConfBaseException: The options do not compose.
    """
    try:
        composed = compose([dataset_choice(row, config_dir), *options], config_dir)
        dataset = recorded_dataset(composed, row, options)
    except UserError as error:
        raise UserError(f"{row.folder or row['run_id']}: {error}") from None
    return load_recorded(dataset, composed, row)


def load_recorded(dataset: Dataset, composed: Composed, row: Row) -> Split:
    """Read the images of a data set, and check that they are those of a run.

    Args:
        dataset: Result of `recorded_dataset`.
        composed: Composed configuration.
        row: Row of the run.

    Raises:
        UserError: The images are others, or cannot be read.
    """
    # The declared facts are not compared with the files: the digest of the split says more.
    none: Any = dict.fromkeys(("images", *SPLIT_FACTS))
    split = load_split(replace(dataset, **none), directory(composed.cfg, "data"))
    if split.digest != row.get("split_digest"):
        raise UserError(
            f"{row.folder or row['run_id']}: the images below {split.root} are not those of the run; name others with "
            "dataset.root=DIRECTORY, or type what the run changed, such as dataset.make.KEY=VALUE"
        )
    return split


def known_file(group: str, name: str, config_dir: Path | None) -> str:
    """Return the name of a configuration file, if it exists here.

    Args:
        group: Group of the file, such as `trunk`.
        name: Name of the file.
        config_dir: Directory of the user's own configuration files.

    Raises:
        UserError: There is no such file.
    """
    if name not in dict(entries(group, config_dir)):
        kind = "data set" if group == "dataset" else group
        raise UserError(f"there is no {kind} {name!r} here; one of the user needs its --config-dir")
    return name


def dataset_choice(row: Row, config_dir: Path | None) -> str:
    """Return the override that chooses the configuration file of a run's data set.

    Older rows do not record the file; it has the name of the data set, or is `folder`.

    Args:
        row: Row of the run.
        config_dir: Directory of the user's own configuration files.

    Raises:
        UserError: There is no such file here.
    """
    for file in json_object(row.get("config_files")):
        if file.startswith("dataset/"):
            return f"dataset={known_file('dataset', file.removeprefix('dataset/'), config_dir)}"
    name = str(row["dataset"])
    return f"dataset={name if name in dict(entries('dataset', config_dir)) else 'folder'}"


def recorded_dataset(composed: Composed, row: Row, options: Sequence[str]) -> Dataset:
    """Return the data set as configured and typed, with the recorded paths and arguments that are accepted from a row.

    Arguments that the configuration takes from elsewhere, such as `root: ${paths.data}`, are not read from the row.

    Args:
        composed: Composed configuration, with the data set of the run.
        row: Row of the run.
        options: Overrides that the user typed.

    Raises:
        UserError: A value of the row is not accepted.
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
