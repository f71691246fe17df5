"""Selectors: how users name runs, and how runs are grouped by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rows_factory import make_row

from dmlbench.cli import run
from dmlbench.errors import UserError
from dmlbench.results import run_files
from dmlbench.results.find_runs import SeedGroup, one_folder, pair, run_directories, seed_groups, select
from dmlbench.results.row import Row
from dmlbench.results.row_files import write_row


def write_run(score: float, loss: str, seed: int, fingerprint: str, **columns: Any) -> Row:
    """Write a run below `runs`, and return its row."""
    row = make_row(score, loss=loss, seed=seed, fingerprint=fingerprint, **columns)
    folder = Path("runs") / str(row["dataset"]) / loss / f"{fingerprint}-{row['method_digest']}-{seed}"
    row = Row({**row.columns, "run_id": folder.name}, folder)
    write_row(folder, row)
    return row


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make runs of several losses, data sets and protocols below `runs`: of CosFace one, of the others two seeds each."""
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        for dataset, fingerprint in (("digits", "aaaa0000"), ("cub", "bbbb0000")):
            write_run(0.4 + 0.01 * seed, "triplet", seed, fingerprint, dataset=dataset)
            write_run(0.5 + 0.01 * seed, "arcface", seed, fingerprint, dataset=dataset)
        write_run(0.4 + 0.02 * seed, "triplet", seed, "cccc0000", protocol_epochs=20)
        write_run(0.4 + 0.03 * seed, "triplet_margin", seed, "aaaa0000")
    write_run(0.6, "cosface", 3, "eeee0000")
    return Path("runs")


def identity(group: SeedGroup) -> tuple[str, str, tuple[int, ...]]:
    return str(group.first["dataset"]), str(group.first["fingerprint"]), group.seeds


# --- groups of seeds


@pytest.mark.parametrize(
    "selector",
    ["digits/arcface", "runs/digits/arcface", "runs/digits/arc", "dig/arc", "digits/arcface/aaaa", "arcface/aaaa0000"],
)
def test_a_path_or_parts_of_it_or_their_first_characters_name_a_method_with_all_its_seeds(selector: str, runs: Path) -> None:
    [group] = seed_groups(selector, runs)
    assert identity(group) == ("digits", "aaaa0000", (0, 1))


def test_a_complete_name_takes_precedence_over_the_first_characters_of_another(runs: Path) -> None:
    assert {group.first["loss"] for group in seed_groups("triplet", runs)} == {"triplet"}
    assert {group.first["loss"] for group in seed_groups("triplet_", runs)} == {"triplet_margin"}


def test_the_name_of_a_group_selects_exactly_this_group(runs: Path) -> None:
    for group in seed_groups("triplet", runs):
        [found] = seed_groups(group.name, runs)
        assert identity(found) == identity(group)


def test_of_several_groups_the_only_comparable_pair_is_chosen(runs: Path) -> None:
    a, b = pair("digits/triplet", "digits/arcface", runs)
    assert identity(a)[:2] == identity(b)[:2] == ("digits", "aaaa0000")


def test_an_ambiguous_name_is_rejected_with_a_list_of_matches_and_their_differences(runs: Path) -> None:
    with pytest.raises(UserError) as error:
        pair("triplet", "arcface", runs)
    assert str(error.value).startswith("triplet names 3 kinds of runs; name one of them:")
    assert "digits/triplet/cccc0000-" in str(error.value)
    assert "protocol_epochs=20, seeds 0, 1" in str(error.value)


def test_the_listed_matches_are_all_different_and_hyper_parameters_come_first(runs: Path) -> None:
    for margin in (0.1, 0.3):
        many = {"protocol_epochs": 9, "protocol_lr": 0.5, "protocol_batch_size": 8, "protocol_image_px": 16}
        write_run(0.3 + margin, "triplet", 0, "dddd0000", loss_make_margin=margin, split_rule=None, **many)
    with pytest.raises(UserError) as error:
        pair("digits/triplet", "cub/arcface", runs)
    lines = str(error.value).splitlines()[1:]
    descriptions = [line.partition("  (")[2] for line in lines]
    assert len(set(descriptions)) == len(descriptions) == 4
    assert any("(Triplet, margin=0.1, " in line for line in lines)
    assert "None" not in str(error.value)


def test_a_directory_of_images_does_not_hide_the_runs_of_the_data_set_of_that_name(runs: Path) -> None:
    Path("digits/class_0").mkdir(parents=True)
    assert select("digits", runs) == [runs / "digits"]
    write_row(Path("digits/run"), make_row())
    assert select("digits", runs) == [Path("digits")]


def test_a_path_that_does_not_exist_is_named(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.csv does not exist; name a directory that contains runs"):
        run_directories(str(tmp_path / "missing.csv"), runs)


def test_a_method_is_not_compared_with_itself(runs: Path) -> None:
    with pytest.raises(UserError, match=r"digits/arcface and runs/digits/arcface are the same runs \(ArcFace, seeds 0, 1\)"):
        pair("digits/arcface", "runs/digits/arcface", runs)


def test_a_seed_that_exists_twice_with_different_results_is_refused(runs: Path) -> None:
    [row, *_] = seed_groups("digits/arcface", runs)[0].rows
    write_row(Path("runs/copy/arcface/again"), Row({**row.columns, "map_at_r": 0.1}))
    with pytest.raises(UserError, match="are the same run with different results; name one of them"):
        seed_groups("arcface", runs)


def test_evaluations_of_a_run_count_only_if_the_selector_names_them(runs: Path) -> None:
    [group] = seed_groups("digits/arcface", runs)
    for row in group.rows:
        assert row.folder is not None
        write_row(row.folder / "evaluate-1234", Row({**row.columns, "evaluation_whiten": 16, "parent": row["run_id"]}))
    assert [one.seeds for one in seed_groups("digits/arcface", runs)] == [(0, 1)]
    [evaluated] = seed_groups("digits/arcface/evaluate-1234", runs)
    assert evaluated.first["evaluation_whiten"] == 16


# --- one run


def run_id(seed: int) -> str:
    return f"aaaa0000-{make_row(loss='arcface', fingerprint='aaaa0000')['method_digest']}-{seed}"


@pytest.mark.parametrize("selector", ["{id}", "{start}", "cosface/{start}", "cosface", "{path}/", "{path}/row.json"])
def test_a_directory_a_row_or_the_first_characters_of_an_id_name_one_run(selector: str, runs: Path) -> None:
    [path] = (runs / "digits" / "cosface").iterdir()
    assert one_folder(selector.format(id=path.name, start=path.name[:11], path=path), runs) == path


def test_a_run_without_a_row_is_found(runs: Path) -> None:
    folder = runs / "digits" / "softtriple" / "dddd0000-abcd0000-0"
    folder.mkdir(parents=True)
    (folder / run_files.HISTORY).write_text('{"epoch": 1, "loss": 2.0}\n')
    assert one_folder("softtriple", runs) == folder
    with pytest.raises(UserError, match=r"has no row\.json because the run has not finished; see `dmlbench show"):
        seed_groups("softtriple", runs)


def test_directories_of_folds_are_part_of_their_run(runs: Path) -> None:
    before = len(run_directories("runs", runs))
    fold = runs / "digits" / "arcface" / run_id(0) / "fold0"
    fold.mkdir()
    (fold / run_files.HISTORY).write_text('{"epoch": 1, "loss": 2.0}\n')
    assert len(run_directories("runs", runs)) == before


def test_several_runs_are_listed(runs: Path) -> None:
    with pytest.raises(
        UserError, match=r"digits/arcface names 2 runs; name one of them:\n  digits/arcface/aaaa0000-\w+-0\n  dig"
    ):
        one_folder("digits/arcface", runs)


def test_an_existing_path_is_selected_unchanged(runs: Path) -> None:
    assert select("runs/cub", runs) == [Path("runs/cub")]
    assert len(select("cub", runs)) == 4


# --- errors on the command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "trplet", "arcface"], "trplet names no run below runs; did you mean 'triplet'?"),
        (["compare", "digits/triplet"], "dmlbench compare needs two methods, not 1"),
        (["compare", "digits/arcface", "cub/arcface", "--metrik", "nmi"], "does not know '--metrik'; did you mean '--metric'?"),
        (["compare", "digits/arcface", "cub/arcface", "--format", "jsn"], "--format jsn is not known; did you mean 'json'?"),
        (["compare", "digits/arcface", "cub/arcface", "--runs"], "--runs needs a value"),
        (["compare", "a", "b", "--runs", "nowhere"], "there is no run below nowhere"),
        (["compare", "/nowhere/at/all", "b"], "/nowhere/at/all does not exist"),
        (["show"], "dmlbench show needs one run, not 0"),
        (["show", "a", "--fromat"], "dmlbench show does not know '--fromat'"),
        (["show", "aaaa0000-b"], "aaaa0000-b names no run below runs"),
    ],
)
def test_an_error_is_one_sentence_with_exit_status_2(
    arguments: list[str], message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_misspelt_run_id_is_answered_with_a_similar_one(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    misspelt = run_id(0).replace("aaaa0000", "aaaa000")[:-2] + "x-0"
    assert run(["show", misspelt]) == 2
    assert f"{misspelt} names no run below runs; did you mean '{run_id(0)}'?" in capsys.readouterr().err
