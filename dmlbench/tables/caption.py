"""The text around a table: three sentences above it (data, protocol, meaning of numbers and bold), and details below it.

`dmlbench compare` uses the same words for the data set, the protocol, its overrides and the model selection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from dmlbench.config.schema import CLOSED_SET_RULES, Scalar
from dmlbench.results.column_specs import COLUMNS, Column
from dmlbench.results.formatting import selected_by
from dmlbench.results.row import BASELINES, EXTERNAL, Row
from dmlbench.tables.axis import Axis
from dmlbench.tables.drawn_queries import drawn_queries
from dmlbench.tables.overrides import overridden_columns, overrides_clauses
from dmlbench.tables.significance_notes import limits_of_data

SELECTED = {"last": "last epoch", "validation": "best epoch on held-out training classes"}
_SELECTED_BRIEFLY = SELECTED | {"validation": "validation"}
_NOT_TRAINED = "not trained"
_ONE_SEED = "scores in %, one seed (n = 1)"
# The fields of a protocol that every caption shows, in the order of their declaration.
_PROTOCOL_FIELDS = tuple(one for one in COLUMNS if one.name.startswith("protocol_") and one.caption)


def caption(rows: Sequence[Row], axis: Axis, seeds: Collection[int], bold: str) -> str:
    """Return the sentences above a table.

    Args:
        rows: All result rows of the table.
        axis: Axis of the table.
        seeds: Numbers of seeds of the methods with results.
        bold: Meaning of bold, a clause; empty if nothing is bold.
    """
    numbers = "; ".join(part for part in (_numbers_clause(seeds, _agreed_queries(rows)), bold) if part)
    sentences = [f"{sentence[0].upper()}{sentence[1:]}" for sentence in (_protocol_sentence(rows, axis), numbers) if sentence]
    # The first sentence starts with the name of the data set, whose spelling is kept.
    return " ".join(f"{sentence}." for sentence in (_data_sentence(rows, axis), *sentences))


def details(rows: Sequence[Row], axis: Axis, selection_differs: bool, costs: Sequence[Column], oracle: bool) -> list[str]:
    """Return the sentences below a table, each without a full stop: model selection, costs, limits of the data, oracle gap.

    Args:
        rows: All result rows of the table.
        axis: Axis of the table.
        selection_differs: Whether a column shows how the models of each method were selected.
        costs: Costs that are printed.
        oracle: Whether the oracle gap is printed.
    """
    found = [_selection_sentence(rows, axis, selection_differs), _split_sentence(rows), _cost_sentence(rows, costs)]
    found += limits_of_data(_seed_counts(rows), _agreed(rows, "n_test_classes"))
    if oracle:
        found.append(
            "Oracle gap: additional MAP@R that choosing the epoch on the test set would have claimed; it affects no result"
        )
    return [sentence for sentence in found if sentence]


def _split_sentence(rows: Sequence[Row]) -> str:
    if not all(row.get("split_rule") in CLOSED_SET_RULES for row in rows):
        return ""
    if all(row.get("protocol_fold") in (None, "none") for row in rows):
        return "Half of the images of each class were used for training, so no test class is unseen"
    return (
        "Half of the images of each class were used for training, or for validation if the class was held out, so only test "
        "classes that were held out are unseen"
    )


def selection_of(rows: Sequence[Row]) -> str:
    """Return how the models of one method were selected, such as `validation, tuned (20 trials)`.

    Args:
        rows: Result rows of the method.

    Returns:
        The text; empty if unknown.
    """
    if rows[0]["loss"] in BASELINES:
        return _NOT_TRAINED
    found = [_SELECTED_BRIEFLY.get(name, name) for name in _values(rows, "selected_on")]
    by = selected_by(rows[0].get("protocol_selection_metric"), rows[0].get("protocol_clusters_per_class"))
    if by and found == [_SELECTED_BRIEFLY["validation"]]:
        found[0] += by
    if found:  # empty for runs that have not ended
        found += [f"tuned ({trials} trials)" for trials in _values(rows, "tuning_trials")]
    return ", ".join(found)


def _values(rows: Sequence[Row], name: str) -> list[str]:
    return sorted({str(row[name]) for row in rows if row.get(name)})


def _agreed(rows: Sequence[Row], name: str) -> Scalar:
    """Return the value of a column if all rows that have the column agree; None if they differ or none has it."""
    values = {row.get(name) for row in rows} - {None}
    return values.pop() if len(values) == 1 else None


def _seed_counts(rows: Sequence[Row]) -> set[int]:
    """Return the numbers of seeds with results of the methods."""
    return set(Counter(row.kind for row in rows if row.ok).values())


def dataset_label(rows: Sequence[Row]) -> str:
    """Return the name of a data set in print: its label if all rows have the same one, else its name in the configuration.

    Args:
        rows: Result rows on one data set.
    """
    labels = {str(row.get("dataset_label") or row["dataset"]) for row in rows}
    return labels.pop() if len(labels) == 1 else str(rows[0]["dataset"])


def _data_sentence(rows: Sequence[Row], axis: Axis) -> str:
    nouns = {"n_queries": "queries", "n_test_classes": "test classes"}
    counts = [f"{value:,} {noun}" for name, noun in nouns.items() if isinstance(value := _agreed(rows, name), int)]
    label = dataset_label(rows)
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
    parts.append(_protocol_clause(rows[0], axis, overridden_columns(rows)))
    return "; ".join(part for part in (*parts, *overrides_clauses(rows, axis)) if part)


def _trunk_clause(row: Row) -> str:
    label, weights = str(row.get("trunk_label") or row["trunk"]), row.get("trunk_weights")
    frozen = "frozen trunk" if row.get("protocol_trunk_frozen") else "trunk"
    if weights in (None, "none"):
        return f"{frozen} {label}, no pretrained weights"
    return f"{frozen} {label}, weights {str(weights).rsplit('/', 1)[-1]}"


def _protocol_clause(row: Row, axis: Axis, overridden: Collection[str]) -> str:
    """Return the protocol with its main values, except for those that are overridden, which are listed after it."""
    without = {name for name in overridden if name in row.columns}
    fields = [
        one for one in _PROTOCOL_FIELDS if row.get(one.name) is not None and not axis.owns(one.name) and one.name not in without
    ]
    values = [one.caption.format(row[one.name]) for one in fields if one.name != "protocol_version"]
    values = ["1 epoch" if value == "1 epochs" else value for value in values]
    if row.get("optimizer") is not None and not axis.owns("optimizer") and "optimizer" not in without:
        values.append(str(row["optimizer"]))
    if not axis.owns("lr_from"):
        values += _rates_clause(str(row.get("lr_from")))
    if row.get("preset") not in (None, "none"):
        values.insert(0, f"preset {row['preset']}")
    if axis.owns("protocol"):
        return ", ".join(values)
    return protocol_name(row) + (f": {', '.join(values)}" if values else "")


def _rates_clause(source: str) -> list[str]:
    """Return the source of the learning rates, unless all are those of the protocol."""
    whose, _, differences = source.partition(": ")
    if whose == "method":
        return [f"learning rates of each method ({differences or 'loss.lr, loss.head_lr_scale'})"]
    return [differences] if differences else []


def protocol_name(row: Row) -> str:
    """Return a protocol with its version, such as `protocol quick (version 1)`.

    Args:
        row: Result row.
    """
    version = "" if row.get("protocol_version") is None else f" (version {row['protocol_version']})"
    return f"protocol {row['protocol']}{version}"


def _agreed_queries(rows: Sequence[Row]) -> int | None:
    """Return how many queries were drawn for all rows with results, of which intervals account for the choice."""
    counts = {drawn_queries(row) for row in rows if row.ok}
    return counts.pop() if len(counts) == 1 else None


def _numbers_clause(seeds: Collection[int], queries: int | None) -> str:
    if not seeds:
        return "no run has results"
    drawn = "" if queries is None else f"{queries:,} drawn queries"
    if set(seeds) == {1}:
        return f"scores ± 95 % confidence interval over {drawn}, in %, one seed (n = 1)" if drawn else _ONE_SEED
    count = f"n = {max(seeds)} seeds" if len(set(seeds)) == 1 else "n seeds"
    return f"mean ± 95 % confidence interval over {count}{' and ' * bool(drawn)}{drawn}, in %"


def _selection_sentence(rows: Sequence[Row], axis: Axis, differs: bool) -> str:
    """Return how all models were selected; or, if that differs, the meaning of the column that shows it."""
    trained = [row for row in rows if row["loss"] not in BASELINES]
    if not differs:
        found = selection_clause(trained, with_hyper_parameters=not axis.is_preset)
        return f"Model selection: {found}" if found else ""
    tuned = (
        "; tuned: hyper-parameters from trials on folds of the training classes" if _values(trained, "tuning_trials") else ""
    )
    return (
        "Selection: how the model of each row was selected; validation uses held-out training classes"
        f"{tuned}{_folds_clause(trained)}"
    )


def selection_clause(rows: Sequence[Row], with_hyper_parameters: bool = True) -> str:
    """Return how models and hyper-parameters were selected, a clause.

    Args:
        rows: Rows of trained methods.
        with_hyper_parameters: Whether to say that hyper-parameters were not tuned, or are those of a preset.

    Returns:
        The clause; empty if nothing is known, or no row is given.
    """
    selections, trials = _values(rows, "selected_on"), _values(rows, "tuning_trials")
    if not selections:
        return ""
    fold, folds = _agreed(rows, "protocol_fold"), _agreed(rows, "protocol_folds")
    held_out = f", fold {fold} of {folds}" if selections == ["validation"] and isinstance(fold, int) else ""
    metrics, clusters = _agreed(rows, "protocol_selection_metric"), _agreed(rows, "protocol_clusters_per_class")
    by = selected_by(metrics, clusters) if selections == ["validation"] else ""
    clause = f"{' or '.join(SELECTED.get(name, name) for name in selections)}{by}{held_out}"
    if trials:
        clause += f"; hyper-parameters tuned with {' or '.join(trials)} trials on folds of the training classes"
    elif with_hyper_parameters:
        preset = rows[0].get("preset") or "none"
        clause += "; hyper-parameters not tuned" if preset == "none" else f"; preset {preset}"
    return f"{clause}{_folds_clause(rows)}"


def _folds_clause(rows: Sequence[Row]) -> str:
    models = max((int(n) for row in rows if (n := row.number("n_models")) is not None), default=1)
    return f"; each number is the mean over {models} models, one per fold, unless concatenated" if models > 1 else ""


def _cost_sentence(rows: Sequence[Row], costs: Sequence[Column]) -> str:
    if not costs:
        return ""
    device = _agreed(rows, "device")
    return f"Costs are means over seeds{f', on {device}' if device else ''}"
