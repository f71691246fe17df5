"""Rows read from directories in any state: files that are not rows are skipped, unfinished runs are listed as missing."""

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
from rows_factory import METRICS, make_row

from dmlbench.cli import run
from dmlbench.cli.sweep import print_tables
from dmlbench.results import run_files
from dmlbench.results.columns import SCHEMA_VERSION
from dmlbench.results.row import MISSING, Row
from dmlbench.results.row_files import read_rows, write_row
from dmlbench.tables.formats import FORMATS, render
from dmlbench.tables.table import compare

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a directory `runs` with one good row, in the current directory."""
    monkeypatch.chdir(tmp_path)
    write_row(tmp_path / "runs" / "digits" / "contrastive" / "good", make_row())
    return tmp_path / "runs"


def write_pending_row(folder: Path, score: float = 0.5, **columns: Any) -> Path:
    """Write a run directory with a pending row and without a row."""
    columns = dict(make_row(score, **columns).columns)
    write_row(folder, Row({name: value for name, value in columns.items() if name not in METRICS}), run_files.PENDING_ROW)
    return folder


# --- files that are not rows


def test_a_character_outside_the_basic_plane_is_read(runs: Path) -> None:
    (runs / "other").mkdir()
    (runs / "other" / "row.json").write_text(json.dumps({**make_row(seed=1).columns, "loss_label": "\U0001f426"}))
    assert {row["loss_label"] for row in read_rows(runs)[0]} == {"Contrastive", "\U0001f426"}


def incomplete(file: Path) -> None:
    file.write_text('{"schema_version": 1, "run')


def newer_schema(file: Path) -> None:
    file.write_text(json.dumps({**make_row().columns, "schema_version": SCHEMA_VERSION + 1}))


def foreign(file: Path) -> None:
    file.write_text('{"rows": [1, 2, 3]}')


def binary(file: Path) -> None:
    file.write_bytes(bytes(range(256)))


def deeply_nested(file: Path) -> None:
    file.write_text("[" * 100_000)


def large_integer(file: Path) -> None:
    file.write_text(json.dumps({**make_row().columns, "final_loss": 0}).replace(": 0}", f": 1{'0' * 400}}}"))


def large_file(file: Path) -> None:
    file.touch()
    os.truncate(file, 4 * 1024**2 + 1)


def unpaired_surrogate(file: Path) -> None:
    file.write_text(json.dumps({**make_row().columns, "loss_label": "a\ud800b"}))


def unpaired_surrogate_in_capitals(file: Path) -> None:
    file.write_text(json.dumps({**make_row().columns, "note": "a\udc00"}).replace("udc00", "uDC00"))


def a_column_twice(file: Path) -> None:
    file.write_text('{"seed": 7, ' + json.dumps(dict(make_row().columns))[1:])


def boolean_seed(file: Path) -> None:
    file.write_text(json.dumps({**make_row().columns, "seed": True}))


def broken_link(file: Path) -> None:
    file.symlink_to("nowhere.json")


def link_to_itself(file: Path) -> None:
    file.symlink_to(file.name)


def link_to_a_row(file: Path) -> None:
    write_row(file.parents[3] / "elsewhere", make_row())
    file.symlink_to(file.parents[3] / "elsewhere" / "row.json")


def link_to_a_device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def directory(file: Path) -> None:
    (file / "more").mkdir(parents=True)


def named_pipe(file: Path) -> None:
    os.mkfifo(file)  # opening it would block


BAD = {
    incomplete: "Unterminated string starting at: line 1 column 23 (char 22); delete it and run its command again",
    newer_schema: f"schema {SCHEMA_VERSION + 1} was written by a newer dmlbench",
    foreign: "a row needs the column 'schema_version'",
    binary: "can't decode byte",
    deeply_nested: "its brackets are nested too deeply",
    large_integer: "an integer of more than 300 digits",
    large_file: "4,194,305 bytes; at most 4,194,304 are read",
    unpaired_surrogate: "its text is not valid Unicode",
    unpaired_surrogate_in_capitals: "its text is not valid Unicode",
    a_column_twice: "it has the key 'seed' twice",
    boolean_seed: "a row needs the column 'seed' (int), not True",
    broken_link: "it is a link",
    link_to_itself: "it is a link",
    link_to_a_row: "it is a link",
    link_to_a_device: "it is a link",
    directory: "it is a directory",
    named_pipe: "it is not a regular file",
}


@pytest.mark.parametrize(("make", "reason"), BAD.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_a_file_that_is_not_a_row_is_skipped_with_a_warning(
    runs: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], None], reason: str
) -> None:
    (runs / "digits" / "bad").mkdir()
    make(runs / "digits" / "bad" / "row.json")
    assert run(["table"]) == 0
    output = capsys.readouterr()
    assert output.err.startswith("dmlbench: skipped runs/digits/bad/row.json: ")
    assert reason in output.err
    assert output.err.count("\n") == 1
    assert "| Contrastive" in output.out


@pytest.fixture
def unprivileged_directory() -> Iterator[Path]:
    """Yield a directory of an unprivileged user, and run the test as this user: the superuser may read everything."""
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


def test_files_without_read_permission_are_skipped(unprivileged_directory: Path) -> None:
    write_row(unprivileged_directory / "good", make_row())
    write_row(unprivileged_directory / "secret", make_row(seed=1)).chmod(0)
    (unprivileged_directory / "closed").mkdir(mode=0)
    rows, skipped = read_rows(unprivileged_directory)
    (unprivileged_directory / "closed").chmod(0o700)
    assert len(rows) == 1
    assert [(Path(path).name, reason) for path, reason in skipped] == [
        ("closed", "Permission denied"),
        ("row.json", "Permission denied"),
    ]


def test_other_directories_and_links_are_ignored_without_a_warning(runs: Path) -> None:
    (runs / "theirs" / "deep" / "down").mkdir(parents=True)
    (runs / "theirs" / "data.json").write_text("{")
    (runs / "circle").symlink_to(runs)
    (runs / "gone").symlink_to(runs / "nowhere")
    (runs / ".row.json.123.tmp").write_text("{")
    rows, skipped = read_rows(runs)
    assert (len(rows), skipped) == (1, [])


def test_five_skipped_files_are_named_and_the_others_are_counted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        (runs / f"{number:02}").mkdir()
        incomplete(runs / f"{number:02}" / "row.json")
    assert run(["table"]) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in warnings[:5]] == [
        f"skipped runs/{number:02}/row.json" for number in range(5)
    ]
    assert warnings[5:] == ["dmlbench: skipped 7 more files"]


def test_without_any_row_the_exit_status_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    incomplete(Path("runs/row.json"))
    assert run(["table"]) == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert "skipped runs/row.json" in warning
    assert "there is no finished run" in error


@pytest.mark.parametrize("make", [incomplete, newer_schema, foreign, binary, deeply_nested])
def test_a_file_that_the_user_names_has_to_be_a_row(
    runs: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], None]
) -> None:
    make(runs / "row.json")
    assert run(["table", "runs", "runs/row.json"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dmlbench: runs/row.json is not a row of dmlbench: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--vary", "trnk"], "--vary trnk is not an axis of these rows; did you mean 'trunk'?"),
        (["vary=trnk"], "--vary trnk is not an axis of these rows; did you mean 'trunk'?"),
        (["--vary", "loss.make.nothing"], "--vary loss.make.nothing is not an axis of these rows"),
        (["empty"], "there is no finished run to make a table of"),
        (["nowhere"], "nowhere names no run below runs"),
    ],
)
def test_an_unknown_axis_or_missing_runs_are_reported_in_one_sentence(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    (runs.parent / "empty").mkdir()
    assert run(["table", *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_the_table_of_a_sweep_skips_files_that_are_not_rows_and_lists_missing_runs(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = runs / "digits" / "contrastive" / "good"
    (good / "fold0").mkdir()
    incomplete(good / "fold0" / "row.json")
    print_tables([good, write_pending_row(runs / "digits" / "triplet" / "broken", loss="triplet", loss_make_margin=0.1)])
    output = capsys.readouterr()
    assert "seed 0 missing: not finished" in output.out
    assert "rows      1, each a row.json" in output.out
    assert "skipped" in output.err
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
def test_rows_with_unusual_labels_are_grouped_and_written_in_every_format(tmp_path: Path, label: str) -> None:
    for seed in range(2):
        write_row(tmp_path / str(seed), make_row(loss_label=label, dataset_label=label, trunk_label=label, seed=seed))
    rows, skipped = read_rows(tmp_path)
    assert skipped == []
    [table] = compare(rows)
    assert (len(table.rows), table.rows[0].n) == (1, 2)
    assert table.rows[0].label == (label or "contrastive")
    for name in FORMATS:
        assert render([table], name)


# --- runs without a row


def test_a_method_with_a_crashed_run_has_no_scores_and_a_footnote_with_the_error(runs: Path) -> None:
    for seed in range(2):
        write_row(runs / f"done{seed}", make_row(loss="triplet", seed=seed))
    folder = write_pending_row(runs / "broken", loss="triplet", seed=2)
    (folder / "error.txt").write_text(
        "Traceback (most recent call last):\n  File 'a.py', line 1\nKeyError: 'a'\n\nDuring handling, another:\n\n"
        "Traceback (most recent call last):\n  File 'b.py', line 2, in f\n    g()\n"
        "OSError: [Errno 28] No space left\n  on disk\nx\n"
    )
    rows, skipped = read_rows(runs)
    assert skipped == []
    [table] = compare(rows)
    [triplet] = [row for row in table.rows if row.loss == "triplet"]
    assert (triplet.n, triplet.seeds) == (2, (0, 1))
    assert set(triplet.cells.values()) == {None}
    assert triplet.notes == ("seed 2 missing: crashed: OSError: [Errno 28] No space left",)


def test_an_interrupted_run_is_missing_because_it_is_not_finished(runs: Path) -> None:
    write_pending_row(runs / "killed", seed=1)
    [_, row] = read_rows(runs)[0]
    assert (row["status"], row["reason"]) == (MISSING, "not finished")


def test_a_locked_run_is_running_and_reading_does_not_keep_its_lock(runs: Path) -> None:
    folder = write_pending_row(runs / "now", seed=1)
    (folder / "error.txt").write_text("OSError: in the attempt before\n")
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        [_, row] = read_rows(runs)[0]
        assert row["reason"] == "running"
    read_rows(runs)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_pending_run_is_not_missing_if_its_row_is_in_another_directory(runs: Path) -> None:
    write_pending_row(runs / "elsewhere")
    assert [row.ok for row in read_rows(runs)[0]] == [True]


def test_the_row_of_a_run_that_ends_during_reading_is_read(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pending_row(runs / "ending", seed=1)

    def end_run(directory: Path) -> str:
        write_row(directory, make_row(seed=1))
        (directory / run_files.PENDING_ROW).unlink()
        return "not finished"

    monkeypatch.setattr("dmlbench.results.row_files.run_status", end_run)
    assert [row["status"] for row in read_rows(runs)[0]] == ["ok", "ok"]
    assert folder.is_dir()


def test_an_incomplete_pending_row_is_skipped(runs: Path) -> None:
    write_pending_row(runs / "broken")
    (runs / "broken" / run_files.PENDING_ROW).write_text("{")
    rows, skipped = read_rows(runs)
    assert len(rows) == 1
    assert [Path(path).name for path, _ in skipped] == [run_files.PENDING_ROW]


def test_a_table_of_missing_runs_only_says_that_no_run_has_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pending_row(tmp_path / "runs" / "a")
    assert run(["table"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "No run has results." in text
    assert "seed 0 missing: not finished" in text


# --- many processes

WRITER = """
import sys
from pathlib import Path
from rows_factory import make_row
from dmlbench.results.row_files import write_row
runs, writer = Path(sys.argv[1]), int(sys.argv[2])
for seed in range(100):
    write_row(runs / "digits" / f"loss{writer}" / str(seed), make_row(seed / 1000, loss=f"loss{writer}", seed=seed))
    if seed % 10 == 0:
        write_row(runs / "digits" / "shared" / "one", make_row(seed / 1000, loss="shared", run_id="one"))
"""


def test_four_concurrent_writers_lose_no_row_and_a_reader_sees_no_incomplete_row(tmp_path: Path) -> None:
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(number)], env=environment) for number in range(4)]
    counts, end = [], time.monotonic() + 300
    while any(writer.poll() is None for writer in writers):
        assert time.monotonic() < end
        rows, skipped = read_rows(tmp_path)
        assert skipped == []
        assert all(len({row[metric] for metric in METRICS}) == 1 for row in rows)
        counts.append(len(rows))
        time.sleep(0.05)
    assert [writer.returncode for writer in writers] == [0] * 4
    rows, skipped = read_rows(tmp_path)
    assert (len(rows), skipped) == (4 * 100 + 1, [])
    assert {(row["loss"], row["seed"]) for row in rows} >= {(f"loss{w}", seed) for w in range(4) for seed in range(100)}
    assert counts == sorted(counts), "a row has disappeared"
    assert any(0 < n < 401 for n in counts), "no read was concurrent with the writers"
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {"row.json"}


def test_a_table_without_tests_imports_no_large_package(runs: Path) -> None:
    program = (
        "import sys; from dmlbench.cli import run; assert run(['table', '--no-test']) == 0\n"
        "print({'torch', 'hydra', 'omegaconf', 'pandas', 'scipy', 'numpy'} & set(sys.modules))"
    )
    write_row(runs / "second", make_row(seed=1))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_file_that_is_named_and_found_counts_once(runs: Path) -> None:
    file = runs / "digits" / "contrastive" / "good" / "row.json"
    assert len(read_rows(runs, file, runs / "digits")[0]) == 1


def test_a_row_that_the_user_names_may_be_a_link(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(runs / "digits" / "contrastive" / "good" / "row.json")
    [row], skipped = read_rows(Path("link.json"))
    assert row.folder == runs / "digits" / "contrastive" / "good"
    assert skipped == []
