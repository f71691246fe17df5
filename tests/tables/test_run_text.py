"""`dmlbench show`: one run as one screen of text, whether it is finished, failed, interrupted or corrupt."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rows_factory import make_row

from dmlbench.results.columns import REQUIRED
from dmlbench.results.row import Row
from dmlbench.results.row_files import write_row
from dmlbench.results.run_folder import read_folder
from dmlbench.tables.formats.run_text import as_text

RESULTS = {
    "macro_map_at_r": 0.4321,
    "nmi": 0.6,
    "nmi_std": 0.012,
    "tied_share": 0.0,
    "effective_rank": 31.89,
    "selected_epoch": 6,
    "n_train_images": 1200,
    "n_train_classes": 50,
    "train_seconds": 61.5,
    "images_per_second": 777.1,
    "memory_gib": 0.93,
    "n_model_parameters": 249_440,
    "n_resumed": 2,
    "hostname": "here",
    "dmlbench_version": "0.1.0",
    "overrides": '["loss=triplet", "protocol.lr=0.001"]',
    "config_files": '{"loss/triplet": "0123456789abcdef"}',
}


def write_run(runs: Path, **columns: Any) -> Path:
    """Write a finished run, and return its directory."""
    row = make_row(**{"score": 0.5, "loss": "triplet", "loss_make_margin": 0.2, "run_id": "aaaa-bbbb-0", **RESULTS, **columns})
    folder = runs / "digits" / str(row["loss"]) / str(row["run_id"])
    write_row(folder, row)
    return folder


def unwrapped(folder: Path) -> str:
    """Return the text of a run on one line."""
    return " ".join(as_text(read_folder(folder)).split())


def write_history(folder: Path, *epochs: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))


# --- finished runs


def test_the_text_of_a_finished_run_contains_results_configuration_costs_and_files(tmp_path: Path) -> None:
    text = unwrapped(write_run(tmp_path))
    for part in (
        "Triplet on Digit pairs, seed 0: run aaaa-bbbb-0",
        "Model selection: last epoch, epoch 6",
        "data set digits: 1,200 training images, 50 training classes, 1,200 queries, 50 test classes",
        "trunk convnet, no pretrained weights; width=32",
        "margin=0.2",
        "protocol quick (version 1); epochs=6",
        "weight_decay=0.0001",
        "sampler m_per_class; samples_per_class=4",
        "overrides loss=triplet, protocol.lr=0.001",
        "config loss/triplet 01234567",
        "retrieval, % R@1 50.0 R@2 50.0 R@4 50.0 R@8 50.0 RP 50.0 MAP@R 50.0 P@1 50.0",
        "macro average, % MAP@R 43.2",
        "clustering, % NMI 60.0 (std 1.2)",
        "diagnostics Tied 0 Effective rank 31.9",
        "cost Train 61.5 s, Images/s 777, Mem. 0.93 GiB, Model parameters 0.249 M, resumed 2 times",
        "hardware cpu, here",
        "versions torch 2.11.0, dmlbench 0.1.0",
        "row.json (",
    ):
        assert part in text, part


def test_the_text_is_one_screen_without_control_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    many = {f"protocol_field_{i}": "x" * 30 for i in range(60)}
    text = as_text(read_folder(write_run(Path(), loss_label="Own\x1b[31m\nname", **many)))
    assert "Own?[31m?name on Digit pairs" in text
    assert len(text.splitlines()) <= 45
    assert max(map(len, text.splitlines())) <= 100


def test_training_is_a_line_of_bars_with_the_first_and_last_value(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    epochs = [{"epoch": 0, "validation_map_at_r": 0.1}]
    epochs += [{"epoch": i, "loss": 4.0 - i, "validation_map_at_r": score} for i, score in ((1, 0.3), (2, 0.45), (3, 0.2))]
    write_history(folder, *epochs)
    text = unwrapped(folder)
    assert "loss █▅▁ 3 -> 1, epochs 1 to 3" in text
    assert "validation ▁▅█▃ 10.0 % -> 20.0 %, epochs 0 to 3; best 45.0 % at epoch 2" in text


def test_model_selection_is_printed_with_its_scores(tmp_path: Path) -> None:
    scores = {"selected_score": 0.44, "untrained_score": 0.1, "untrained_trunk_score": 0.2, "oracle_map_at_r": 0.5}
    text = unwrapped(write_run(tmp_path, selected_on="validation", selected_epoch=3, **scores))
    assert (
        "Model selection: best epoch on held-out training classes, epoch 3; validation MAP@R 44.0 %; "
        "validation MAP@R before training 10.0 %; untrained trunk 20.0 %; oracle 50.0 %"
    ) in text


def test_a_run_with_several_folds_lists_each(tmp_path: Path) -> None:
    folder = write_run(tmp_path, fold0_map_at_r=0.4, fold1_map_at_r=0.5, concatenated_map_at_r=0.6, separated_map_at_r=0.5)
    for fold in (0, 1):
        write_history(folder / f"fold{fold}", {"epoch": 1, "loss": 2.0 + fold})
    text = unwrapped(folder)
    assert "concatenated, % MAP@R 60.0" in text
    assert "MAP@R by fold, % 40.0, 50.0" in text
    assert "fold1 loss ▁ 3, epoch 1" in text


def test_an_evaluation_of_a_run_names_the_run(tmp_path: Path) -> None:
    text = unwrapped(write_run(tmp_path, parent="aaaa-bbbb-0", evaluation_whiten=16))
    assert "Evaluation of run aaaa-bbbb-0 with other settings" in text
    assert "evaluation whiten=16" in text


def test_warnings_are_printed_at_the_top(tmp_path: Path) -> None:
    text = unwrapped(write_run(tmp_path, effective_rank=1.2, n_proxies=50, n_dead_proxies=3))
    assert "Warning: 3 of 50 proxies (seed 0) did not move during training" in text
    assert "Warning: the embedding is nearly one-dimensional: effective rank 1.2 (seed 0)" in text


def test_nothing_is_claimed_about_the_training_of_external_embeddings(tmp_path: Path) -> None:
    unknown = dict.fromkeys(("trunk_weights", "selected_on", "optimizer", "sampler"))
    text = unwrapped(write_run(tmp_path, protocol="external", **unknown))
    assert "Model selection: unknown" in text
    assert "pretrained" not in text


@pytest.mark.parametrize("value", [10**290, -1, "0.5", True, None])
def test_an_impossible_score_is_printed_as_missing(value: object, tmp_path: Path) -> None:
    assert "R@1 -- R@2 50.0" in unwrapped(write_run(tmp_path, recall_at_1=value))


# --- runs without results


def test_a_failed_run_starts_with_the_reason(tmp_path: Path) -> None:
    failed = write_run(tmp_path, status="failed", reason="the loss is nan in epoch 2", **dict.fromkeys(RESULTS))
    text = as_text(read_folder(failed))
    assert text.startswith("FAILED: the loss is nan in epoch 2\nTriplet on Digit pairs")
    assert "retrieval" not in text


@pytest.mark.parametrize("name", ["overrides.json", "words.json"])
def test_a_crashed_run_shows_error_overrides_checkpoint_and_history(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "digits" / "triplet" / "aaaa-bbbb-0"
    write_history(folder, {"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0})
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"epoch": 3, "lo')  # an incomplete line
    (folder / "checkpoint.pt").write_bytes(b"never loaded")
    (folder / "error.txt").write_text(
        "Traceback (most recent call last):\n  ...\nOSError: [Errno 28] No space left on device\n"
    )
    (folder / name).write_text('["loss=triplet", "seed=0"]')
    text = unwrapped(folder)
    assert "has no row: crashed: OSError: [Errno 28] No space left on device." in text
    assert "Overrides: loss=triplet seed=0" in text
    assert "Run its command again to resume from the checkpoint of 20" in text
    assert "loss █▁ 2 -> 1, epochs 1 to 2" in text


def test_an_unfinished_run_shows_its_configuration(tmp_path: Path) -> None:
    write_row(tmp_path, make_row(status="missing", loss="triplet"), "plan.json")
    text = unwrapped(tmp_path)
    assert "has no row: not finished" in text
    assert "protocol quick (version 1); epochs=6" in text
    assert "retrieval" not in text


def test_an_unfinished_run_whose_data_were_not_read_shows_the_name_of_its_data_set_only(tmp_path: Path) -> None:
    unread = {"split_digest": "", "split_seed": None, "n_queries": None, "n_test_classes": None}
    write_row(tmp_path, make_row(status="missing", **unread), "plan.json")
    assert "data set digits trunk convnet" in unwrapped(tmp_path)


def test_a_run_that_another_process_executes_is_running(tmp_path: Path) -> None:
    (tmp_path / "overrides.json").write_text("[]")
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "has no row: running." in unwrapped(tmp_path)
        assert "from the beginning" not in unwrapped(tmp_path)


def test_without_a_checkpoint_the_run_will_start_from_the_beginning(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "error.txt").write_text("MemoryError\n")
    assert "Run the same command again; training starts from epoch 1." in unwrapped(folder)


@pytest.mark.parametrize("text", ['{"schema_version": 1, "run', '{"schema_version": 99}', "[]"])
def test_a_row_that_cannot_be_read_is_named_and_the_rest_is_shown(text: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    write_history(folder, {"epoch": 1, "loss": 2.0})
    (folder / "row.json").write_text(text)
    shown = unwrapped(folder)
    assert f"{folder / 'row.json'} is not a row of dmlbench" in shown
    assert "loss ▁ 2, epoch 1" in shown


def test_a_row_with_only_the_required_columns_is_shown(tmp_path: Path) -> None:
    write_row(tmp_path, Row({name: make_row()[name] for name in REQUIRED}))
    assert "contrastive on digits, seed 0" in unwrapped(tmp_path)


# --- the command


def test_the_command_imports_neither_torch_nor_hydra_nor_pandas(tmp_path: Path) -> None:
    write_run(tmp_path / "runs")
    code = (
        "import sys; from dmlbench.cli import run; status = run(['show', 'aaaa-bbbb-0']); "
        "sys.exit(status or any(name in sys.modules for name in ('torch', 'hydra', 'pandas', 'scipy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("Triplet on Digit pairs, seed 0: run aaaa-bbbb-0\n")


def test_a_value_that_refers_to_the_method_is_shown_with_the_value_of_the_method(tmp_path: Path) -> None:
    reference = {"sampler_samples_per_class": "${loss.samples_per_class}", "loss_samples_per_class": 4}
    write_row(tmp_path, make_row(0.5, **reference))
    text = as_text(read_folder(tmp_path))
    assert "samples_per_class=4" in text
    assert "${" not in text
