"""Compare a row with the configuration files and overrides that it records, and with the declared facts of its data set."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dmlbench.config.schema import WITH_FROZEN_TRUNK, Scalar
from dmlbench.results.row import ADDED, EXTERNAL, Row
from dmlbench.system.regular_files import parse_json
from dmlbench.verification.field_checks import is_number
from dmlbench.verification.recorded_values import UNKNOWN, agrees, is_known, parsed
from dmlbench.verification.shipped_files import columns, set_by_presets, shipped
from dmlbench.verification.verdict import Finding

_CHOICES = ("loss", "protocol", "trunk", "optimizer", "sampler")  # whose name in the row is that of their file
_LABELS = ("dataset", "trunk", "loss")
_TEST_FACTS = ("images", "test_classes", "query_images", "gallery_images")
_TRAIN_FACTS = ("train_classes", "train_images")
# Keys of which the column has another name.
_COLUMNS = {
    "dataset.name": "dataset",
    "dataset.recall_at": "split_recall_at",
    "dataset.split": "split_rule",
    "dataset.split_seed": "split_seed",
}
_NOT_COMPARED = ("trunk.weights", "loss.name", "trunk.name", "protocol.name")  # a row has the name of the weights, not the path
_FROZEN = {f"protocol.{name}": value for name, value in WITH_FROZEN_TRUNK.items()}  # whatever files and overrides say
_TUNED = ("protocol.lr", "protocol.head_lr_scale")


def configuration_findings(row: Row) -> Iterator[Finding]:
    """Yield what contradicts the recorded configuration: chosen files, their values, overrides, and counts of a data set.

    External rows record no configuration, and rows of schema 1 may not. Models added to the search application have none of
    their own.

    Args:
        row: Row.
    """
    if row["protocol"] == EXTERNAL or row.get("preset") == ADDED:
        return
    files, overrides = _object(row.get("config_files")), row.overrides
    if not files or overrides is None:
        if row["schema_version"] != 1 and row.get("config_files") != "{}":
            yield Finding("config_files", "config_files or overrides cannot be read")
        yield from _facts(row, {}, _values(overrides or ()))
        return
    for group in _CHOICES:
        if row.get(group) is not None and f"{group}/{row[group]}" not in files:
            yield Finding(group, f"{group} is {row[group]!r:.80}, but config_files has no {group}/{row[group]!s:.80}")
    values = _values(overrides)
    yield from _labels(row, files, values)
    yield from _overrides(row, files, overrides)
    yield from _file_values(row, files, values)
    yield from _facts(row, files, values)


def _values(overrides: Collection[str]) -> dict[str, Any]:
    """Return the overridden keys with their values, `UNKNOWN` for those that only Hydra can read."""
    found = {}
    for one in overrides:
        key, equals, value = one.lstrip("+~").partition("=")
        found[key] = parsed(value) if equals else UNKNOWN
    return found


def _labels(row: Row, files: Mapping[str, Any], overridden: Collection[str]) -> Iterator[Finding]:
    """A label is that of the shipped file, if this has the recorded digest and the label was not overridden."""
    for group in _LABELS:
        name, label = f"{group}/{row.get(group)}", row.get(f"{group}_label")
        digest, values = shipped(name)
        if (
            files.get(name) == digest
            and digest
            and f"{group}.label" not in overridden
            and values.get("label") not in (None, label)
        ):
            yield Finding(f"{group}_label", f"{group}_label is {label!r:.80}, but {name} has {values['label']!r}")


def _overrides(row: Row, files: Mapping[str, Any], overrides: Collection[str]) -> Iterator[Finding]:
    """The row has the values and the files that were overridden."""
    for one in overrides:
        key, equals, text = one.lstrip("+~").partition("=")
        found: Scalar = None
        if key in _CHOICES:
            found = row.get(key)
            differs = found is not None and found != text
        elif key == "preset":
            found = row.get(key)
            differs = found not in (text, text.partition("/")[0])
        elif key == "dataset":
            found, differs = row["dataset"], f"dataset/{text}" not in files
        else:
            name = _COLUMNS.get(key) or "_".join(part.strip("_") for part in key.split("."))
            found, value = row.get(name), parsed(text) if equals else UNKNOWN
            if key == "protocol.resize_px" and value is None:
                value = _scaled(row)
            unknown = value is UNKNOWN or name not in row.columns or _is_replaced(row, key)
            derived = value is None and key in ("dataset.label", *_COLUMNS)
            differs = not (unknown or derived or found == text or agrees(found, value))
        if differs:
            yield Finding("overrides", f"overrides has {one[:80]!r}, but the row has {found!r:.80}")


def _is_replaced(row: Row, key: str) -> bool:
    """Whether something else than files and overrides determines a value: tuning, or a frozen trunk."""
    is_tuned = row.get("tuning_trials") is not None and (key.startswith("loss.") or key in _TUNED)
    return is_tuned or key in _NOT_COMPARED or (key in _FROZEN and row.get("protocol_trunk_frozen") is True)


def _scaled(row: Row) -> Any:
    """Return the shorter side of an image before cropping, if it is not given."""
    pixels = row.get("protocol_image_px")
    return round(pixels * 256 / 227) if is_number(pixels) else UNKNOWN


def _file_values(row: Row, files: Mapping[str, Any], overridden: Collection[str]) -> Iterator[Finding]:
    """Values that were not overridden are those of the chosen files, if these are files of dmlbench."""
    digests = tuple(sorted((name, digest) for name, digest in files.items() if isinstance(digest, str)))
    overridden = [key for key in overridden if "." in key]  # others choose files
    preset = set_by_presets(digests)
    if preset is None:
        return
    values = [one for group in _CHOICES for one in columns(f"{group}/{row.get(group)}", digests) or ()]
    values = [one for one in values if not any(_overlap(one.key, other.key) for other in preset)]
    for key, name, value in (*values, *(one for one in preset if one.key.partition(".")[0] in _CHOICES)):
        if key == "protocol.resize_px" and value is None:
            value = _scaled(row)
        if not is_known(value) or _is_replaced(row, key) or any(_overlap(key, one) for one in overridden):
            continue
        if name in row.columns and not agrees(row[name], value):
            message = f"{name} is {row[name]!r:.80}, but config_files make it {value!r:.80}, and no override changes that"
            yield Finding(name, message)
    if row.get("protocol_trunk_frozen") is True:
        for key, value in _FROZEN.items():
            name = key.replace(".", "_")
            if name in row.columns and row[name] != value:
                yield Finding(name, f"{name} is {row[name]!r:.80}, but a frozen trunk has {value!r}")


def _overlap(key: str, other: str) -> bool:
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _facts(row: Row, files: Mapping[str, Any], overridden: Mapping[str, Any]) -> Iterator[Finding]:
    """Counts are those that the file of a shipped data set declares, or the overrides; the files have to confirm them."""
    name = f"dataset/{row['dataset']}"
    digest, values = shipped(name)
    if (files and name not in files) or not (files.get(name) == digest or "downloads" in values):
        return  # published data sets do not change, others may
    if not files and row.get("split_rule") is None:  # so it is not compared with rows that have a rule
        return
    declared = {**values, **{key.removeprefix("dataset."): value for key, value in overridden.items()}}
    if declared.get("declared_split") not in (None, row.get("split_rule")):
        facts: tuple[str, ...] = ("images",)
    else:
        facts = _TEST_FACTS if row.get("protocol_fold", "none") != "none" else (*_TEST_FACTS, *_TRAIN_FACTS)
    skipped = row.get("n_images_skipped")
    skipped = skipped if type(skipped) is int and skipped > 0 else 0
    for fact in facts:
        expected, found = declared.get(fact), row.get(f"n_{fact}")
        if not is_number(expected) or not is_number(found):
            continue
        least = expected - skipped
        if not least <= found <= (least if fact == "images" else expected):
            without = f", and {skipped} were skipped" * (skipped > 0)
            yield Finding(f"n_{fact}", f"n_{fact} is {found!r:.80}, but {name} declares {expected:g}{without}")


def _object(text: Scalar) -> dict[str, Any]:
    try:
        found = parse_json(str(text).encode())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
