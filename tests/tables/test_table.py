import doctest
import math
import random
import subprocess
import sys

import pytest
from rows_factory import make_row, make_study
from scipy import stats as scipy_stats

import dmlbench.tables.table
from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.tables.formats import render
from dmlbench.tables.table import ABSENT, ORDER, compare, differences, unsaid_differences


def line_of(table, label):
    (line,) = [line for line in table.lines if line.label == label]
    return line


def changed(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else f"{value or ''}x"


# --- alike or apart


def test_methods_and_seeds_stand_in_one_table():
    (table,) = compare(make_study())
    assert [line.label for line in table.lines] == ["Untrained trunk", "Contrastive", "Triplet", "ArcFace"]
    assert {line.seeds for line in table.lines} == {(0, 1, 2)}


def test_the_order_of_the_rows_changes_nothing():
    rows = [*make_study(), *make_study(protocol_epochs=9), make_row(0.9, device="cuda")]
    shuffled = random.Random(0).sample(rows, len(rows))
    assert compare(shuffled) == compare(rows)


@pytest.mark.parametrize("column", make_row().shared)
def test_a_changed_shared_column_splits_the_table_and_is_named(column):
    value = make_row()[column]
    tables = compare([*make_study(), *make_study(**{column: changed(value)})])
    assert len(tables) == 2
    assert set(map(len, (table.lines for table in tables))) == {4}
    assert {name: set(values) for name, values in differences(tables).items()} == {column: {value, changed(value)}}


def test_a_shared_column_that_some_rows_lack_splits_the_table_and_is_named():
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
def test_a_column_that_is_not_shared_leaves_the_table_whole(column):
    value = 3 if column == "seed" else "other"
    assert len(compare([make_row(), make_row(loss="triplet", **{column: value})])) == 1


def test_samples_per_class_of_the_method_may_differ_where_the_sampler_interpolates_it():
    rows = [make_row(loss_samples_per_class=4), make_row(loss="arcface", loss_samples_per_class=1)]
    assert len(compare(rows)) == 1


def test_one_table_differs_from_none():
    assert differences(compare(make_study())) == {}


def test_a_difference_that_follows_from_a_told_name_is_not_told_again():
    cub = {"dataset": "cub", "dataset_label": "CUB", "split_digest": "9"}
    apart = compare([make_row(), make_row(protocol="standard", protocol_lr=0.1, **cub)])
    assert "protocol_lr" in differences(apart)
    assert unsaid_differences(apart) == []
    assert unsaid_differences(compare([make_row(), make_row(protocol_lr=0.1)])) == ["protocol_lr"]


def test_tables_go_by_data_set_and_then_by_the_size_of_numbers():
    rows = [make_row(protocol_epochs=epochs, dataset=dataset) for dataset in "ba" for epochs in (12, 6, 100)]
    told = [(table.shared["dataset"], table.shared["protocol_epochs"]) for table in compare(rows)]
    assert told == [("a", 6), ("a", 12), ("a", 100), ("b", 6), ("b", 12), ("b", 100)]


# --- lines


def test_untrained_comes_first_then_the_seven_in_their_usual_order_then_others_by_name():
    losses = ["zeta", *reversed(ORDER), "alpha"]
    (table,) = compare([make_row(loss=loss) for loss in losses])
    assert [line.loss for line in table.lines] == [*ORDER, "alpha", "zeta"]


def test_two_variants_of_a_loss_are_two_lines_told_apart_by_what_differs():
    (table,) = compare([make_row(loss_make_neg_margin=margin) for margin in (0.5, 1.0)])
    assert [line.label for line in table.lines] == [
        "Contrastive (neg_margin=0.5)",
        "Contrastive (neg_margin=1.0)",
    ]


def test_a_miners_value_is_told_from_the_losss():
    (table,) = compare([make_row(loss_make_margin=1, loss_miner_margin=margin) for margin in (0.1, 0.2)])
    assert [line.label for line in table.lines] == [
        "Contrastive (miner_margin=0.1)",
        "Contrastive (miner_margin=0.2)",
    ]


def test_a_value_that_only_one_variant_has_is_told_there():
    (table,) = compare([make_row(), make_row(loss_miner_epsilon=0.1)])
    assert {line.label for line in table.lines} == {"Contrastive", "Contrastive (miner_epsilon=0.1)"}


def test_two_losses_of_one_label_are_told_apart_by_their_names():
    (table,) = compare([make_row(), make_row(loss="mine", loss_label="Contrastive")])
    assert [line.label for line in table.lines] == ["Contrastive (contrastive)", "Contrastive (mine)"]


def test_variants_that_no_column_tells_apart_are_told_apart_by_their_digests():
    (table,) = compare([make_row(loss="mine", method_digest=digit * 16) for digit in "ab"])
    assert [line.label for line in table.lines] == ["mine (digest aaaaaaaa)", "mine (digest bbbbbbbb)"]


# --- numbers


def test_a_cell_holds_the_mean_and_the_interval_over_seeds():
    scores = [0.41, 0.44, 0.42, 0.47]
    (table,) = compare([make_row(map_at_r=score, seed=seed) for seed, score in enumerate(scores)])
    cell = table.lines[0].cells["map_at_r"]
    low, high = scipy_stats.t.interval(0.95, 3, sum(scores) / 4, scipy_stats.sem(scores))
    assert (cell.mean - cell.half_width, cell.mean + cell.half_width) == pytest.approx((low, high))


def test_a_run_given_twice_counts_once():
    assert compare([*make_study(), *make_study()]) == compare(make_study())


def test_copies_of_a_run_that_disagree_are_counted_once_and_told():
    (table,) = compare([make_row(0.4, run_id="abc"), make_row(0.5, run_id="abc")])
    assert table.lines[0].n == 1
    assert table.notes == ("run abc is there twice with different numbers; only one of them counts",)


def test_a_failed_seed_leaves_the_whole_line_without_numbers_and_says_why():
    rows = [
        *make_study(),
        make_row(loss="triplet", seed=3, status="failed", reason="the loss is nan in epoch 2"),
    ]
    (table,) = compare(rows)
    line = line_of(table, "Triplet")
    assert (line.n, line.seeds) == (3, (0, 1, 2))
    assert set(line.cells.values()) == {None}
    assert line.notes == ("seed 3 failed: the loss is nan in epoch 2",)


def test_a_failed_row_that_carries_numbers_all_the_same_has_none_in_the_table():
    (table,) = compare([Row({**make_row(0.9).columns, "status": "failed", "reason": "collapsed"})])
    assert set(table.lines[0].cells.values()) == {None}


def test_seeds_that_failed_alike_share_a_note():
    rows = [make_row(seed=seed, status="failed", reason="collapsed") for seed in (0, 2)]
    (table,) = compare([*rows, make_row(seed=1, status="failed")])
    assert table.lines[0].notes == ("seeds 0, 2 failed: collapsed", "seed 1 failed: no reason given")
    assert "No run ended with numbers" in table.caption


def test_a_method_with_fewer_seeds_keeps_its_own_mean_and_n_and_names_what_it_lacks():
    rows = [row for row in make_study() if row["loss"] != "triplet"] + [make_row(0.31, loss="triplet", seed=1)]
    (table,) = compare(rows)
    line = line_of(table, "Triplet")
    assert (line.n, line.cells["map_at_r"].mean, line.cells["map_at_r"].half_width) == (1, 0.31, None)
    assert line.notes == ("lacks seeds 0, 2, which other methods have",)
    assert "over n seeds" in table.caption
    assert "one seed: no interval" in table.caption


@pytest.mark.parametrize("hole", [None, math.nan, "0.5", True, 17.5, -0.1, 10**400])
def test_a_hole_in_a_finished_row_is_a_missing_cell_with_a_note(hole):
    (table,) = compare([make_row(seed=0), make_row(seed=1, map_at_r=hole)])
    assert table.lines[0].cells["map_at_r"] is None
    assert table.lines[0].cells["r_precision"].mean == 0.5
    assert table.lines[0].notes == ("no MAP@R for seed 1",)


def test_the_best_is_sought_among_trained_methods_only():
    (table,) = compare([make_row(0.9, loss="untrained"), make_row(0.3), make_row(0.4, loss="triplet")])
    assert table.best("map_at_r") == 0.4


# --- columns


def test_recall_columns_go_by_k_and_precision_at_k_is_not_printed_unless_chosen():
    row = make_row(recall_at_10=0.5, recall_at_100=0.5)
    (table,) = compare([row])
    ks = [f"recall_at_{k}" for k in (1, 2, 4, 8, 10, 100)]
    assert table.columns == (*ks, "r_precision", "map_at_r")
    assert table.metrics == (*table.columns, "precision_at_1")
    (table,) = compare([row], metrics=["map_at_r", "precision_at_1"])
    assert table.columns == ("map_at_r", "precision_at_1")


def test_a_metric_that_not_all_rows_have_is_not_printed():
    bare = {name: value for name, value in make_row(loss="triplet").columns.items() if name != "recall_at_8"}
    (table,) = compare([make_row(), Row(bare)])
    assert "recall_at_8" not in table.columns
    assert line_of(table, "Triplet").cells["recall_at_8"] is None
    assert line_of(table, "Triplet").notes == ()


# --- what the reader is told


def test_a_method_below_the_untrained_trunk_is_marked():
    (table,) = compare([*make_study(), make_row(0.01, loss="cosface", seed=0)])
    assert "its mean MAP@R is below the untrained trunk's" in line_of(table, "CosFace").notes
    assert line_of(table, "Contrastive").notes == ()
    assert table.notes == ()


def test_an_untrained_trunk_that_nobody_beats_is_told():
    (table,) = compare([make_row(0.6, loss="untrained"), make_row(0.5, recall_at_1=0.7)])
    assert table.notes == ("no method is above the untrained trunk in R@2, R@4, R@8, RP, MAP@R",)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"device": "cuda"}, "different devices: cpu, cuda"),
        ({"n_queries": 1199}, "numbers of queries: 1199, 1200"),
        ({"torch_version": "2.0.0"}, "different versions of torch: 2.0.0, "),
    ],
)
def test_rows_that_should_agree_and_do_not_are_told(columns, words):
    (table,) = compare([make_row(), make_row(loss="triplet", **columns)])
    assert len(table.notes) == 1
    assert words in table.notes[0]


def test_the_caption_tells_data_trunk_protocol_selection_and_seeds():
    (table,) = compare(make_study())
    assert table.caption == (
        "Digit pairs: 1,200 queries, 50 test classes. Trunk ConvNet, without pretrained weights. "
        "Protocol quick (version 1): 6 epochs, batch 64, 64-d embedding, 32 px, adamw. Selected: last epoch, fixed protocol. "
        "Mean ± 95 % interval of the mean over 3 seeds, Student t. "
        "What is best was not tested: the scores of each query are not there."
    )


def test_the_caption_names_the_weights_and_says_that_one_seed_has_no_interval():
    weights = {"trunk_weights": "mobilenet.pth"}
    (table,) = compare([make_row(**weights), make_row(loss="untrained", selected_on="none", **weights)])
    assert "Selected: last epoch, fixed protocol." in table.caption
    assert "Trunk ConvNet, weights mobilenet.pth." in table.caption
    assert table.caption.endswith("One seed: no interval.")


def test_a_row_with_the_required_columns_only_still_makes_a_table():
    columns = {name: make_row()[name] for name in ("run_id", "method_digest")}
    names = dict.fromkeys(("fingerprint", "dataset", "trunk", "loss", "protocol"), "mine")
    row = Row({**columns, **names, "schema_version": 1, "status": "ok", "seed": 0, "map_at_r": 0.5})
    (table,) = compare([row])
    assert table.columns == ("map_at_r",)
    assert table.caption.startswith("mine. Trunk mine")


@pytest.mark.parametrize(
    "column",
    ["map_at_r", "n_queries", "train_seconds", "n_model_parameters", "protocol_epochs", "n_models", "effective_rank", "seed"],
)
def test_a_number_beyond_all_measure_is_no_accident(column):
    rows = [make_row(**{column: 10**400}), make_row(loss="triplet", **{column: -(10**400)})]
    assert "Triplet" in render(compare(rows))
    assert "epochs" in render(compare([make_row(protocol_epochs=10**400), make_row()], vary="protocol.epochs"))


def test_a_mean_that_rounding_took_over_its_range_is_a_number():
    assert make_row(nmi=1 + 1e-9).number("nmi") == 1 + 1e-9


# --- mistakes


def test_no_rows_is_a_mistake_that_says_how_to_make_some():
    with pytest.raises(UserError, match="dmlbench sweep"):
        compare([])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"vary": "los"}, "vary=los is no axis of a table; did you mean 'loss'?"),
        (
            {"vary": "dataset"},
            "vary=dataset is no axis of a table; known are loss, preset, trunk, sampler, optimizer, protocol "
            "and single values such as loss.make.alpha",
        ),
        (
            {"vary": "loss.make.neg_margn"},
            "vary=loss.make.neg_margn is no axis of a table; did you mean 'loss.make.neg_margin'?",
        ),
        ({"metrics": ["map_at_R"]}, "metrics=map_at_R: no row has this metric; did you mean 'map_at_r'?"),
    ],
)
def test_an_unknown_axis_or_metric_is_refused_with_a_near_name(arguments, sentence):
    with pytest.raises(UserError) as error:
        compare([make_row()], **arguments)
    assert str(error.value) == sentence


def test_the_paper_tower_imports_neither_torch_nor_hydra():
    program = "import sys, dmlbench.tables.table, dmlbench.tables.formats; print({'torch', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(dmlbench.tables.table).failed == 0


def recipes() -> list[Row]:
    """The same loss under the fixed protocol and under its paper's, two seeds each."""
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


def test_the_same_loss_under_the_fixed_protocol_and_its_papers_recipe_are_two_tables_unless_presets_are_varied() -> None:
    assert len(compare(recipes())) == 2
    [table] = compare(recipes(), vary="preset")
    assert [line.label for line in table.lines] == ["Contrastive, fixed protocol quick", "Contrastive, preset paper"]
    assert [line.n for line in table.lines] == [2, 2]
    assert [line.cells["map_at_r"].mean for line in table.lines] == pytest.approx([0.405, 0.605])  # type: ignore[union-attr]


def test_lines_of_presets_tell_every_field_in_which_they_differ_and_none_is_best() -> None:
    [table] = compare(recipes(), vary="preset")
    assert "Contrastive, preset paper: trunk=bn_inception, protocol_lr=0.1, optimizer=adam, neg_margin=0.7" in table.notes
    assert any(note.startswith("Contrastive, fixed protocol quick: ") and "protocol_lr=0.001" in note for note in table.notes)
    assert table.best("map_at_r") is None
    assert "Lines were not made alike" in table.caption
    assert not any("protocol_epochs" in note for note in table.notes)  # equal in both


def test_a_line_that_differs_in_nothing_has_no_note_of_what_it_differs_in() -> None:
    [table] = compare([make_row(), make_row(loss="triplet")], vary="preset")
    assert table.notes == ()


def test_two_data_sets_stay_two_tables_when_presets_are_varied() -> None:
    other = make_row(dataset="other", split_digest="9", preset="paper")
    assert len(compare([*recipes(), other], vary="preset")) == 2


def test_a_table_of_one_preset_says_so_in_its_caption() -> None:
    [table] = compare([make_row(preset="paper")])
    assert "preset paper" in table.caption


def test_what_the_oracle_claims_is_never_a_column_of_a_table() -> None:
    [table] = compare([make_row(oracle_map_at_r=0.9, oracle_epoch=3, selected_score=0.8)])
    assert not any("oracle" in name or "selected" in name for name in (*table.metrics, *table.columns))
    assert "oracle" not in table.caption


def test_a_model_a_fold_is_said_in_the_caption() -> None:
    [table] = compare(
        [make_row(selected_on="validation", n_models=4), make_row(loss="untrained", selected_on="none", n_models=1)]
    )
    assert "Selected: best on held-out training classes, fixed protocol; each number is the mean over 4 models" in table.caption


def test_joined_models_stand_in_columns_of_their_own_where_all_rows_have_them() -> None:
    joined = {"concatenated_recall_at_1": 0.8, "concatenated_map_at_r": 0.6, "concatenated_r_precision": 0.7}
    [table] = compare([make_row(**joined), make_row(loss="triplet", **joined)])
    assert table.columns[-2:] == ("concatenated_recall_at_1", "concatenated_map_at_r")
    [table] = compare([make_row(**joined), make_row(loss="triplet")])
    assert not any(column.startswith("concatenated") for column in table.columns)


# Other axes


def test_a_value_of_the_method_can_be_the_axis_and_what_follows_it_does_not_part_the_rows():
    rows = [
        make_row(0.3 + margin, loss="triplet", loss_make_margin=margin, loss_miner_margin=margin, seed=seed)
        for margin in (0.1, 0.05, 0.2)
        for seed in range(2)
    ]
    [table] = compare([*rows, make_row()], vary="loss.make.margin")
    assert [line.label for line in table.lines] == ["margin = 0.05", "margin = 0.1", "margin = 0.2"]
    assert "Lines differ in loss.make.margin alone; loss Triplet" in table.caption


def test_trunks_are_set_side_by_side_for_one_loss_at_a_time():
    rows = [
        make_row(loss=loss, trunk=trunk, trunk_label=trunk.upper(), trunk_width=width)
        for loss in ("triplet", "arcface")
        for trunk, width in (("a", 1), ("b", 2))
    ]
    tables = compare(rows, vary="trunk")
    assert [[line.label for line in table.lines] for table in tables] == [["A", "B"]] * 2
    assert all("Trunk" not in table.caption for table in tables)


def test_a_value_of_the_protocol_can_be_the_axis():
    rows = [make_row(protocol_embedding_dim=dim) for dim in (512, 64, 128)]
    [table] = compare(rows, vary="protocol.embedding_dim")
    assert [line.label for line in table.lines] == [f"embedding_dim = {dim}" for dim in (64, 128, 512)]
    assert "-d embedding" not in table.caption


def test_rows_that_differ_in_more_than_the_axis_stay_apart():
    rows = [make_row(protocol_embedding_dim=64), make_row(protocol_embedding_dim=128, protocol_lr=0.1)]
    assert len(compare(rows, vary="protocol.embedding_dim")) == 2


def tuned(loss: str, trials: int, margin: float, **columns):
    shared = {"tuning_trials": trials, "tuning_fold": 0, "fingerprint": f"{trials:016}"}
    return make_row(margin, loss=loss, loss_make_neg_margin=margin, **{**shared, **columns})


def test_budgets_of_tuning_are_set_side_by_side_for_each_loss_whatever_values_they_found():
    found = {("triplet", 2): 0.3, ("triplet", 10): 0.4, ("arcface", 2): 0.2, ("arcface", 10): 0.6}
    rows = [tuned(loss, trials, margin, seed=seed) for (loss, trials), margin in found.items() for seed in range(2)]
    tables = compare([*rows, make_row()], vary="tuning.trials")
    assert {table.shared["loss"]: [(line.label, line.n) for line in table.lines] for table in tables} == {
        loss: [("trials = 2", 2), ("trials = 10", 2)] for loss in ("triplet", "arcface")
    }
    assert "Lines differ in tuning.trials and in the method's values that each found; loss " in tables[0].caption


def test_two_searches_of_one_budget_are_told_apart_by_what_they_found():
    [table] = compare([tuned("triplet", 2, 0.3), tuned("triplet", 2, 0.4), tuned("triplet", 9, 0.5)], vary="tuning.trials")
    assert sorted(line.label for line in table.lines) == [
        "trials = 2 (loss_make_neg_margin=0.3)",
        "trials = 2 (loss_make_neg_margin=0.4)",
        "trials = 9",
    ]


def test_two_trunks_of_one_name_are_told_apart_by_what_differs():
    rows = [make_row(trunk="a", trunk_label="A", trunk_width=width) for width in (1, 2)]
    [table] = compare(rows, vary="trunk")
    assert [line.label for line in table.lines] == ["A (trunk_width=1)", "A (trunk_width=2)"]


def test_tables_of_several_losses_on_another_axis_name_the_loss_and_not_each_of_its_values():
    rows = [make_row(loss=loss, trunk=trunk, protocol_epochs=1) for loss in ("contrastive", "triplet") for trunk in ("a", "b")]
    rows = [Row({**row.columns, f"loss_make_of_{row['loss']}": 1}) for row in rows]
    tables = compare(rows, vary="trunk")
    assert [table.shared["loss"] for table in tables] == ["contrastive", "triplet"]
    assert unsaid_differences(tables) == []
    assert "loss Contrastive" in tables[0].caption
    assert "quick (version 1): 1 epoch," in tables[0].caption


@pytest.mark.parametrize("column", ["dataset", "trunk", "preset"])
def test_a_name_that_its_label_does_not_tell_apart_is_told_itself(column):
    tables = compare(
        [make_row(**{column: "none"}), Row({k: v for k, v in make_row().columns.items() if k != column} | {column: "b"})]
    )
    assert unsaid_differences(tables) == ([] if column == "preset" else [column])


def test_no_preset_and_none_look_alike_in_a_caption_so_the_column_is_told():
    assert unsaid_differences(compare([make_row(), make_row(preset="none")])) == ["preset"]


# How chosen


def test_how_models_were_chosen_is_the_captions_where_all_lines_agree_and_a_columns_where_not():
    [table] = compare([make_row(), make_row(loss="triplet")])
    assert not table.chosen_apart
    assert "Selected: last epoch, fixed protocol." in table.caption
    [table] = compare([make_row(), make_row(loss="triplet", selected_on="validation")])
    assert table.chosen_apart
    assert [line.chosen for line in table.lines] == ["last epoch", "validation"]
    assert "Chosen: how the model of each line was; validation is on held-out training classes" in table.caption


def test_the_untrained_trunk_chose_nothing_and_makes_no_column_of_its_own():
    [table] = compare([make_row(), make_row(loss="untrained", selected_on="none")])
    assert not table.chosen_apart
    assert line_of(table, "Untrained trunk").chosen == "nothing trained"


def test_a_run_that_has_not_ended_does_not_tell_how_its_model_was_chosen():
    unfinished = {name: value for name, value in make_row(loss="triplet").columns.items() if name != "selected_on"}
    tuned = {"tuning_trials": 20}
    rows = [make_row(**tuned), Row({**unfinished, **tuned, "status": "missing", "reason": "it is being run"})]
    [table] = compare(rows)
    assert not table.chosen_apart
    assert line_of(table, "Triplet").chosen == ""
    assert "Selected: last epoch, fixed protocol; method values tuned with 20 trials each" in table.caption


def test_a_line_whose_seeds_were_chosen_otherwise_names_both_ways():
    [table] = compare([make_row(), make_row(seed=1, selected_on="validation")])
    assert table.lines[0].chosen == "last epoch, validation"
    assert not table.chosen_apart
    assert "Selected: last epoch or best on held-out training classes" in table.caption


def test_tuned_and_fixed_recipes_are_told_apart_in_a_table_of_presets():
    [table] = compare([make_row(), make_row(tuning_trials=20, method_digest="b" * 8)], vary="preset")
    assert sorted(line.chosen for line in table.lines) == ["last epoch", "last epoch, tuned (20 trials)"]
    assert "tuned: the method's values, by so many trials on folds of the training classes" in table.caption
