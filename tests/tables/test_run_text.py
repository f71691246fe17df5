"""`dmlbench show`: one run in one screen, finished, failed, broken off or torn."""

from __future__ import annotations

import doctest
import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dmlbench.screen
import pytest
from rows_factory import make_row

import dmlbench.tables.formats.run_text
from dmlbench.cli import run
from dmlbench.errors import UserError
from dmlbench.results.find_runs import folders, one_folder
from dmlbench.results.row import Row
from dmlbench.results.row_files import write_row
from dmlbench.results.run_folder import read_folder
from dmlbench.tables.formats.run_text import as_text
from dmlbench.tables.formats.text import paragraph, plain, sparkline

NUMBERS = {
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
}


def made(place: Path, **columns: Any) -> Path:
    row = make_row(**{"score": 0.5, "loss": "triplet", "loss_make_margin": 0.2, "run_id": "aaaa-bbbb-0", **NUMBERS, **columns})
    folder = place / "digits" / str(row["loss"]) / str(row["run_id"])
    write_row(folder, row)
    return folder


def told(folder: Path) -> str:
    return " ".join(as_text(read_folder(folder)).split())


def write_history(folder: Path, *lines: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


# A finished run


@pytest.mark.parametrize(
    "said",
    [
        "Triplet on Digit pairs, seed 0: run aaaa-bbbb-0",
        "Chosen: last epoch, epoch 6",
        "data set digits: 1,200 images of 50 classes to train on, 1,200 queries, 50 test classes",
        "trunk convnet, no pretrained weights; width=32",
        "margin=0.2",
        "protocol quick (version 1); epochs=6",
        "weight_decay=0.0001",
        "sampler m_per_class; samples_per_class=${loss.samples_per_class}",
        "retrieval, % R@1 50.0 R@2 50.0 R@4 50.0 R@8 50.0 RP 50.0 MAP@R 50.0 P@1 50.0",
        "by class, % MAP@R 43.2",
        "clustering, % NMI 60.0 ± 1.2",
        "diagnostics Tied 0 Effective rank 31.9",
        "61.5 s of training, 777 images/s, 0.93 GiB (whole process), 249,440 parameters, resumed 2 times",
        "made on cpu, here",
        "versions torch 2.11.0, dmlbench 0.1.0",
        "row.json (",
    ],
)
def test_a_finished_run_tells(said: str, tmp_path: Path) -> None:
    assert said in told(made(tmp_path))


def test_it_is_one_screen_without_what_a_terminal_would_obey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    long = {f"protocol_field_{i}": "x" * 30 for i in range(60)}
    folder = made(Path(), loss_label="Own\x1b[31m\nname", **long)
    text = as_text(read_folder(folder))
    assert "Own?[31m?name on Digit pairs" in text
    assert len(text.splitlines()) <= 45
    assert max(map(len, text.splitlines())) <= 100


def test_training_is_a_line_of_bars_with_its_first_and_last_value(tmp_path: Path) -> None:
    folder = made(tmp_path)
    validated = [{"epoch": 0, "validation_map_at_r": 0.1}]
    validated += [{"epoch": i, "loss": 4.0 - i, "validation_map_at_r": score} for i, score in ((1, 0.3), (2, 0.45), (3, 0.2))]
    write_history(folder, *validated)
    text = told(folder)
    assert "loss █▅▁ 3 -> 1, epochs 1 to 3" in text
    assert "validation ▁▅█▃ 10.0 % -> 20.0 %, epochs 0 to 3; best 45.0 % at epoch 2" in text


def test_how_a_model_was_chosen_is_told_with_its_scores(tmp_path: Path) -> None:
    scores = {"selected_score": 0.44, "untrained_score": 0.1, "untrained_trunk_score": 0.2, "oracle_map_at_r": 0.5}
    text = told(made(tmp_path, selected_on="validation", selected_epoch=3, **scores))
    assert "Chosen: best on held-out training classes, epoch 3; its validation MAP@R 44.0 %; before training 10.0 %" in text
    assert "best on the test set, which chose nothing 50.0 %" in text


def test_a_run_of_several_folds_tells_of_each(tmp_path: Path) -> None:
    folder = made(tmp_path, fold0_map_at_r=0.4, fold1_map_at_r=0.5, concatenated_map_at_r=0.6, separated_map_at_r=0.5)
    for fold in (0, 1):
        write_history(folder / f"fold{fold}", {"epoch": 1, "loss": 2.0 + fold})
    text = told(folder)
    assert "joined, % MAP@R 60.0" in text
    assert "MAP@R by fold, % 40.0, 50.0" in text
    assert "fold1 loss ▁ 3, epoch 1" in text


def test_a_row_that_was_scored_again_names_its_parent(tmp_path: Path) -> None:
    text = told(made(tmp_path, parent="aaaa-bbbb-0", evaluation_whiten=16))
    assert "Scored again from run aaaa-bbbb-0" in text
    assert "evaluation whiten=16" in text


def test_what_is_odd_about_a_run_stands_at_its_top(tmp_path: Path) -> None:
    text = told(made(tmp_path, effective_rank=1.2, n_proxies=50, n_dead_proxies=3))
    assert "Mind: 3 of 50 proxies (seed 0) never moved Mind: the embedding is nearly one line" in text


def test_of_embeddings_from_elsewhere_nothing_is_claimed(tmp_path: Path) -> None:
    elsewhere = dict.fromkeys(("trunk_weights", "selected_on", "optimizer", "sampler"))
    text = told(made(tmp_path, protocol="external", **elsewhere))
    assert "Chosen: how, is not known here" in text
    assert "pretrained" not in text


# Others


def test_a_failed_run_tells_first_why(tmp_path: Path) -> None:
    failed = made(tmp_path, status="failed", reason="the loss is nan in epoch 2", **dict.fromkeys(NUMBERS))
    text = as_text(read_folder(failed))
    assert text.startswith("FAILED: the loss is nan in epoch 2\nTriplet on Digit pairs")
    assert "retrieval" not in text


def test_a_run_that_broke_off_tells_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "digits" / "triplet" / "aaaa-bbbb-0"
    write_history(folder, {"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0})
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"epoch": 3, "lo')  # torn
    (folder / "checkpoint.pt").write_bytes(b"never loaded")
    (folder / "error.txt").write_text(
        "Traceback (most recent call last):\n  ...\nOSError: [Errno 28] No space left on device\n"
    )
    (folder / "words.json").write_text('["loss=triplet", "seed=0"]')
    text = told(folder)
    assert "has no row: accident: OSError: [Errno 28] No space left on device" in text
    assert "Made of: loss=triplet seed=0" in text
    assert "It goes on from its checkpoint of 20" in text
    assert "loss █▁ 2 -> 1, epochs 1 to 2" in text


def test_a_run_that_has_not_ended_tells_of_its_plan(tmp_path: Path) -> None:
    write_row(tmp_path, make_row(status="missing", loss="triplet"), "plan.json")
    text = told(tmp_path)
    assert "has no row: not finished" in text
    assert "protocol quick (version 1); epochs=6" in text
    assert "retrieval" not in text


def test_a_run_that_another_process_is_at_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text("[]")
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "has no row: it is being run" in told(tmp_path)
        assert "begins it anew" not in told(tmp_path)


def test_without_a_checkpoint_it_is_said_that_the_run_begins_anew(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "error.txt").write_text("MemoryError\n")
    assert "There is no checkpoint: its command begins it anew." in told(folder)


@pytest.mark.parametrize("torn", ['{"schema_version": 1, "run', '{"schema_version": 99}', "[]"])
def test_a_row_that_cannot_be_read_is_named_and_the_rest_is_shown(torn: str, tmp_path: Path) -> None:
    folder = made(tmp_path)
    write_history(folder, {"epoch": 1, "loss": 2.0})
    (folder / "row.json").write_text(torn)
    text = told(folder)
    assert f"{folder / 'row.json'} is not a row of dmlbench" in text
    assert "loss ▁ 2, epoch 1" in text


def test_a_row_of_the_required_columns_alone_is_enough(tmp_path: Path) -> None:
    required = (
        "schema_version",
        "run_id",
        "fingerprint",
        "method_digest",
        "status",
        "dataset",
        "trunk",
        "loss",
        "seed",
        "protocol",
    )
    row = make_row()
    write_row(tmp_path, Row({name: row[name] for name in required}))
    assert "contrastive on digits, seed 0" in told(tmp_path)


# What a user types


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for run_id in ("aaaa-bbbb-0", "aaaa-bbbb-1", "aaaa-cccc-0"):
        made(Path("runs"), run_id=run_id)
    write_history(Path("runs/digits/arcface/aaaa-dddd-0"), {"epoch": 1, "loss": 2.0})
    return Path("runs")


@pytest.mark.parametrize(
    "word",
    ["aaaa-cccc-0", "aaaa-c", "triplet/aaaa-c", "runs/digits/triplet/aaaa-cccc-0/", "runs/digits/triplet/aaaa-cccc-0/row.json"],
)
def test_a_folder_a_row_or_the_beginning_of_an_id_names_a_run(word: str, runs: Path) -> None:
    assert one_folder(word, runs) == Path("runs/digits/triplet/aaaa-cccc-0")


def test_a_run_without_a_row_is_found_too(runs: Path) -> None:
    assert one_folder("arcface", runs) == Path("runs/digits/arcface/aaaa-dddd-0")


def test_folds_are_no_runs_of_their_own(runs: Path) -> None:
    write_history(Path("runs/digits/arcface/aaaa-dddd-0/fold0"), {"epoch": 1, "loss": 2.0})
    assert len(folders("runs", runs)) == 4


def test_several_runs_are_listed(runs: Path) -> None:
    with pytest.raises(UserError, match="aaaa-b names 2 runs; name one of them:\n  digits/triplet/aaaa-bbbb-0\n  digits"):
        one_folder("aaaa-b", runs)


def test_a_misspelt_run_is_answered_with_a_near_one(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "aaaa-ccc-0"]) == 2
    assert "aaaa-ccc-0 names no run under runs; did you mean 'aaaa-cccc-0'?" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "said"), [([], "needs one run, not 0"), (["a", "--fromat"], "does not know '--fromat'")])
def test_a_mistake_is_one_sentence(words: list[str], said: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_command_prints_it_and_loads_neither_torch_nor_hydra_nor_pandas(runs: Path) -> None:
    code = (
        "import sys; from dmlbench.cli import run; status = run(['show', 'aaaa-cccc-0']); "
        "sys.exit(status or any(name in sys.modules for name in ('torch', 'hydra', 'pandas', 'scipy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("Triplet on Digit pairs, seed 0: run aaaa-cccc-0\n")


# The screen


def test_the_examples_of_its_docstrings_hold() -> None:
    assert doctest.testmod(dmlbench.screen).failed == 0
    assert doctest.testmod(dmlbench.tables.formats.run_text).failed == 0


def test_bars_reach_from_the_least_to_the_greatest_and_many_are_thinned_out() -> None:
    assert sparkline([3, 3, 3]) == "▁▁▁"
    assert sparkline([0, float("nan"), 1]) == "▁!█"
    many = sparkline([*range(999), 2000])
    assert (len(many), many[0], many[-1]) == (40, "▁", "█")


def test_a_number_is_not_parted_from_its_sign() -> None:
    for width in range(80, 100):
        lines = paragraph("x" * width + " p = 0.05 -> 0.1")
        assert not any(line.startswith(("=", "->", "0.")) or line.endswith(("=", "->")) for line in lines)


def test_letters_of_every_language_stay() -> None:
    assert plain("Größe 大 \x07\u202e") == "Größe 大 ??"
