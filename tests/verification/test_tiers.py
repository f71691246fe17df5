"""The tiers that `dmlbench verify` reports, and how inconsistent rows are marked in tables and comparisons."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows_factory import make_row, make_study
from safetensors.numpy import load_file, save_file

from dmlbench.cli import run
from dmlbench.results.columns import run_id
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row, write_row
from dmlbench.runs.retrained import retrained
from dmlbench.system.regular_files import sha256
from dmlbench.tables.table import compare
from dmlbench.verification import Tier, Verdict, verify_row, verify_run
from dmlbench.verification.row_groups import with_group_findings


def change(file: Path, **columns: Any) -> None:
    """Replace columns of a row."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **columns}))


def verified(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    """Run `dmlbench verify --json`; return its status and its output."""
    capsys.readouterr()
    status = run(["verify", *argv, "--json"])
    return status, json.loads(capsys.readouterr().out)


def messages(found: dict[str, Any]) -> list[str]:
    return [finding["message"] for row in found["rows"] for finding in row["findings"]]


# --- what the issue found


def test_impossible_metrics_are_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [file, *_] = find_rows(runs / "photos" / "arcface")
    change(file, map_at_r=0.99, recall_at_1=0.9999)
    status, found = verified(capsys, str(runs))
    assert status == 1
    assert {"R@1 is above R@2", "MAP@R is above RP", "R@1 is above P@1"} <= set(messages(found))
    assert [row["consistent"] for row in found["rows"]].count(False) == 1


def test_another_protocol_under_the_old_fingerprint_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [file, *_] = find_rows(runs / "photos" / "arcface")
    fingerprint = read_row(file)["fingerprint"]
    change(file, protocol_epochs=800)
    status, found = verified(capsys, str(file.parent))
    assert status == 1
    assert messages(found)[0].startswith(f"fingerprint is '{fingerprint}', but the shared columns have the digest ")


# --- tiers


def test_every_row_has_a_tier_and_the_reason_why_it_did_not_reach_the_next(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", str(runs)]) == 0
    text = capsys.readouterr().out
    assert "consistent (its embeddings were not evaluated again):\n" in text
    assert "consistent (it has no results: failed):\n" in text
    n_rows = len(list(find_rows(runs)))
    assert f"{n_rows} rows: {n_rows} consistent" in text


def test_rows_of_all_kinds_are_rescored(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = verified(capsys, str(runs), "--tier", "rescored")
    assert status == 0
    others = {row["why_not_next"] for row in found["rows"] if row["tier"] != "rescored"}
    external = "its embeddings cannot be evaluated: a row of external embeddings needs --embeddings FILE"
    assert others == {external, "it has no results: failed"}


def test_what_only_the_embeddings_determine_is_refused_by_rescoring(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = find_rows(runs / "photos" / "arcface")
    change(one, nmi=0.9, ami=0.1)
    status, found = verified(capsys, str(one.parent), "--tier", "rescored")
    assert status == 1
    assert any("the embeddings give" in message for message in messages(found))
    shutil.copy(one.with_name("embeddings.safetensors"), other.with_name("embeddings.safetensors"))
    status, found = verified(capsys, str(other.parent), "--tier", "rescored")
    assert (status, messages(found)) == (1, ["embeddings.safetensors is not what the run wrote (embeddings_sha256)"])


@pytest.mark.parametrize(("dtype", "tier"), [("f4", "rescored"), ("f2", "rescored"), ("noise", "consistent")])
def test_downloaded_embeddings_rescore_a_row_within_the_tolerance_of_their_type(
    runs: Path, capsys: pytest.CaptureFixture[str], dtype: str, tier: str
) -> None:
    [external] = [file.parent for file in find_rows(runs) if read_row(file)["protocol"] == "external"]
    [plain, *_] = find_rows(runs / "photos" / "contrastive")
    tensors = load_file(next(runs.glob("photos/contrastive/*/evaluate-*")).parent / "embeddings.safetensors")
    rows = tensors["embeddings"]
    rows = np.random.default_rng(0).standard_normal(rows.shape).astype("f4") if dtype == "noise" else rows.astype(dtype)
    save_file({**tensors, "embeddings": rows}, "downloaded.safetensors")
    status, found = verified(capsys, str(external), "--tier", "rescored", "--embeddings", "downloaded.safetensors")
    assert status == 0  # a file that somebody else wrote does not make the row inconsistent
    assert [row["tier"] for row in found["rows"]] == [tier], found
    assert plain.exists()


def test_a_run_is_embedded_again_from_its_model_and_its_images(
    honest: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = find_rows(runs / "photos" / "arcface")
    options = ("--tier", "re-embedded", f"dataset.root={honest}/photos")
    status, found = verified(capsys, str(one.parent), *options)
    assert (status, [row["tier"] for row in found["rows"]]) == (0, ["re-embedded"])
    shutil.copy(other.with_name("model.pt"), one.with_name("model.pt"))
    status, found = verified(capsys, str(one.parent), *options)
    assert (status, messages(found)) == (1, ["model.pt is not what the run wrote (model_sha256)"])


def consistent(*rows: Row) -> list[Verdict]:
    return [Verdict(row, Tier.CONSISTENT) for row in rows]


def test_a_row_of_another_machine_within_the_interval_over_seeds_is_retrained() -> None:
    first = {"hostname": "alpha", "finished_at": "2026-01-01", "train_seconds": 50.0}
    here = [make_row(0.50 + 0.01 * seed, seed=seed, **first) for seed in range(3)]
    again = {"hostname": "beta", "finished_at": "2026-02-02", "train_seconds": 99.0}
    there, elsewhere = make_row(0.505, **again), make_row(0.7, seed=1, **again)
    found = retrained(consistent(*here, there, elsewhere))
    assert [verdict.tier for verdict in found] == [
        *(Tier.RETRAINED, Tier.CONSISTENT, Tier.CONSISTENT),
        *(Tier.RETRAINED, Tier.CONSISTENT),
    ]
    assert found[1].why_not_next.startswith("MAP@R differs from another machine's row by 0.1900, and the interval of 3 seeds")
    [one, two] = retrained(consistent(here[0], there))
    assert one.why_not_next == "MAP@R differs from another machine's row, and one seed gives no interval"
    assert [verdict.tier for verdict in retrained(consistent(here[0], make_row(0.5, **again)))] == [Tier.RETRAINED] * 2
    assert [verdict.tier for verdict in retrained(consistent(here[0], here[0]))] == [Tier.CONSISTENT] * 2
    assert two.tier is Tier.CONSISTENT


@pytest.mark.parametrize("same", ["hostname", "finished_at", "train_seconds"])
def test_a_copy_with_the_name_of_another_machine_is_not_retrained(same: str) -> None:
    here = {"hostname": "alpha", "finished_at": "2026-01-01", "train_seconds": 50.0}
    again = {"hostname": "beta", "finished_at": "2026-02-02", "train_seconds": 99.0}
    copy = make_row(0.5, **{**again, same: here[same]})
    assert [verdict.tier for verdict in retrained(consistent(make_row(0.5, **here), copy))] == [Tier.CONSISTENT] * 2


def test_a_baseline_is_measured_again_by_its_evaluation() -> None:
    rows = [
        make_row(0.5, loss="untrained", hostname=name, finished_at=day, train_seconds=0.0, evaluate_seconds=seconds)
        for name, day, seconds in (("alpha", "2026-01-01", 5.0), ("beta", "2026-01-02", 6.0))
    ]
    assert [verdict.tier for verdict in retrained(consistent(*rows))] == [Tier.RETRAINED] * 2


def with_seed(run_directory: Path, seed: int) -> Path:
    """Copy a run as that of another seed, with its run id computed again."""
    columns = {**json.loads((run_directory / "row.json").read_text()), "seed": seed}
    columns["run_id"] = run_id(columns["fingerprint"], columns["method_digest"], seed)
    copy = shutil.copytree(run_directory, run_directory.with_name(columns["run_id"]))
    (copy / "row.json").write_text(json.dumps(columns))
    return copy


def test_the_scores_of_one_seed_as_those_of_another_are_refused_in_any_form(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [file, *_] = find_rows(runs / "photos" / "arcface")
    copy = with_seed(file.parent, 7)
    arrays = load_file(copy / "per_query.safetensors")
    save_file({name: values[::-1].copy() for name, values in arrays.items()}, copy / "per_query.safetensors", {"x": "y"})
    digest = sha256(copy / "per_query.safetensors")
    change(copy / "row.json", per_query_sha256=digest, embeddings_sha256="0" * 64, model_sha256="1" * 64)
    assert verify_run(read_row(copy / "row.json")).findings == ()
    status, found = verified(capsys, str(file.parent), str(copy))
    assert (status, messages(found)) == (1, ["its scores are those of seed 7", "its scores are those of seed 0"])


def test_the_embeddings_or_the_model_of_another_seed_are_refused(runs: Path) -> None:
    rows = [read_row(file) for file in find_rows(runs / "photos" / "arcface")]
    same = Row({**rows[1].columns, "model_sha256": rows[0]["model_sha256"]}, rows[1].folder)
    assert [one.consistent for one in with_group_findings([verify_run(row) for row in rows])] == [True, True]
    assert [one.consistent for one in with_group_findings([verify_run(rows[0]), verify_run(same)])] == [False, False]


def test_baselines_and_perfect_rankings_may_have_equal_scores() -> None:
    for columns in ({"loss": "untrained"}, {"loss_kind": "none"}, {"map_at_r": 1.0}, {"n_tied_queries": 1200}):
        rows = [make_row(0.5, seed=seed, **columns) for seed in range(2)]
        found = with_group_findings([Verdict(row, Tier.CONSISTENT, scores="same") for row in rows])
        assert [one.consistent for one in found] == [True, True], columns


def test_a_gallery_with_training_images_that_were_not_saved_needs_the_images(
    honest: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [file, *_] = find_rows(runs / "photos" / "arcface")
    options = (f"dataset.root={honest}/photos",)
    assert run(["evaluate", str(file.parent), "--gallery", "full", "--clusters", "3", *options]) == 0
    [evaluation] = file.parent.glob("evaluate-*")
    status, found = verified(capsys, str(evaluation), "--tier", "rescored")
    assert (status, [row["tier"] for row in found["rows"]]) == (0, ["consistent"])
    assert "use --tier re-embedded" in found["rows"][0]["why_not_next"]
    status, found = verified(capsys, str(evaluation), "--tier", "re-embedded", *options)
    assert (status, [row["tier"] for row in found["rows"]]) == (0, ["re-embedded"])


@pytest.mark.parametrize("scale", ["of each embedding", "of all embeddings"])
def test_embeddings_of_a_run_in_eight_bits_are_scaled_to_unit_length(
    runs: Path, capsys: pytest.CaptureFixture[str], scale: str
) -> None:
    [plain, *_] = [file for file in find_rows(runs / "photos" / "untrained") if read_row(file).get("parent") is None]
    tensors = load_file(plain.with_name("embeddings.safetensors"))
    rows = tensors["embeddings"] * np.linspace(1, 9, len(tensors["labels"]))[:, None]  # as scales of embeddings do
    largest = abs(rows).max(1, keepdims=True) if scale == "of each embedding" else abs(rows).max()
    save_file({**tensors, "embeddings": np.rint(rows / largest * 127).astype("i1")}, "downloaded.safetensors")
    status, found = verified(capsys, str(plain.parent), "--tier", "rescored", "--embeddings", "downloaded.safetensors")
    assert (status, [row["tier"] for row in found["rows"]]) == (0, ["rescored"]), found


def test_rows_of_the_same_images_have_the_same_counts() -> None:
    rows = [make_row(seed=seed, n_images=100) for seed in range(2)]
    other = make_row(seed=2, n_images=101)
    verdicts = with_group_findings([verify_row(row, None) for row in (*rows, other)])
    assert [verdict.consistent for verdict in verdicts] == [True, True, False]
    assert verdicts[2].findings[0].message == "n_images is 101, but other rows of the same images have 100"
    verdicts = with_group_findings([verify_row(row, None) for row in (rows[0], other)])
    assert [verdict.consistent for verdict in verdicts] == [False, False]


# --- the command


def test_files_that_cannot_be_read_are_listed_and_give_status_1(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [file, *_] = find_rows(runs / "photos" / "arcface")
    file.write_text("{")
    assert run(["verify", str(runs)]) == 1
    assert f"UNREADABLE  {file}\n" in capsys.readouterr().out


def test_an_empty_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(tmp_path)]) == 2
    assert "there is no finished run below" in capsys.readouterr().err


def test_options_that_need_a_higher_tier_or_one_row_are_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(runs), "dataset.root=photos"]) == 2
    assert "only --tier re-embedded does" in capsys.readouterr().err
    assert run(["verify", str(runs), "--tier", "rescored", "--embeddings", "x.npz"]) == 2
    assert "--embeddings is for one row" in capsys.readouterr().err


# --- marks


def test_an_inconsistent_row_is_marked_and_never_bold() -> None:
    rows = make_study()
    fine = compare(rows, tested=False)[0]
    assert fine.bold["map_at_r"] == {"ArcFace"}
    forged = [Row({**row.columns, "map_at_r": 0.99}) if (row["loss"], row.seed) == ("contrastive", 1) else row for row in rows]
    [table] = compare(forged, tested=False)
    assert table.bold["map_at_r"] == {"ArcFace"}
    [marked] = [row for row in table.rows if row.inconsistent]
    assert marked.notes[0] == "inconsistent (see dmlbench verify): seed 1: MAP@R is above RP"
    assert "Methods with an inconsistent result are neither tested nor bold" in table.details


def test_a_table_marks_rows_whose_identity_was_changed() -> None:
    rows = [make_row(0.5, seed=seed) for seed in range(2)] + [make_row(0.6, loss="arcface", seed=seed) for seed in range(2)]
    rows[-1] = Row({**rows[-1].columns, "loss_samples_per_class": 16})
    rows[-2] = Row({**rows[-2].columns, "loss_samples_per_class": 16})
    [table] = compare(rows, tested=False)
    assert not table.bold
    assert [bool(row.inconsistent) for row in table.rows] == [False, True]


def test_a_comparison_says_which_method_is_inconsistent(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [file, *_] = find_rows(runs / "photos" / "arcface")
    row = read_row(file)
    change(file, map_at_r=float(row["r_precision"] or 0) * 0.9)  # possible, but not the mean of its scores
    run(["compare", "photos/arcface", str(next(iter(find_rows(runs / "photos" / "untrained"))).parent), "--runs", str(runs)])
    text = " ".join(capsys.readouterr().out.split())
    assert "A is inconsistent (see dmlbench verify): seed 0: MAP@R is " in text
    assert "B is inconsistent" not in text


def test_a_replaced_file_of_scores_is_refused_even_if_its_means_are_equal(runs: Path) -> None:
    [file, *_] = find_rows(runs / "photos" / "arcface")
    scores = file.with_name("per_query.safetensors")
    save_file(load_file(scores), scores, metadata={"other": "bytes"})
    [finding] = verify_run(read_row(file)).findings
    assert finding.message == "per_query.safetensors is not what the run wrote (per_query_sha256)"


def test_tables_over_learning_rates_leave_out_inconsistent_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rate in (0.1, 0.2):
        for loss in ("contrastive", "triplet"):
            row = make_row(0.5 + rate, loss=loss, loss_lr=rate, lr_from="method")
            write_row(tmp_path / loss / str(rate), row)
    change(tmp_path / "triplet" / "0.2" / "row.json", map_at_r=0.99)
    assert run(["table", "--by", "lr", str(tmp_path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Triplet at 0.2: no result for seed 0 (inconsistent (see dmlbench verify): seed 0: MAP@R is above RP)" in text
