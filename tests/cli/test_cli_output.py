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
