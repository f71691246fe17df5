"""The text around a table: three sentences above it (data, protocol, meaning of numbers and bold), and details below it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dmlbench.config.schema import Scalar
from dmlbench.results.column_specs import COLUMNS, Column
from dmlbench.results.formatting import format_value
from dmlbench.results.row import EXTERNAL, UNTRAINED, Row
from dmlbench.tables.axis import Axis, column_name

SELECTED = {"last": "last epoch", "validation": "best epoch on held-out training classes"}
_SELECTED_BRIEFLY = SELECTED | {"validation": "validation"}
_NOT_TRAINED = "not trained"
# The fields of a protocol that every caption shows, in the order of their declaration.
_PROTOCOL_FIELDS = tuple(one for one in COLUMNS if one.name.startswith("protocol_") and one.caption)
# Overrides of the data set that change its images or their roles; others, such as its directory, do not.
_DATASET_OVERRIDES = ("dataset.make.", "dataset.split", "dataset.recall_at")
# Groups of shared columns whose overrides are listed, unless the caption already shows the value.
_OVERRIDABLE = ("trunk", "protocol", "optimizer", "sampler")
_SHOWN = {one.name for one in _PROTOCOL_FIELDS} | {"trunk", "protocol", "optimizer", "protocol_trunk_frozen"}


def caption(rows: Sequence[Row], axis: Axis, seeds: Collection[int], bold: str) -> str:
    """Return the sentences above a table.

    Args:
        rows: All result rows of the table.
        axis: Axis of the table.
        seeds: Numbers of seeds of the methods with results.
        bold: Meaning of bold, a clause; empty if nothing is bold.
    """
    numbers = "; ".join(part for part in (_numbers_clause(seeds), bold) if part)
    sentences = [f"{sentence[0].upper()}{sentence[1:]}" for sentence in (_protocol_sentence(rows, axis), numbers) if sentence]
    # The first sentence starts with the name of the data set, whose spelling is kept.
    return " ".join(f"{sentence}." for sentence in (_data_sentence(rows, axis), *sentences))


def details(rows: Sequence[Row], axis: Axis, selection_differs: bool, costs: Sequence[Column], oracle: bool) -> list[str]:
    """Return the sentences below a table, each without a full stop: model selection, costs, oracle gap.

    Args:
        rows: All result rows of the table.
        axis: Axis of the table.
        selection_differs: Whether a column shows how the models of each method were selected.
        costs: Costs that are printed.
        oracle: Whether the oracle gap is printed.
    """
    found = [_selection_sentence(rows, axis, selection_differs), _cost_sentence(rows, costs)]
    if oracle:
        found.append(
            "Oracle gap: additional MAP@R that choosing the epoch on the test set would have claimed; it affects no result"
        )
    return [sentence for sentence in found if sentence]


def selection_of(rows: Sequence[Row]) -> str:
    """Return how the models of one method were selected, such as `validation, tuned (20 trials)`.

    Args:
        rows: Result rows of the method.

    Returns:
        The text; empty if unknown.
    """
    if rows[0]["loss"] == UNTRAINED:
        return _NOT_TRAINED
    found = [_SELECTED_BRIEFLY.get(name, name) for name in _values(rows, "selected_on")]
    if found:  # empty for runs that have not ended
        found += [f"tuned ({trials} trials)" for trials in _values(rows, "tuning_trials")]
    return ", ".join(found)


def _values(rows: Sequence[Row], name: str) -> list[str]:
    return sorted({str(row[name]) for row in rows if row.get(name)})


def _agreed(rows: Sequence[Row], name: str) -> Scalar:
    """Return the value of a column if all rows that have the column agree; None if they differ or none has it."""
    values = {row.get(name) for row in rows} - {None}
    return values.pop() if len(values) == 1 else None


def _data_sentence(rows: Sequence[Row], axis: Axis) -> str:
    nouns = {"n_queries": "queries", "n_test_classes": "test classes"}
    counts = [f"{value:,} {noun}" for name, noun in nouns.items() if isinstance(value := _agreed(rows, name), int)]
    label = str(rows[0].get("dataset_label") or rows[0]["dataset"])
    sentence = f"{label}: {', '.join(counts)}" if counts else label
    if axis.is_loss or axis.is_preset:
        return sentence
    what = f"{axis.name} and in the hyper-parameters that each budget found" if axis.is_tuning else f"{axis.name} only"
    loss = "" if axis.owns("loss_label") else f"; loss {rows[0].get('loss_label') or rows[0]['loss']}"
    return f"{sentence}; rows differ in {what}{loss}"


def _protocol_sentence(rows: Sequence[Row], axis: Axis) -> str:
    if rows[0]["protocol"] == EXTERNAL:
        trunk = "" if rows[0]["trunk"] == EXTERNAL else f", trunk {rows[0]['trunk']} as stated by their authors"
        return f"external embeddings{trunk}: training and model selection are unknown, and none is marked as best"
    if axis.is_preset:
        return (
            "each row has the trunk, protocol and optimizer of its preset; rows are not comparable, and none is marked as best"
        )
    parts = [] if axis.owns("trunk") else [_trunk_clause(rows[0])]
    parts.append(_protocol_clause(rows[0], axis))
    parts += _overrides_clause(rows, axis)
    return "; ".join(part for part in parts if part)


def _trunk_clause(row: Row) -> str:
    label, weights = str(row.get("trunk_label") or row["trunk"]), row.get("trunk_weights")
    frozen = "frozen trunk" if row.get("protocol_trunk_frozen") else "trunk"
    if weights in (None, "none"):
        return f"{frozen} {label}, no pretrained weights"
    return f"{frozen} {label}, weights {str(weights).rsplit('/', 1)[-1]}"


def _protocol_clause(row: Row, axis: Axis) -> str:
    fields = [one for one in _PROTOCOL_FIELDS if row.get(one.name) is not None and not axis.owns(one.name)]
    values = [one.caption.format(row[one.name]) for one in fields if one.name != "protocol_version"]
    values = ["1 epoch" if value == "1 epochs" else value for value in values]
    if row.get("optimizer") is not None and not axis.owns("optimizer"):
        values.append(str(row["optimizer"]))
    if row.get("preset") not in (None, "none"):
        values.insert(0, f"preset {row['preset']}")
    if axis.owns("protocol"):
        return ", ".join(values)
    version = "" if row.get("protocol_version") is None else f" (version {row['protocol_version']})"
    return f"protocol {row['protocol']}{version}" + (f": {', '.join(values)}" if values else "")


def _overrides_clause(rows: Sequence[Row], axis: Axis) -> list[str]:
    """Return what was overridden on the command line, with the values that all rows of the table have."""
    recorded = [row.overrides for row in rows]
    as_typed = {_key(one): one for overrides in recorded for one in overrides or ()}
    listed = []
    for key, override in sorted(as_typed.items()):
        if key.startswith(_DATASET_OVERRIDES):
            listed.append(override.lstrip("+"))
            continue
        name = column_name(key)
        group = name.partition("_")[0]
        if group not in _OVERRIDABLE or name in _SHOWN or axis.owns(name) or axis.owns(group):
            continue
        if name in rows[0].columns:
            listed.append(f"{key}={_override_value(rows[0][name])}")
        else:  # removed with `~`, or a value with several columns
            listed.append(f"{key} removed" if override.startswith("~") else override.lstrip("+"))
    clauses = [f"overridden: {', '.join(listed)}"] if listed else []
    trained_here = rows[0]["protocol"] != EXTERNAL
    return [*clauses, *(["overrides were not recorded"] if trained_here and None in recorded else [])]


def _key(override: str) -> str:
    """Return the key of `key=value`, `+key=value` or `~key`."""
    return override.lstrip("~+").partition("=")[0]


def _override_value(value: Scalar) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else format_value(value)


def _numbers_clause(seeds: Collection[int]) -> str:
    if not seeds:
        return "no run has results"
    if set(seeds) == {1}:
        return "scores in %, one seed"
    count = f"{max(seeds)} seeds" if len(set(seeds)) == 1 else "n seeds"
    return f"mean ± 95 % confidence interval over {count}, in %"


def _selection_sentence(rows: Sequence[Row], axis: Axis, differs: bool) -> str:
    """Return how all models were selected; or, if that differs, the meaning of the column that shows it."""
    trained = [row for row in rows if row["loss"] != UNTRAINED]
    selections, trials = _values(trained, "selected_on"), _values(trained, "tuning_trials")
    if not selections:
        return ""
    models = max((int(n) for row in rows if (n := row.number("n_models")) is not None), default=1)
    folds = f"; each number is the mean over {models} models, one per fold, unless concatenated" if models > 1 else ""
    if differs:
        tuned = "; tuned: hyper-parameters from trials on folds of the training classes" if trials else ""
        return f"Selection: how the model of each row was selected; validation uses held-out training classes{tuned}{folds}"
    tuned = f"; hyper-parameters tuned with {' or '.join(trials)} trials on folds of the training classes" if trials else ""
    preset = rows[0].get("preset") or "none"
    recipe = "" if axis.is_preset else ", fixed protocol" if preset == "none" else f", preset {preset}"
    return f"Model selection: {' or '.join(SELECTED.get(name, name) for name in selections)}{recipe}{tuned}{folds}"


def _cost_sentence(rows: Sequence[Row], costs: Sequence[Column]) -> str:
    if not costs:
        return ""
    device = _agreed(rows, "device")
    return f"Costs are means over seeds{f', on {device}' if device else ''}"
