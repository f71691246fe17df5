"""What every command prints: only printable text, and one sentence if a file or the output cannot be written."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from cli_helpers import Photos, on_photos, rows_below
from rows_factory import make_row

from dmlbench.cli import run
from dmlbench.results.row_files import write_row

ESCAPES = "A\x1bc\x9b31m\u202eB"


@pytest.fixture
def _rows() -> None:
    for number, label in enumerate((ESCAPES, "=1+1", "@SUM(A1)", "-x", "+1 more", "-0.5", "\tx")):
        write_row(Path(f"runs/digits/triplet/{number}"), make_row(loss="triplet", loss_make_number=number, loss_label=label))


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize(
    "argv",
    [
        *(("table", "--format", name) for name in ("markdown", "latex", "csv", "html")),
        ("table", "--explain", "--vary", "loss.make.number"),
        ("show", "runs/digits/triplet/0"),
        ("show", f"{ESCAPES}/x"),
        ("compare", "runs/digits/triplet/0", "runs/digits/triplet/1"),
        ("compare", "runs/digits/triplet/0", "runs/digits/triplet/1", "--format", "json"),
        ("list", ESCAPES),
        (ESCAPES,),
    ],
    ids=str,
)
def test_no_command_prints_control_characters(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    run(argv)
    text = "".join(capsys.readouterr())
    assert text
    assert not set(text) & set("\x1b\x9b\u202e")


@pytest.mark.usefixtures("_rows")
def test_texts_that_a_spreadsheet_would_compute_get_an_apostrophe_and_numbers_stay_numbers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["table", "--format", "csv"]) == 0
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    labels = set(frame["loss_label"])
    assert {"'=1+1", "'@SUM(A1)", "'-x", "'+1 more", "'\tx"} <= labels
    assert "-0.5" in labels  # a number, also as text
    assert frame["recall_at_1"].tolist() == [0.5] * 7


@pytest.mark.usefixtures("_rows")
def test_the_name_of_a_column_is_no_formula_either(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("runs/digits/triplet/0/row.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "=1+1": 1}))
    assert run(["table", "--format", "csv"]) == 0
    assert ",'=1+1," in capsys.readouterr().out.splitlines()[0]


def test_a_file_that_cannot_be_used_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dmlbench.cli import table

    def fail(arguments: object) -> int:
        Path("missing/file").touch()
        return 0

    monkeypatch.setattr(table, "main", fail)
    assert run(["table"]) == 1
    assert capsys.readouterr().err == "dmlbench: missing/file cannot be used: No such file or directory\n"


def test_a_full_disk_below_the_output_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "dmlbench", "list", "losses"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=dict(os.environ), check=False)
    assert (done.returncode, done.stderr) == (1, "dmlbench: the output cannot be used: No space left on device\n")


@pytest.mark.usefixtures("_rows")
def test_a_table_is_printed_in_every_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (0, 1):
        write_row(Path(f"runs/digits/arcface/{seed}"), make_row(loss="arcface", seed=seed, recall_at_1=0.5 + seed / 10))
    for encoding in ("ascii", "utf-8"):
        below = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", below)
            assert run(["table"]) == 0
        assert ("+/-" if encoding == "ascii" else "±") in below.buffer.getvalue().decode(encoding)


def test_a_closed_output_does_not_stop_a_command() -> None:
    command = f"'{sys.executable}' -m dmlbench list losses"
    done = subprocess.run(f"{command} >&-", shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(f"{command} 2>&-", shell=True, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    assert "triplet" in done.stdout


def test_training_continues_if_nobody_reads_its_output(
    photos: Photos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    argv = ["train", "loss=triplet", *on_photos(photos())]
    with open(writer, "w") as closed, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed)
        assert run(argv) == 0
    assert len(rows_below("runs")) == 1
    assert capsys.readouterr().err == ""


def test_training_continues_if_its_output_cannot_be_written(
    photos: Photos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", "loss=triplet", *on_photos(photos())]
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert run(argv) == 0
    assert len(rows_below("runs")) == 1
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith("dmlbench: standard output cannot be written: No space left on device")


def test_a_table_without_a_reader_ends_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed)
        assert run(["list", "losses"]) == 0
    assert capsys.readouterr().err == ""


def test_an_error_is_an_exit_status_also_if_nobody_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as closed, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", closed)
        assert run(["tabel"]) == 2
