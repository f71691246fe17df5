"""Files of somebody else: nothing in them is executed, opened outside of the run, or printed to control a terminal.

Every reading command ends with an exit status and sentences, whatever is in a run directory or in a file of embeddings.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import hostile_files as hostile
import numpy as np
import pytest
from hostile_files import Change, replaced
from rows_factory import make_row
from safetensors.numpy import save

from dmlbench.cli import run
from dmlbench.results.row_files import write_row
from dmlbench.system.terminal import printable_lines

SECONDS = 60  # no case takes a second; a command that waits for a FIFO or reads a device would never end
SECRET = "SECRET" * 10
HOSTILE_RUN = Path("runs/digits/triplet/bad-0")

CASES: dict[str, Change] = {
    **{f"row: {name}": replaced("row.json", text) for name, text in [*hostile.RAW_ROWS.items(), *hostile.torn_rows()]},
    **{f"row: {name}": replaced("row.json", hostile.with_columns(one)) for name, one in hostile.COLUMNS.items()},
    **{f"history: {name}": replaced("history.jsonl", text) for name, text in hostile.HISTORIES.items()},
    **{f"class names: {name}": replaced("classes.json", text) for name, text in hostile.CLASS_NAMES.items()},
    **{f"overrides: {name}": replaced("words.json", text) for name, text in hostile.OVERRIDES.items()},
    **{f"scores: {name}": replaced("per_query.safetensors", data) for name, data in hostile.SCORES.items()},
    **{f"{file}: {kind}": hostile.special(file, make) for file in hostile.RUN_FILES for kind, make in hostile.SPECIAL.items()},
}


def plan_case(name: str, text: str | bytes) -> tuple[str, Change]:
    """The same content as a pending row, in a run without a row."""

    def change(run_directory: Path) -> None:
        (run_directory / "row.json").unlink()
        replaced("plan.json", text)(run_directory)

    return f"plan: {name}", change


CASES |= dict(plan_case(name, text) for name, text in hostile.RAW_ROWS.items())


def error_case(name: str, text: str | bytes) -> tuple[str, Change]:
    """A run that crashed with any text."""

    def change(run_directory: Path) -> None:
        (run_directory / "row.json").rename(run_directory / "plan.json")
        replaced("error.txt", text)(run_directory)

    return f"error: {name}", change


CASES |= dict(error_case(name, text) for name, text in hostile.ERRORS.items())


@pytest.fixture(autouse=True)
def _time_limit() -> Iterator[None]:
    """Fail instead of waiting for ever."""

    def fail(number: int, frame: FrameType | None) -> None:
        raise AssertionError("the command does not end")

    previous = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.fixture(scope="module")
def good_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods with one seed each, all files of a run, and a directory outside."""
    root = tmp_path_factory.mktemp("good")
    for loss in ("contrastive", "triplet"):
        folder = root / "runs" / "digits" / loss / ("bad-0" if loss == "triplet" else "good-0")
        write_row(folder, make_row(loss=loss))
        (folder / "per_query.safetensors").write_bytes(hostile.scores())
        (folder / "classes.json").write_text('{"0": "a", "1": "b"}')
        (folder / "history.jsonl").write_text('{"epoch": 1, "loss": 1.5}\n')
    (root / "outside").mkdir()
    (root / "outside" / "secret").write_text(json.dumps([SECRET]))
    return root


@pytest.fixture
def root(good_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the good runs, in the current directory."""
    root = shutil.copytree(good_runs, tmp_path / "work")
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return root


def check_command(capsys: pytest.CaptureFixture[str], *argv: str) -> None:
    """Run a command, which prints printable text and no traceback, and ends with a status of its own."""
    assert run(argv) in (0, 1, 2)
    text = "".join(capsys.readouterr())
    assert text == printable_lines(text)
    assert "Traceback" not in text
    assert SECRET not in text


def outside(root: Path) -> dict[str, bytes]:
    """All files outside of the runs, with the begin of their content."""
    files = [path for path in root.rglob("*") if "runs" not in path.parts and path.is_file()]
    return {str(path): path.open("rb").read(1000) for path in files}


@pytest.mark.parametrize("change", CASES.values(), ids=CASES.keys())
def test_tables_comparisons_and_descriptions_of_hostile_runs_are_printed_or_refused(
    change: Change, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(HOSTILE_RUN)
    before = outside(root)
    check_command(capsys, "table")
    check_command(capsys, "show", str(HOSTILE_RUN))
    check_command(capsys, "compare", "digits/triplet", "digits/contrastive")
    assert outside(root) == before


# Rows and plans decide what the other formats contain.
@pytest.mark.parametrize("change", [CASES[name] for name in CASES if name.startswith("row: a ")])
@pytest.mark.parametrize(
    "argv",
    [
        *(("table", "--format", name) for name in ("csv", "latex", "html")),
        ("table", "--explain"),
        ("compare", "digits/triplet", "digits/contrastive", "--format", "json"),
    ],
    ids=lambda argv: argv[-1],
)
def test_every_format_is_printable(
    argv: tuple[str, ...], change: Change, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(HOSTILE_RUN)
    check_command(capsys, *argv)


EMBEDDINGS: dict[str, dict[str, str | bytes]] = {
    **{f"npy: {name}": {"x.npy": data, "x.csv": "labels\n0\n0\n1\n1\n"} for name, data in hostile.NPY.items()},
    **{f"csv: {name}": {"x.npy": hostile.saved(np.eye(4)), "x.csv": data} for name, data in hostile.LABELS.items()},
    **{f"npz: {name}": {"x.npz": data} for name, data in hostile.NPZ.items()},
    **{f"safetensors: {name}": {"x.safetensors": data} for name, data in hostile.TENSOR_FILES.items()},
}
for _kind in ("FIFO", "socket", "directory", "link to a device", "link to nothing", "link to itself", "4 TiB"):
    EMBEDDINGS |= {f"{name}: {_kind}": {name: _kind} for name in ("x.npy", "x.npz", "x.safetensors", "x.csv")}


@pytest.mark.parametrize("files", EMBEDDINGS.values(), ids=EMBEDDINGS.keys())
def test_hostile_embeddings_are_evaluated_or_refused_in_one_sentence(
    files: dict[str, str | bytes], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in files.items():
        if content in hostile.SPECIAL:
            hostile.SPECIAL[str(content)](Path(name))
        else:
            replaced(name, content)(root)
    if "x.csv" in files and "x.npy" not in files:
        Path("x.npy").write_bytes(hostile.saved(np.eye(4)))
    before = outside(root)
    name = next(name for name in files if name != "x.csv") if set(files) != {"x.csv"} else "x.npy"
    status = run(["evaluate", name, "--name", hostile.ESCAPES])
    output = capsys.readouterr()
    assert status in (0, 2)
    assert output.err.count("\n") == (status == 2)
    assert output.out + output.err == printable_lines(output.out + output.err)
    assert outside(root) == before


def test_an_archive_that_unpacks_to_a_multiple_of_its_size_is_refused_before_it_is_unpacked(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmlbench.evaluation.embedding_files._MAX_UNPACKED_BYTES", 2**20)
    zeros = hostile.saved(np.zeros((2**16, 8), dtype=np.float32))
    Path("x.npz").write_bytes(hostile.zipped(embeddings=zeros, labels=hostile.saved(np.zeros(2**16))))
    assert run(["evaluate", "x.npz"]) == 2
    assert "it would unpack to 2,621,696 bytes, too many for its size" in capsys.readouterr().err


def test_a_link_to_embeddings_is_followed_only_if_the_user_names_it(root: Path) -> None:
    from dmlbench.errors import UserError
    from dmlbench.evaluation.embedding_files import load_embeddings

    arrays = {"embeddings": np.eye(4, dtype=np.float32), "labels": np.array([0, 0, 1, 1])}
    Path("real.safetensors").write_bytes(save(arrays))
    Path("link.safetensors").symlink_to("real.safetensors")
    assert run(["evaluate", "link.safetensors"]) == 0
    with pytest.raises(UserError, match="it is a link"):
        load_embeddings(Path("link.safetensors"))


def test_hundreds_of_nested_directories_are_searched(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Not below tmp_path: pytest removes that with a function that calls itself at each level.
    runs = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(root / "runs", runs, dirs_exist_ok=True)
        for depth in range(1, 1100):
            (runs / Path(*"d" * depth)).mkdir()
        check_command(capsys, "table", str(runs))
        check_command(capsys, "show", "digits/triplet", "--runs", str(runs))
    finally:
        subprocess.run(["rm", "-r", str(runs)], check=True)


def test_there_are_at_least_150_hostile_files() -> None:
    assert len(CASES) + len(EMBEDDINGS) >= 150
