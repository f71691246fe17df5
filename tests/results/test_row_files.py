"""Rows read from a folder in any state: what is torn or foreign is left out and said, what has not ended is shown."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dmlbench.cli.training import _write_tables
from rows_factory import METRICS, make_row

from dmlbench.cli import run
from dmlbench.results import run_files
from dmlbench.results.columns import SCHEMA_VERSION
from dmlbench.results.row import MISSING, Row
from dmlbench.results.row_files import read_rows, write_row
from dmlbench.tables.formats import FORMATS, render
from dmlbench.tables.table import compare

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `runs` with one good row, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_row(tmp_path / "runs" / "digits" / "contrastive" / "good", make_row())
    return tmp_path / "runs"


def begun(folder: Path, score: float = 0.5, **columns: Any) -> Path:
    """A run that has begun: its plan is there, its row is not."""
    columns = dict(make_row(score, **columns).columns)
    write_row(folder, Row({name: value for name, value in columns.items() if name not in METRICS}), run_files.PENDING_ROW)
    return folder


# --- bad input


def test_a_character_of_two_halves_is_read(runs: Path) -> None:
    (runs / "pair").mkdir()
    (runs / "pair" / "row.json").write_text(json.dumps({**make_row(seed=1).columns, "loss_label": "\U0001f426"}))
    assert {row["loss_label"] for row in read_rows(runs)[0]} == {"Contrastive", "\U0001f426"}


def torn(file: Path) -> None:
    file.write_text('{"schema_version": 1, "run')


def newer(file: Path) -> None:
    file.write_text(json.dumps({**make_row().columns, "schema_version": SCHEMA_VERSION + 1}))


def foreign(file: Path) -> None:
    file.write_text('{"rows": [1, 2, 3]}')


def binary(file: Path) -> None:
    file.write_bytes(bytes(range(256)))


def deep(file: Path) -> None:
    file.write_text("[" * 100_000)


def half_a_character(file: Path) -> None:
    file.write_text(json.dumps({**make_row().columns, "loss_label": "a\ud800b"}))


def half_a_character_in_capitals(file: Path) -> None:
    file.write_text(json.dumps({**make_row().columns, "note": "a\udc00"}).replace("udc00", "uDC00"))


def dangling(file: Path) -> None:
    file.symlink_to("nowhere.json")


def circular(file: Path) -> None:
    file.symlink_to(file.name)


def a_folder(file: Path) -> None:
    (file / "more").mkdir(parents=True)


def a_pipe(file: Path) -> None:
    os.mkfifo(file)  # opening it would wait for ever


BAD = {
    torn: "Unterminated string",
    newer: f"schema {SCHEMA_VERSION + 1} was written by a newer dmlbench",
    foreign: "a row needs the column 'schema_version'",
    binary: "can't decode byte",
    deep: "no JSON that a row could be",
    half_a_character: "its text is no Unicode",
    half_a_character_in_capitals: "its text is no Unicode",
    dangling: "a link to nothing",
    circular: "symbolic links",
    a_folder: "it is a folder",
    a_pipe: "no regular file",
}


@pytest.mark.parametrize(("make", "why"), BAD.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_what_is_no_row_is_left_out_with_a_sentence_and_the_table_comes_all_the_same(
    runs: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], None], why: str
) -> None:
    (runs / "digits" / "bad").mkdir()
    make(runs / "digits" / "bad" / "row.json")
    assert run(["table"]) == 0
    output = capsys.readouterr()
    assert output.err.startswith("dmlbench: left out: runs/digits/bad/row.json: ")
    assert why in output.err
    assert output.err.count("\n") == 1
    assert "| Contrastive" in output.out


@pytest.fixture
def place_of_nobody() -> Iterator[Path]:
    """A folder of a user who may not read everything, as the superuser may; the test is that user."""
    nobody = 65534
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, nobody, -1)
        os.seteuid(nobody)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def test_what_may_not_be_read_is_left_out(place_of_nobody: Path) -> None:
    write_row(place_of_nobody / "good", make_row())
    write_row(place_of_nobody / "secret", make_row(seed=1)).chmod(0)
    (place_of_nobody / "closed").mkdir(mode=0)
    rows, refused = read_rows(place_of_nobody)
    (place_of_nobody / "closed").chmod(0o700)
    assert len(rows) == 1
    assert [(Path(path).name, reason) for path, reason in refused] == [
        ("closed", "Permission denied"),
        ("row.json", "Permission denied"),
    ]


def test_folders_and_links_of_others_are_passed_over_without_a_word(runs: Path) -> None:
    (runs / "theirs" / "deep" / "down").mkdir(parents=True)
    (runs / "theirs" / "data.json").write_text("{")
    (runs / "circle").symlink_to(runs)
    (runs / "gone").symlink_to(runs / "nowhere")
    (runs / ".row.json.123.tmp").write_text("{")
    rows, refused = read_rows(runs)
    assert (len(rows), refused) == (1, [])


def test_of_many_bad_files_five_are_named_and_the_rest_are_counted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        (runs / f"{number:02}").mkdir()
        torn(runs / f"{number:02}" / "row.json")
    assert run(["table"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[2].strip() for line in said[:5]] == [f"runs/{number:02}/row.json" for number in range(5)]
    assert said[5:] == ["dmlbench: left out: 7 more"]


def test_where_no_row_is_left_the_status_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    torn(Path("runs/row.json"))
    assert run(["table"]) == 2
    left_out, sentence = capsys.readouterr().err.splitlines()
    assert "left out: runs/row.json" in left_out
    assert "there is no finished run" in sentence


@pytest.mark.parametrize("make", [torn, newer, foreign, binary, deep])
def test_a_bad_file_that_is_named_is_a_mistake(
    runs: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], None]
) -> None:
    make(runs / "row.json")
    assert run(["table", "runs", "runs/row.json"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dmlbench: runs/row.json is not a row of dmlbench: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["vary=trnk"], "vary=trnk is no axis of a table; did you mean 'trunk'?"),
        (["vary=loss.make.nothing"], "vary=loss.make.nothing is no axis of a table"),
        (["empty"], "there is no finished run to make a table of"),
        (["nowhere"], "nowhere does not exist"),
    ],
)
def test_an_axis_or_rows_that_are_not_there_are_one_sentence(
    runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    (runs.parent / "empty").mkdir()
    assert run(["table", *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_sweeps_own_table_leaves_out_what_is_no_row_and_shows_what_is_missing(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = runs / "digits" / "contrastive" / "good"
    (good / "fold0").mkdir()
    torn(good / "fold0" / "row.json")
    _write_tables([good, begun(runs / "digits" / "triplet" / "broken", loss="triplet")])
    output = capsys.readouterr()
    assert "seed 0 missing: not finished" in output.out
    assert "rows      1, each a row.json" in output.out
    assert "left out" in output.err
    assert "| Contrastive" in output.out


@pytest.mark.parametrize(
    "label",
    [
        "损失 ± Größe",
        "x" * 5000,
        "two\nlines",
        r"50 % of $x_1^2$ & {a|b} **\textbf{c}** `d` <i>",
        "",
        " ",
        "\u202eright to left",
    ],
)
def test_odd_labels_are_read_and_grouped_and_written_in_every_format(tmp_path: Path, label: str) -> None:
    for seed in range(2):
        write_row(tmp_path / str(seed), make_row(loss_label=label, dataset_label=label, trunk_label=label, seed=seed))
    rows, refused = read_rows(tmp_path)
    assert refused == []
    [table] = compare(rows)
    assert (len(table.lines), table.lines[0].n) == (1, 2)
    assert table.lines[0].label == (label or "contrastive")
    for name in FORMATS:
        assert render([table], name)


# --- runs that have begun and have no row


def test_a_run_without_a_row_leaves_the_whole_line_without_numbers_and_says_why(runs: Path) -> None:
    for seed in range(2):
        write_row(runs / f"done{seed}", make_row(loss="triplet", seed=seed))
    folder = begun(runs / "broken", loss="triplet", seed=2)
    (folder / "error.txt").write_text(
        "Traceback (most recent call last):\n  File 'a.py', line 1\nKeyError: 'a'\n\nDuring handling, another:\n\n"
        "Traceback (most recent call last):\n  File 'b.py', line 2, in f\n    g()\n"
        "OSError: [Errno 28] No space left\n  on disk\nx\n"
    )
    rows, refused = read_rows(runs)
    assert refused == []
    [table] = compare(rows)
    [line] = [line for line in table.lines if line.loss == "triplet"]
    assert (line.n, line.seeds) == (2, (0, 1))
    assert set(line.cells.values()) == {None}
    assert line.notes == ("seed 2 missing: accident: OSError: [Errno 28] No space left",)


def test_a_run_that_just_ended_before_its_time_is_not_finished(runs: Path) -> None:
    begun(runs / "killed", seed=1)
    [_, row] = read_rows(runs)[0]
    assert (row["status"], row["reason"]) == (MISSING, "not finished")


def test_a_run_that_another_process_is_at_is_said_to_be_run_and_its_lock_stays_free_for_it(runs: Path) -> None:
    folder = begun(runs / "now", seed=1)
    (folder / "error.txt").write_text("OSError: of the try before\n")
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        [_, row] = read_rows(runs)[0]
        assert row["reason"] == "it is being run"
    read_rows(runs)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_missing_run_of_which_another_folder_has_the_row_is_not_missing(runs: Path) -> None:
    begun(runs / "elsewhere")
    assert [row.ok for row in read_rows(runs)[0]] == [True]


def test_a_run_that_ends_while_it_is_looked_at_has_its_row_read(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begun(runs / "ending", seed=1)

    def ends(place: Path) -> str:
        write_row(place, make_row(seed=1))
        (place / run_files.PENDING_ROW).unlink()
        return "not finished"

    monkeypatch.setattr("dmlbench.rows.why_unfinished", ends)
    assert [row["status"] for row in read_rows(runs)[0]] == ["ok", "ok"]
    assert folder.is_dir()


def test_a_torn_plan_is_left_out(runs: Path) -> None:
    begun(runs / "broken")
    (runs / "broken" / run_files.PENDING_ROW).write_text("{")
    rows, refused = read_rows(runs)
    assert len(rows) == 1
    assert [Path(path).name for path, _ in refused] == [run_files.PENDING_ROW]


def test_missing_runs_alone_make_a_table_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    begun(tmp_path / "runs" / "a")
    assert run(["table"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "No run ended with numbers" in said
    assert "seed 0 missing: not finished" in said


# --- many at once


WRITER = """
import sys
from pathlib import Path
from rows_factory import make_row
from dmlbench.results.row_files import write_row
place, writer = Path(sys.argv[1]), int(sys.argv[2])
for seed in range(200):
    write_row(place / "digits" / f"loss{writer}" / str(seed), make_row(seed / 1000, loss=f"loss{writer}", seed=seed))
    if seed % 10 == 0:
        write_row(place / "digits" / "shared" / "one", make_row(seed / 1000, loss="shared", run_id="one"))
"""


def test_eight_writers_of_200_rows_lose_none_and_a_reader_sees_none_torn(tmp_path: Path) -> None:
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    words = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*words, str(number)], env=environment) for number in range(8)]
    seen, end = [], time.monotonic() + 300
    while any(writer.poll() is None for writer in writers):
        assert time.monotonic() < end
        rows, refused = read_rows(tmp_path)
        assert refused == []
        assert all(len({row[metric] for metric in METRICS}) == 1 for row in rows)
        seen.append(len(rows))
    assert [writer.returncode for writer in writers] == [0] * 8
    rows, refused = read_rows(tmp_path)
    assert (len(rows), refused) == (8 * 200 + 1, [])
    assert {(row["loss"], row["seed"]) for row in rows} >= {(f"loss{w}", seed) for w in range(8) for seed in range(200)}
    assert seen == sorted(seen), "a row that was there is gone"
    assert any(0 < n < 1601 for n in seen), "the reader never read while others wrote"
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {"row.json"}


def test_a_table_needs_none_of_the_heavy_packages(runs: Path) -> None:
    program = (
        "import sys; from dmlbench.cli import run; assert run(['table', '--untested']) == 0\n"
        "print({'torch', 'hydra', 'omegaconf', 'pandas', 'scipy', 'numpy'} & set(sys.modules))"
    )
    write_row(runs / "second", make_row(seed=1))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_named_file_that_is_there_twice_counts_once(runs: Path) -> None:
    file = runs / "digits" / "contrastive" / "good" / "row.json"
    assert len(read_rows(runs, file, runs / "digits")[0]) == 1
