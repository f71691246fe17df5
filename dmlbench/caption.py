"""Floor 3.5: what a table says of its rows in sentences: what was held equal, how a model was chosen, how sure a mean is."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from dmlbench.axes import Axis
from dmlbench.costs import Cost
from dmlbench.deviations import FROZEN, LEFT_OUT, deviations, sampler_of
from dmlbench.rows import EXTERNAL, UNTRAINED, Row, Scalar

SELECTED = {"last": "last epoch", "validation": "best on held-out training classes"}
_SELECTED_BRIEFLY = SELECTED | {"validation": "validation"}
_NOTHING_CHOSEN = "nothing trained"
# Fields of the protocol, and how a caption tells them.
_PROTOCOL_WORDS = {
    "protocol_epochs": "{} epochs",
    "protocol_batch_size": "batch {}",
    "protocol_embedding_dim": "{}-d embedding",
    "protocol_image_px": "{} px",
    "optimizer": "{}",
}
_TOLD = (*_PROTOCOL_WORDS, "protocol_version", "protocol_selection", "protocol_trunk_frozen")


def caption(
    rows: Sequence[Row],
    axis: Axis,
    ns: Collection[int],
    tested: str,
    chosen_apart: bool = False,
    costs: Sequence[Cost] = (),
    oracle: bool = False,
) -> str:
    """Tell a table's reader what the lines have in common.

    Args:
        rows: all of the table.
        axis: what the lines stand for.
        ns: numbers of seeds of the lines that have numbers.
        tested: a sentence about the test behind bold, or nothing.
        chosen_apart: whether a column tells how the models of each line were chosen.
        costs: that are printed.
        oracle: whether the oracle gap is printed.

    Returns:
        Plain sentences.
    """
    sentences = [_data_words(rows)]
    if rows[0]["protocol"] == EXTERNAL:
        stated = "" if rows[0]["trunk"] == EXTERNAL else f", by their own account from the trunk {rows[0]['trunk']}"
        sentences.append(
            f"Embeddings from elsewhere{stated}: how they were trained and chosen is not known here, and none is marked best"
        )
    elif not axis.is_preset:
        if not axis.is_loss:
            loss = rows[0].get("loss_label") or rows[0]["loss"]
            alone = " and in the method's values that each found" if axis.is_tuning else " alone"
            sentences.append(f"Lines differ in {axis.name}{alone}" + ("" if axis.owns("loss_label") else f"; loss {loss}"))
        if not axis.owns("trunk"):
            sentences.append(_trunk_words(rows[0], axis))
        sentences.append(_protocol_words(rows[0], axis))
    else:
        sentences.append(
            "Lines were not made alike: each has its preset's trunk, protocol and optimizer, and none is marked best"
        )
    sentences += [_selection_words(rows, axis, chosen_apart), _interval_words(ns), tested, _cost_words(rows, costs)]
    if oracle:
        sentences.append(
            "Oracle gap: how much more MAP@R choosing the epoch on the test set would have claimed; nothing was chosen so"
        )
    return " ".join(f"{sentence}." for sentence in sentences if sentence)


def chosen(rows: Sequence[Row]) -> str:
    """How the models of one line were chosen, as `last epoch` or `validation, tuned (20 trials)`; empty where no row tells."""
    if rows[0]["loss"] == UNTRAINED:
        return _NOTHING_CHOSEN
    found = [_SELECTED_BRIEFLY.get(name, name) for name in _of_all(rows, "selected_on")]
    if found:  # else the run has not ended
        found += [f"tuned ({trials} trials)" for trials in _of_all(rows, "tuning_trials")]
    return ", ".join(found)


def _of_all(rows: Sequence[Row], column: str) -> list[str]:
    return sorted({str(row[column]) for row in rows if row.get(column)})


def _agreed(rows: Sequence[Row], column: str) -> Scalar:
    """The value that all rows with this column have; None where they differ or all lack it."""
    values = {row.get(column) for row in rows} - {None}
    return values.pop() if len(values) == 1 else None


def _data_words(rows: Sequence[Row]) -> str:
    counts = {"n_queries": "queries", "n_test_classes": "test classes"}
    numbers = [f"{value:,} {what}" for name, what in counts.items() if isinstance(value := _agreed(rows, name), int)]
    label = str(rows[0].get("dataset_label") or rows[0]["dataset"])
    return f"{label}: {', '.join(numbers)}" if numbers else label


def _trunk_words(row: Row, axis: Axis) -> str:
    label = str(row.get("trunk_label") or row["trunk"])
    weights = row.get("trunk_weights")
    with_weights = "without pretrained weights" if weights in (None, "none") else f"weights {str(weights).rsplit('/', 1)[-1]}"
    return "; ".join([f"Trunk {label}, {with_weights}", *_changed(row, "trunk", axis)])


def _protocol_words(row: Row, axis: Axis) -> str:
    told = [name for name in _PROTOCOL_WORDS if row.get(name) is not None and not axis.owns(name)]
    main = [_PROTOCOL_WORDS[name].format(row[name]) for name in told]
    main = ["1 epoch" if words == "1 epochs" else words for words in main]
    if _of_preset(row):
        main.insert(0, f"preset {row['preset']}")
    version = "" if row.get("protocol_version") is None else f" (version {row['protocol_version']})"
    named = [] if axis.owns("protocol") else [f"Protocol {row['protocol']}{version}"]
    parts = [": ".join([*named, *([", ".join(main)] if main else [])])]
    if row.get("protocol_trunk_frozen") and not axis.owns("protocol_trunk_frozen"):
        parts.append("trunk frozen")
    parts += _changed(row, "protocol", axis)
    own = sampler_of(str(row["protocol"]))
    if not _of_preset(row) and own not in (None, row.get("sampler", own)) and not axis.owns("sampler"):
        parts.append(f"sampler {row['sampler']}")
    parts += [*_changed(row, "optimizer", axis), *_changed(row, "sampler", axis)]
    return "; ".join(part for part in parts if part)


def _of_preset(row: Row) -> bool:
    return row.get("preset") not in (None, "none")


def _changed(row: Row, group: str, axis: Axis) -> list[str]:
    """What the lines have otherwise than the file that they name, where neither the axis nor another sentence tells it."""
    if _of_preset(row):  # it changes files itself
        return []
    told = (*_TOLD, *(FROZEN if row.get("protocol_trunk_frozen") else ()))
    found = {name: value for name, value in deviations(row, group).items() if name not in told and not axis.owns(name)}
    if not found:
        return []
    begins = re.compile(f"{group}_(make_)?")
    said = [f"{begins.sub('', name, count=1)}{_as_typed(value)}" for name, value in found.items()]
    whose = "its" if group in ("protocol", "trunk") else f"the {group}'s"
    return [f"changed from {whose} file: {', '.join(said)}"]


def _as_typed(value: Scalar) -> str:
    if value == LEFT_OUT:
        return f" {LEFT_OUT}"
    return "=null" if value is None else f"={str(value).lower() if isinstance(value, bool) else value}"


def _selection_words(rows: Sequence[Row], axis: Axis, apart: bool) -> str:
    """How all models were chosen; where lines differ in it, what the column that tells it means."""
    trained = [row for row in rows if row["loss"] != UNTRAINED]
    selections, trials = _of_all(trained, "selected_on"), _of_all(trained, "tuning_trials")
    if not selections:
        return ""
    models = max((int(n) for row in rows if (n := row.number("n_models")) is not None), default=1)
    folds = f"; each number is the mean over {models} models, one a fold, unless joined" if models > 1 else ""
    if apart:
        tuned = "; tuned: the method's values, by so many trials on folds of the training classes" if trials else ""
        return f"Chosen: how the model of each line was; validation is on held-out training classes{tuned}{folds}"
    tuned = f"; method values tuned with {' or '.join(trials)} trials each on folds of the training classes" if trials else ""
    preset = rows[0].get("preset") or "none"
    recipe = "" if axis.is_preset else ", fixed protocol" if preset == "none" else f", preset {preset}"
    return f"Selected: {' or '.join(SELECTED.get(name, name) for name in selections)}{recipe}{tuned}{folds}"


def _interval_words(ns: Collection[int]) -> str:
    if not ns:
        return "No run ended with numbers"
    if set(ns) == {1}:
        return "One seed: no interval"
    seeds = f"{max(ns)} seeds" if len(set(ns)) == 1 else "n seeds"
    single = "; one seed: no interval" if 1 in ns else ""
    return f"Mean ± 95 % interval of the mean over {seeds}, Student t{single}"


def _cost_words(rows: Sequence[Row], costs: Sequence[Cost]) -> str:
    if not costs:
        return ""
    device = _agreed(rows, "device")
    return f"Cost{f' on {device}' if device else ''}, means over seeds: {', '.join(cost.name for cost in costs)}"
