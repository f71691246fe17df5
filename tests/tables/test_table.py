"""Comparison tables: which rows are compared, how they are summarised, and the text above and below them."""

from __future__ import annotations

import doctest
import math
import random
import re
import subprocess
import sys
from typing import Any

import pytest
from rows_factory import make_row, make_study
from scipy import stats as scipy_stats

import dmlbench.tables.axis
from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.tables.axis import ABSENT
from dmlbench.tables.formats import render
from dmlbench.tables.table import ORDER, Table, compare
from dmlbench.tables.table_differences import difference_list, differences, differences_to_print, known_differences
from dmlbench.tables.table_row import TableRow


def row_of(table: Table, label: str) -> TableRow:
    (row,) = [row for row in table.rows if row.label == label]
    return row


def changed(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else f"{value or ''}x"


# --- which rows are compared


def test_methods_and_seeds_are_in_one_table():
    (table,) = compare(make_study())
    assert [row.label for row in table.rows] == ["Untrained trunk", "Contrastive", "Triplet", "ArcFace"]
    assert {row.seeds for row in table.rows} == {(0, 1, 2)}


def test_rows_with_equal_digests_and_other_hyper_parameters_are_different_methods() -> None:
    rows = [make_row(method_digest="0" * 8, seed=seed, loss_make_neg_margin=0.5 + seed) for seed in range(2)]
    (table,) = compare(rows)
    assert [(row.label, row.seeds) for row in table.rows] == [
        ("Contrastive (neg_margin=0.5)", (0,)),
        ("Contrastive (neg_margin=1.5)", (1,)),
    ]
    (table,) = compare([make_row(method_digest="0" * 8, seed=seed, loss_lr_scale=scale) for seed, scale in ((0, 1), (1, 1.0))])
    assert [row.seeds for row in table.rows] == [(0, 1)], "1 and 1.0 are the same number"


def test_the_order_of_the_rows_does_not_matter():
    rows = [*make_study(), *make_study(protocol_epochs=9), make_row(0.9, device="cuda")]
    shuffled = random.Random(0).sample(rows, len(rows))
    assert compare(shuffled) == compare(rows)


@pytest.mark.parametrize("column", make_row().shared)
def test_rows_that_differ_in_a_shared_column_are_in_different_tables(column):
    value = make_row()[column]
    tables = compare([*make_study(), *make_study(**{column: changed(value)})])
    assert len(tables) == 2
    assert set(map(len, (table.rows for table in tables))) == {4}
    assert {name: set(values) for name, values in differences(tables).items()} == {column: {value, changed(value)}}


def test_rows_without_a_shared_column_of_other_rows_are_in_a_different_table():
    tables = compare([make_row(), make_row(loss="triplet", protocol_threads=1)])
    assert {name: set(values) for name, values in differences(tables).items()} == {"protocol_threads": {ABSENT, 1}}


@pytest.mark.parametrize(
    "column",
    [
        "seed",
        "device",
        "train_seconds",
        "code_revision",
        "trunk_label",
        "dataset_label",
        "selected_on",
        "fingerprint",
    ],
)
def test_rows_that_differ_in_other_columns_are_in_one_table(column):
    value = 3 if column == "seed" else "other"
    assert len(compare([make_row(), make_row(loss="triplet", **{column: value})])) == 1


def test_samples_per_class_may_differ_between_methods_if_the_sampler_refers_to_the_method():
    rows = [make_row(loss_samples_per_class=4), make_row(loss="arcface", loss_samples_per_class=1)]
    assert len(compare(rows)) == 1


def test_a_single_table_has_no_differences():
    assert differences(compare(make_study())) == {}


def test_a_column_that_the_name_of_a_file_determines_is_not_printed_as_a_difference():
    cub = {"dataset": "cub", "dataset_label": "CUB", "split_digest": "9"}
    tables = compare([make_row(), make_row(protocol="standard", protocol_lr=0.1, **cub)])
    assert "protocol_lr" in differences(tables)
    assert differences_to_print(tables) == []
    assert differences_to_print(compare([make_row(), make_row(protocol_lr=0.1)])) == ["protocol_lr"]


def test_tables_are_sorted_by_data_set_and_numbers_by_size():
    rows = [make_row(protocol_epochs=epochs, dataset=dataset) for dataset in "ba" for epochs in (12, 6, 100)]
    found = [(table.shared["dataset"], table.shared["protocol_epochs"]) for table in compare(rows)]
    assert found == [("a", 6), ("a", 12), ("a", 100), ("b", 6), ("b", 12), ("b", 100)]


# --- the rows of a table


def test_tables_of_training_runs_come_before_those_of_evaluations() -> None:
    evaluated = {"evaluation_distance": "cosine", "evaluation_layer": "embedding", "parent": "a"}
    rows = [
        make_row(lr_from="protocol", **evaluated),
        make_row(lr_from="protocol", dataset="zebras"),
        make_row(lr_from="protocol"),
    ]
    shared = [table.shared for table in compare(rows)]
    found = [(one["dataset"], one.get("evaluation_distance")) for one in shared]
    assert found == [("digits", None), ("zebras", None), ("digits", "cosine")]


def test_the_untrained_trunk_is_first_and_other_losses_follow_the_known_ones_by_name():
    losses = ["zeta", *reversed(ORDER), "alpha"]
    (table,) = compare([make_row(loss=loss) for loss in losses])
    assert [row.loss for row in table.rows] == [*ORDER, "alpha", "zeta"]


def test_two_variants_of_a_loss_are_two_rows_named_by_the_values_that_differ():
    (table,) = compare([make_row(loss_make_neg_margin=margin) for margin in (0.5, 1.0)])
    assert [row.label for row in table.rows] == [
        "Contrastive (neg_margin=0.5)",
        "Contrastive (neg_margin=1.0)",
    ]


def test_a_value_of_the_miner_has_the_prefix_miner():
    (table,) = compare([make_row(loss_make_margin=1, loss_miner_margin=margin) for margin in (0.1, 0.2)])
    assert [row.label for row in table.rows] == [
        "Contrastive (miner_margin=0.1)",
        "Contrastive (miner_margin=0.2)",
    ]


def test_a_value_that_only_one_variant_has_is_part_of_its_name():
    (table,) = compare([make_row(), make_row(loss_miner_epsilon=0.1)])
    assert {row.label for row in table.rows} == {"Contrastive", "Contrastive (miner_epsilon=0.1)"}


def test_two_losses_with_the_same_label_are_distinguished_by_their_names():
    (table,) = compare([make_row(), make_row(loss="mine", loss_label="Contrastive")])
    assert [row.label for row in table.rows] == ["Contrastive (contrastive)", "Contrastive (mine)"]


def test_variants_that_differ_in_no_column_are_distinguished_by_their_digests():
    (table,) = compare([make_row(loss="mine", method_digest=digit * 16) for digit in "ab"])
    assert [row.label for row in table.rows] == ["mine (digest aaaaaaaa)", "mine (digest bbbbbbbb)"]


# --- scores


def test_a_cell_contains_the_mean_and_the_interval_over_seeds():
    scores = [0.41, 0.44, 0.42, 0.47]
    (table,) = compare([make_row(map_at_r=score, seed=seed) for seed, score in enumerate(scores)])
    cell = table.rows[0].cells["map_at_r"]
    low, high = scipy_stats.t.interval(0.95, 3, sum(scores) / 4, scipy_stats.sem(scores))
    assert (cell.mean - cell.half_width, cell.mean + cell.half_width) == pytest.approx((low, high))


def test_a_run_given_twice_counts_once():
    assert compare([*make_study(), *make_study()]) == compare(make_study())


def test_copies_of_a_run_with_different_results_count_once_and_are_reported():
    (table,) = compare([make_row(0.4, run_id="abc"), make_row(0.5, run_id="abc")])
    assert table.rows[0].n == 1
    assert table.notes == ("Run abc exists twice with different results; only one of them is used",)


def test_a_method_with_a_failed_seed_has_no_scores_and_a_footnote_with_the_reason():
    rows = [
        *make_study(),
        make_row(loss="triplet", seed=3, status="failed", reason="the loss is nan in epoch 2"),
    ]
    (table,) = compare(rows)
    row = row_of(table, "Triplet")
    assert (row.n, row.seeds) == (3, (0, 1, 2))
    assert set(row.cells.values()) == {None}
    assert row.notes == ("seed 3 failed: the loss is nan in epoch 2",)


def test_scores_in_a_failed_row_are_not_used():
    (table,) = compare([Row({**make_row(0.9).columns, "status": "failed", "reason": "collapsed"})])
    assert set(table.rows[0].cells.values()) == {None}


def test_seeds_that_failed_for_the_same_reason_share_a_footnote():
    rows = [make_row(seed=seed, status="failed", reason="collapsed") for seed in (0, 2)]
    (table,) = compare([*rows, make_row(seed=1, status="failed")])
    assert table.rows[0].notes == ("seeds 0, 2 failed: collapsed", "seed 1 failed: no reason given")
    assert "No run has results." in table.caption


def test_a_method_with_fewer_seeds_has_a_footnote_with_the_missing_ones():
    rows = [row for row in make_study() if row["loss"] != "triplet"] + [make_row(0.31, loss="triplet", seed=1)]
    (table,) = compare(rows)
    row = row_of(table, "Triplet")
    assert (row.n, row.cells["map_at_r"].mean, row.cells["map_at_r"].half_width) == (1, 0.31, None)
    assert row.notes == ("no seeds 0, 2, which other methods have",)
    assert "Mean ± 95 % confidence interval over n seeds, in %" in table.caption


@pytest.mark.parametrize("missing", [None, math.nan, "0.5", True, 17.5, -0.1, 10**400])
def test_a_missing_or_impossible_value_is_not_averaged_and_has_a_footnote(missing):
    (table,) = compare([make_row(seed=0), make_row(seed=1, map_at_r=missing)])
    assert table.rows[0].cells["map_at_r"] is None
    assert table.rows[0].cells["r_precision"].mean == 0.5
    assert table.rows[0].notes == ("no MAP@R for seed 1",)


def test_the_best_method_is_a_trained_one():
    scores = {"untrained": 0.9, "contrastive": 0.3, "triplet": 0.4}
    rows = [make_row(score, loss=loss, seed=seed) for loss, score in scores.items() for seed in (0, 1)]
    (table,) = compare(rows, tested=False)
    assert table.bold["map_at_r"] == {"Triplet"}


# --- printed metrics


def test_recall_is_sorted_by_k_and_precision_is_printed_only_on_request():
    row = make_row(recall_at_10=0.5, recall_at_100=0.5)
    (table,) = compare([row])
    ks = [f"recall_at_{k}" for k in (1, 2, 4, 8, 10, 100)]
    assert table.columns == (*ks, "r_precision", "map_at_r")
    assert table.metrics == (*table.columns, "precision_at_1")
    (table,) = compare([row], metrics=["map_at_r", "precision_at_1"])
    assert table.columns == ("map_at_r", "precision_at_1")


def test_a_metric_that_some_rows_lack_is_not_printed_by_default():
    bare = {name: value for name, value in make_row(loss="triplet").columns.items() if name != "recall_at_8"}
    (table,) = compare([make_row(), Row(bare)])
    assert "recall_at_8" not in table.columns
    assert row_of(table, "Triplet").cells["recall_at_8"] is None
    assert row_of(table, "Triplet").notes == ()


# --- runs that were evaluated again


def test_a_run_that_was_evaluated_again_in_the_same_way_is_the_same_run():
    again = {"evaluation_distance": "inner_product", "evaluation_layer": "embedding", "evaluation_recall_at": "[1, 2]"}
    run = make_row(split_recall_at="[1, 2]", train_seconds=60.0)
    evaluation = Row({**run.columns, **again, "parent": run["run_id"], "train_seconds": None})
    (table,) = compare([evaluation, run])
    assert table.rows[0].n == 1
    assert table.rows[0].costs["train_seconds"] == 60.0


@pytest.mark.parametrize("changed", [{"evaluation_distance": "euclidean"}, {"evaluation_recall_at": "[1, 5]"}])
def test_a_run_that_was_evaluated_in_another_way_differs_only_in_that(changed):
    again = {"evaluation_distance": "inner_product", "evaluation_layer": "embedding", "evaluation_recall_at": "[1, 2]"}
    run = make_row(split_recall_at="[1, 2]")
    tables = compare([run, Row({**run.columns, **again, **changed, "parent": run["run_id"]})])
    assert list(differences(tables)) == list(changed)


# --- captions and notes


def test_a_method_below_the_untrained_trunk_has_a_footnote():
    (table,) = compare([*make_study(), make_row(0.01, loss="cosface", seed=0)])
    assert "its mean MAP@R is below that of the untrained trunk" in row_of(table, "CosFace").notes
    assert row_of(table, "Contrastive").notes == ()
    assert table.notes == ()


def test_metrics_in_which_no_method_exceeds_the_untrained_trunk_are_named():
    first, others = ("recall_at_1", "precision_at_1"), ("recall_at_2", "recall_at_4", "recall_at_8")
    untrained = make_row(0.6, loss="untrained", **dict.fromkeys(others, 0.8))
    (table,) = compare([untrained, make_row(0.5, **dict.fromkeys((*first, *others), 0.7))])
    assert table.notes == ("No method exceeds the untrained trunk in R@2, R@4, R@8, RP, MAP@R",)


@pytest.mark.parametrize(
    ("columns", "note"),
    [
        ({"device": "cuda"}, "The rows differ in device: cpu, cuda"),
        ({"n_queries": 1199}, "The rows differ in number of queries: 1199, 1200"),
        ({"n_test_classes": 49}, "The rows differ in number of test classes: 49, 50"),
        ({"torch_version": "2.0.0"}, "The rows differ in version of torch: 2.0.0, 2.11.0"),
    ],
)
def test_differences_in_data_device_and_versions_are_reported(columns, note):
    (table,) = compare([make_row(), make_row(loss="triplet", **columns)])
    assert table.notes == (note,)


def test_the_caption_has_three_sentences_on_data_protocol_and_scores():
    (table,) = compare(make_study())
    assert table.caption == (
        "Digit pairs: 1,200 queries, 50 test classes. "
        "Trunk ConvNet, no pretrained weights; protocol quick (version 1): 6 epochs, batch 64, 64-d embedding, 32 px, adamw. "
        "Mean ± 95 % confidence interval over n = 3 seeds, in %; nothing is bold, because significance was not tested."
    )
    assert table.details == (
        "Model selection: last epoch; hyper-parameters not tuned",
        "Significance was not tested: per-query scores are missing",
    )


def test_the_caption_says_that_the_best_trained_method_is_bold_only_if_there_is_an_untrained_trunk():
    meaning = "bold marks the best{} method by its mean alone: without a significance test, it may be best by chance."
    (table,) = compare(make_study(), tested=False)
    assert table.caption.endswith(meaning.format(" trained"))
    (table,) = compare([row for row in make_study() if row["loss"] != "untrained"], tested=False)
    assert table.caption.endswith(meaning.format(""))


@pytest.mark.parametrize("tested", [True, False])
def test_with_one_seed_nothing_is_bold_and_the_caption_says_why(tested):
    rows = [row for row in make_study() if row["seed"] == 0]
    (table,) = compare(rows, tested=tested)
    assert not table.bold
    assert "**" not in render([table], "markdown")
    assert table.caption.endswith("Scores in %, one seed (n = 1); nothing is bold, because one seed cannot tell methods apart.")
    assert not any("ignificance" in sentence for sentence in table.details)


def test_if_a_method_has_one_seed_nothing_is_bold():
    rows = [row for row in make_study() if row["loss"] != "triplet" or row["seed"] == 0]
    (table,) = compare(rows)
    assert not table.bold
    assert table.caption.endswith("nothing is bold, because significance was not tested.")
    assert "Significance was not tested: a method has only one seed" in table.details
    (table,) = compare(rows, tested=False)
    assert not table.bold
    assert table.caption.endswith("nothing is bold, because one seed cannot tell methods apart.")


def test_a_single_method_is_not_bold_because_nothing_is_compared():
    rows = [row for row in make_study() if row["loss"] in ("untrained", "triplet")]
    for tested in (True, False):
        (table,) = compare(rows, tested=tested)
        assert not table.bold
        assert table.caption.endswith("confidence interval over n = 3 seeds, in %.")


def test_few_test_classes_and_two_seeds_are_reported_below_the_table():
    few = "Only 19 test classes: with other classes, the results may be quite different"
    wide = "The 95 % interval of two seeds is very wide; use three seeds or more"
    (table,) = compare([make_row(n_test_classes=19), make_row(loss="triplet", n_test_classes=19)])
    assert few in table.details
    assert wide not in table.details
    (table,) = compare([make_row(n_test_classes=20), make_row(seed=1, n_test_classes=20)])
    assert few not in table.details
    assert wide in table.details


def test_a_data_set_with_several_labels_has_its_name_in_the_caption():
    (table,) = compare([make_row(dataset_label="digits"), make_row(loss="triplet", dataset_label="My digits")])
    assert table.caption.startswith("digits: 1,200 queries")
    (table,) = compare([make_row(dataset="x", dataset_label="Y"), make_row(dataset="x", loss="triplet", dataset_label="Z")])
    assert table.caption.startswith("x: 1,200 queries")


def test_only_known_differences_separate_external_embeddings_from_runs():
    external = {name: None for name in make_row().shared if name not in ("dataset", "trunk", "protocol", "split_digest")}
    columns = {**make_row(loss="theirs").columns, "protocol": "external", "trunk": "external", "split_digest": "a" * 64}
    theirs = Row({name: value for name, value in columns.items() if name not in external} | {"overrides": None})
    tables = compare([make_row(), theirs])
    assert len(differences(tables)) > 10
    assert known_differences(tables) == {}
    heading, items = difference_list(tables)
    assert heading == "2 tables: the runs cannot be in one table. They differ in (table 1 | table 2 ...):"
    assert len(items) == 1
    assert re.match("table [12] contains external embeddings: nothing is known about their training. ", items[0])
    text = render(tables)
    assert "In this table" not in text
    assert "not set" not in text
    three = compare([make_row(), make_row(protocol_lr=0.1), theirs])
    assert list(known_differences(three)) == ["protocol_lr"]


def test_columns_that_a_chosen_file_determines_are_counted_with_it():
    others = {"trunk_width": 64, "trunk_a": 1, "trunk_b": 2, "trunk_c": 3}
    _, items = difference_list(compare([make_row(), make_row(trunk="other", trunk_width=64, protocol_lr=0.1)]))
    assert items == ["protocol_lr: 0.001 | 0.1", "trunk: convnet | other (and consequently trunk_width)"]
    _, items = difference_list(compare([make_row(), make_row(trunk="other", **others)]))
    assert items == ["trunk: convnet | other (and consequently 4 columns, which --explain lists)"]


def test_the_caption_names_the_weights_and_says_that_there_is_one_seed():
    weights = {"trunk_weights": "mobilenet.pth"}
    rows = [make_row(**weights), make_row(loss="triplet", **weights), make_row(loss="untrained", selected_on="none", **weights)]
    (table,) = compare(rows)
    assert "Trunk ConvNet, weights mobilenet.pth; protocol quick" in table.caption
    assert "Scores in %, one seed (n = 1); nothing is bold" in table.caption
    assert table.details == ("Model selection: last epoch; hyper-parameters not tuned",)


def test_rows_with_only_the_required_columns_make_a_table():
    columns = {name: make_row()[name] for name in ("run_id", "method_digest")}
    names = dict.fromkeys(("fingerprint", "dataset", "trunk", "loss", "protocol"), "mine")
    row = Row({**columns, **names, "schema_version": 1, "status": "ok", "seed": 0, "map_at_r": 0.5})
    (table,) = compare([row])
    assert table.columns == ("map_at_r",)
    assert table.caption.startswith("mine. Trunk mine, no pretrained weights; protocol mine; overrides were not recorded.")


@pytest.mark.parametrize(
    "column",
    ["map_at_r", "n_queries", "train_seconds", "n_model_parameters", "protocol_epochs", "n_models", "effective_rank", "seed"],
)
def test_numbers_that_exceed_the_range_of_floats_cause_no_error(column):
    rows = [make_row(**{column: 10**400}), make_row(loss="triplet", **{column: -(10**400)})]
    assert "Triplet" in render(compare(rows))
    assert "epochs" in render(compare([make_row(protocol_epochs=10**400), make_row()], vary="protocol.epochs"))


# --- errors


def test_without_rows_the_error_names_a_command_that_makes_some():
    with pytest.raises(UserError, match="dmlbench sweep"):
        compare([])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"vary": "los"}, "--vary los is not an axis of these rows; did you mean 'loss'?"),
        (
            {"vary": "dataset"},
            "--vary dataset is not an axis of these rows; known are loss, preset, trunk, sampler, optimizer, protocol, "
            "layer and single values such as loss.make.alpha",
        ),
        (
            {"vary": "loss.make.neg_margn"},
            "--vary loss.make.neg_margn is not an axis of these rows; did you mean 'loss.make.neg_margin'?",
        ),
        ({"metrics": ["map_at_R"]}, "--metrics map_at_R: no row has this metric; did you mean 'map_at_r'?"),
    ],
)
def test_an_unknown_axis_or_metric_is_refused_with_a_similar_name(arguments, sentence):
    with pytest.raises(UserError) as error:
        compare([make_row()], **arguments)
    assert str(error.value) == sentence


def test_tables_import_neither_torch_nor_hydra():
    program = "import sys, dmlbench.tables.table, dmlbench.tables.formats; print({'torch', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_examples_in_the_docstrings_are_correct():
    assert doctest.testmod(dmlbench.tables.axis).failed == 0


# --- presets


def recipes() -> list[Row]:
    """Make rows of one loss under the fixed protocol and under the preset of its paper, with two seeds each."""
    paper = {
        "preset": "paper",
        "loss_make_neg_margin": 0.7,
        "protocol_lr": 0.1,
        "optimizer": "adam",
        "trunk": "bn_inception",
        "fingerprint": "b" * 8,
    }
    return [
        make_row(score + seed / 100, seed=seed, **given)
        for score, given in ((0.4, {"preset": "none"}), (0.6, paper))
        for seed in (0, 1)
    ]


def test_a_loss_under_the_fixed_protocol_and_under_a_preset_share_a_table_only_if_presets_vary() -> None:
    assert len(compare(recipes())) == 2
    [table] = compare(recipes(), vary="preset")
    assert [row.label for row in table.rows] == ["Contrastive, fixed protocol quick", "Contrastive, preset paper"]
    assert [row.n for row in table.rows] == [2, 2]
    assert [row.cells["map_at_r"].mean for row in table.rows] == pytest.approx([0.405, 0.605])  # type: ignore[union-attr]


def test_rows_of_presets_have_notes_with_all_differences_and_none_is_best() -> None:
    [table] = compare(recipes(), vary="preset")
    assert "Contrastive, preset paper: trunk=bn_inception, protocol_lr=0.1, optimizer=adam, neg_margin=0.7" in table.notes
    assert any(note.startswith("Contrastive, fixed protocol quick: ") and "protocol_lr=0.001" in note for note in table.notes)
    assert not table.bold
    assert "rows are not comparable, and none is marked as best." in table.caption
    assert not table.comparable
    assert not any("protocol_epochs" in note for note in table.notes)  # equal in both


def test_rows_of_the_same_preset_have_no_note_about_differences() -> None:
    [table] = compare([make_row(), make_row(loss="triplet")], vary="preset")
    assert table.notes == ()


def test_two_data_sets_are_two_tables_if_presets_vary() -> None:
    other = make_row(dataset="other", split_digest="9", preset="paper")
    assert len(compare([*recipes(), other], vary="preset")) == 2


def test_the_caption_of_a_table_with_one_preset_names_it() -> None:
    [table] = compare([make_row(preset="paper")])
    assert "preset paper" in table.caption


def test_scores_for_model_selection_and_of_the_oracle_are_not_metrics_of_a_table() -> None:
    [table] = compare([make_row(oracle_map_at_r=0.9, oracle_epoch=3, selected_score=0.8)])
    assert not any("oracle" in name or "selected" in name for name in (*table.metrics, *table.columns))
    assert "oracle" not in table.caption


def test_one_model_per_fold_is_mentioned_below_the_table() -> None:
    [table] = compare(
        [make_row(selected_on="validation", n_models=4), make_row(loss="untrained", selected_on="none", n_models=1)]
    )
    assert table.details == (
        "Model selection: best epoch on held-out training classes; hyper-parameters not tuned; each number is the mean over 4 "
        "models, one per fold, unless concatenated",
    )


def test_metrics_of_concatenated_embeddings_are_printed_if_all_rows_have_them() -> None:
    concatenated = {"concatenated_recall_at_1": 0.8, "concatenated_map_at_r": 0.6, "concatenated_r_precision": 0.7}
    [table] = compare([make_row(**concatenated), make_row(loss="triplet", **concatenated)])
    assert table.columns[-2:] == ("concatenated_recall_at_1", "concatenated_map_at_r")
    [table] = compare([make_row(**concatenated), make_row(loss="triplet")])
    assert not any(column.startswith("concatenated") for column in table.columns)


# --- other axes


def test_a_hyper_parameter_can_be_the_axis_together_with_columns_that_always_equal_it():
    rows = [
        make_row(0.3 + margin, loss="triplet", loss_make_margin=margin, loss_miner_margin=margin, seed=seed)
        for margin in (0.1, 0.05, 0.2)
        for seed in range(2)
    ]
    [table] = compare([*rows, make_row()], vary="loss.make.margin")
    assert [row.label for row in table.rows] == ["margin = 0.05", "margin = 0.1", "margin = 0.2"]
    assert "50 test classes; rows differ in loss.make.margin only; loss Triplet." in table.caption


def test_trunks_are_compared_for_one_loss_at_a_time():
    rows = [
        make_row(loss=loss, trunk=trunk, trunk_label=trunk.upper(), trunk_width=width)
        for loss in ("triplet", "arcface")
        for trunk, width in (("a", 1), ("b", 2))
    ]
    tables = compare(rows, vary="trunk")
    assert [[row.label for row in table.rows] for table in tables] == [["A", "B"]] * 2
    assert all("Trunk" not in table.caption for table in tables)


def test_a_field_of_the_protocol_can_be_the_axis():
    rows = [make_row(protocol_embedding_dim=dim) for dim in (512, 64, 128)]
    [table] = compare(rows, vary="protocol.embedding_dim")
    assert [row.label for row in table.rows] == [f"embedding_dim = {dim}" for dim in (64, 128, 512)]
    assert "-d embedding" not in table.caption


def test_rows_that_differ_in_more_than_the_axis_are_in_different_tables():
    rows = [make_row(protocol_embedding_dim=64), make_row(protocol_embedding_dim=128, protocol_lr=0.1)]
    assert len(compare(rows, vary="protocol.embedding_dim")) == 2


def tuned(loss: str, trials: int, margin: float, **columns):
    shared = {"tuning_trials": trials, "tuning_fold": 0, "fingerprint": f"{trials:016}"}
    return make_row(margin, loss=loss, loss_make_neg_margin=margin, **{**shared, **columns})


def test_tuning_budgets_are_compared_per_loss_whatever_hyper_parameters_they_found():
    found = {("triplet", 2): 0.3, ("triplet", 10): 0.4, ("arcface", 2): 0.2, ("arcface", 10): 0.6}
    rows = [tuned(loss, trials, margin, seed=seed) for (loss, trials), margin in found.items() for seed in range(2)]
    tables = compare([*rows, make_row()], vary="tuning.trials")
    assert {table.shared["loss"]: [(row.label, row.n) for row in table.rows] for table in tables} == {
        loss: [("trials = 2", 2), ("trials = 10", 2)] for loss in ("triplet", "arcface")
    }
    assert "rows differ in tuning.trials and in the hyper-parameters that each budget found; loss " in tables[0].caption


def test_two_searches_with_the_same_budget_are_distinguished_by_what_they_found():
    [table] = compare([tuned("triplet", 2, 0.3), tuned("triplet", 2, 0.4), tuned("triplet", 9, 0.5)], vary="tuning.trials")
    assert sorted(row.label for row in table.rows) == [
        "trials = 2 (loss_make_neg_margin=0.3)",
        "trials = 2 (loss_make_neg_margin=0.4)",
        "trials = 9",
    ]


def test_two_trunks_with_the_same_label_are_distinguished_by_the_columns_that_differ():
    rows = [make_row(trunk="a", trunk_label="A", trunk_width=width) for width in (1, 2)]
    [table] = compare(rows, vary="trunk")
    assert [row.label for row in table.rows] == ["A (trunk_width=1)", "A (trunk_width=2)"]


def test_captions_on_another_axis_name_the_loss_but_not_each_of_its_hyper_parameters():
    rows = [make_row(loss=loss, trunk=trunk, protocol_epochs=1) for loss in ("contrastive", "triplet") for trunk in ("a", "b")]
    rows = [Row({**row.columns, f"loss_make_of_{row['loss']}": 1}) for row in rows]
    tables = compare(rows, vary="trunk")
    assert [table.shared["loss"] for table in tables] == ["contrastive", "triplet"]
    assert differences_to_print(tables) == []
    assert "loss Contrastive" in tables[0].caption
    assert "quick (version 1): 1 epoch," in tables[0].caption


@pytest.mark.parametrize("column", ["dataset", "trunk", "preset"])
def test_a_name_that_its_label_does_not_distinguish_is_printed_as_a_difference(column):
    tables = compare(
        [make_row(**{column: "none"}), Row({k: v for k, v in make_row().columns.items() if k != column} | {column: "b"})]
    )
    assert differences_to_print(tables) == ([] if column == "preset" else [column])


def test_a_missing_preset_and_the_preset_none_are_printed_as_a_difference():
    assert differences_to_print(compare([make_row(), make_row(preset="none")])) == ["preset"]


# --- model selection


def test_model_selection_is_a_detail_if_all_methods_agree_and_a_column_otherwise():
    [table] = compare([make_row(), make_row(loss="triplet")])
    assert not table.selection_differs
    assert table.details == ("Model selection: last epoch; hyper-parameters not tuned",)
    [table] = compare([make_row(), make_row(loss="triplet", selected_on="validation")])
    assert table.selection_differs
    assert [row.selection for row in table.rows] == ["last epoch", "validation"]
    assert table.details == ("Selection: how the model of each row was selected; validation uses held-out training classes",)
    assert "| Method      | Selection  |" in render([table])


def test_the_untrained_trunk_needs_no_column_of_model_selection():
    [table] = compare([make_row(), make_row(loss="untrained", selected_on="none")])
    assert not table.selection_differs
    assert row_of(table, "Untrained trunk").selection == "not trained"


def test_the_model_selection_of_an_unfinished_run_is_unknown():
    tuned = {"tuning_trials": 20}
    unfinished = {name: value for name, value in make_row(loss="triplet", **tuned).columns.items() if name != "selected_on"}
    rows = [make_row(**tuned), Row({**unfinished, "status": "missing", "reason": "running"})]
    [table] = compare(rows)
    assert not table.selection_differs
    assert row_of(table, "Triplet").selection == ""
    assert table.details == (
        "Model selection: last epoch; hyper-parameters tuned with 20 trials on folds of the training classes",
    )


def test_a_method_whose_seeds_differ_in_model_selection_names_both():
    [table] = compare([make_row(), make_row(seed=1, selected_on="validation")])
    assert table.rows[0].selection == "last epoch, validation"
    assert not table.selection_differs
    assert "Model selection: last epoch or best epoch on held-out training classes; hyper-parameters not tuned" in table.details


def test_a_table_of_presets_distinguishes_tuned_and_untuned_methods():
    [table] = compare([make_row(), make_row(tuning_trials=20, method_digest="b" * 8)], vary="preset")
    assert sorted(row.selection for row in table.rows) == ["last epoch", "last epoch, tuned (20 trials)"]
    assert any(
        sentence.endswith("tuned: hyper-parameters from trials on folds of the training classes") for sentence in table.details
    )
