"""Compare a row with the configuration files and overrides that it records, and with the declared facts of its data set."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

import yaml

from dmlbench.config.files import conf_dir
from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError
from dmlbench.results.row import ADDED, EXTERNAL, Row
from dmlbench.system.regular_files import parse_json
from dmlbench.verification.verdict import Finding

_CHOICES = ("loss", "protocol", "trunk", "optimizer", "sampler")  # whose name in the row is that of their file
_LABELS = ("dataset", "trunk", "loss")
_TEST_FACTS = ("images", "test_classes", "query_images", "gallery_images")
_TRAIN_FACTS = ("train_classes", "train_images")


def configuration_findings(row: Row) -> Iterator[Finding]:
    """Yield what contradicts the recorded configuration: chosen files, labels, overrides, and counts of a shipped data set.

    Rows of schema 1 and external rows record no configuration. Models added to the search application have none of their own.

    Args:
        row: Row.
    """
    if row["protocol"] == EXTERNAL or row.get("preset") == ADDED or row["schema_version"] == 1:
        return
    files, overrides = _object(row.get("config_files")), row.overrides
    if not files or overrides is None:
        if row.get("config_files") != "{}":
            yield Finding("config_files", "config_files or overrides cannot be read")
        return
    for group in _CHOICES:
        if row.get(group) is not None and f"{group}/{row[group]}" not in files:
            yield Finding(group, f"{group} is {row[group]!r:.80}, but config_files has no {group}/{row[group]!s:.80}")
    keys = [one.lstrip("+~").partition("=")[0] for one in overrides]
    yield from _labels(row, files, keys)
    yield from _overrides(row, files, overrides)
    yield from _facts(row, files, keys)


def _labels(row: Row, files: Mapping[str, Any], keys: Collection[str]) -> Iterator[Finding]:
    """A label is that of the shipped file, if this has the recorded digest and the label was not overridden."""
    for group in _LABELS:
        name, label = f"{group}/{row.get(group)}", row.get(f"{group}_label")
        digest, values = _shipped(name)
        if files.get(name) == digest and digest and f"{group}.label" not in keys and values.get("label") not in (None, label):
            yield Finding(f"{group}_label", f"{group}_label is {label!r:.80}, but {name} has {values['label']!r}")


def _overrides(row: Row, files: Mapping[str, Any], overrides: Collection[str]) -> Iterator[Finding]:
    """The row has the numbers and the files that were overridden."""
    for one in overrides:
        agrees = True
        key, _, value = one.lstrip("+~").partition("=")
        if key in _CHOICES:
            found: Scalar = row.get(key)
            agrees = found is None or found == value
        elif key == "dataset":
            found, agrees = row["dataset"], f"dataset/{value}" in files
        elif not (key.startswith("loss.") and row.get("tuning_trials")):  # tuned values replace those of the command line
            found = row.get("_".join(part.strip("_") for part in key.split(".")))
            number = _number(value)
            recorded = isinstance(found, int | float) and not isinstance(found, bool)
            agrees = not recorded or number is None or math.isclose(number, float(found), rel_tol=1e-12)  # type: ignore[arg-type]
        if not agrees:
            yield Finding("overrides", f"overrides has {one[:80]!r}, but the row has {found!r:.80}")


def _facts(row: Row, files: Mapping[str, Any], keys: Collection[str]) -> Iterator[Finding]:
    """Counts are those that the file of a shipped data set declares, if nothing about the data set was changed."""
    name = f"dataset/{row['dataset']}"
    if name not in files or row.get("n_images_skipped"):
        return
    digest, values = _shipped(name)
    if files[name] != digest and "downloads" not in values:  # published data sets do not change, others may
        return
    changed = {key.removeprefix("dataset.").partition(".")[0] for key in keys if key.startswith("dataset.")}
    if changed & {"make", "images", "declared_split", *_TEST_FACTS, *_TRAIN_FACTS}:
        return
    if values.get("declared_split") not in (None, row.get("split_rule")):
        facts: tuple[str, ...] = ("images",)
    else:
        facts = _TEST_FACTS if row.get("protocol_fold", "none") != "none" else (*_TEST_FACTS, *_TRAIN_FACTS)
    for fact in facts:
        declared, found = values.get(fact), row.get(f"n_{fact}")
        if isinstance(declared, int) and found is not None and found != declared:
            yield Finding(f"n_{fact}", f"n_{fact} is {found!r:.80}, but {name} declares {declared}")


@lru_cache(256)
def _shipped(name: str) -> tuple[str, Mapping[str, Any]]:
    """Return the digest and the values of a shipped configuration file; empty if there is none."""
    try:
        known = {f"{file.parent.name}/{file.stem}": file for file in conf_dir().glob("*/*.yaml")}
        content = known[name].read_bytes()
    except (UserError, KeyError):
        return "", {}
    values = yaml.load(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return hashlib.sha256(content).hexdigest(), values if isinstance(values, dict) else {}


def _object(text: Scalar) -> dict[str, Any]:
    try:
        found = parse_json(str(text).encode())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
