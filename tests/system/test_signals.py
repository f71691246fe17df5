"""A signal ends a command with one sentence and the status 128 + signal; the checkpoint is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmlbench.cli import run
from dmlbench.results import run_files
from dmlbench.system import signals
from dmlbench.training.checkpoint import History

TINY = (
    *("dataset=synthetic", "dataset.make.classes=8", "dataset.make.images_per_class=6", "protocol=quick", "trunk=convnet"),
    *("trunk.make.channels=[4,8]", "protocol.epochs=2", "protocol.batch_size=8", "protocol.embedding_dim=8"),
)


@pytest.fixture(autouse=True)
def hangup_is_not_ignored() -> Iterator[None]:
    """Restore the default of SIGHUP, which `nohup` ignores for the tests and all processes that they start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    monkeypatch.setattr(signals, "_received", [])
    signals.handle_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGTERM, "ended by SIGTERM"), (signal.SIGHUP, "ended by SIGHUP"), (signal.SIGINT, "interrupted")],
)
@pytest.mark.usefixtures("handled")
def test_a_signal_ends_a_run_with_one_sentence_and_leaves_its_checkpoint(
    number: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = History.write

    def write_and_end(history: History, file: Path) -> None:
        if len(history.epochs) == 2:
            os.kill(os.getpid(), number)
        write(history, file)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(History, "write", write_and_end)
    assert run(["train", "loss=contrastive", *TINY]) == 128 + number
    assert capsys.readouterr().err == f"dmlbench: {reason}; run the same command again to resume\n"
    [checkpoint] = Path("runs").rglob(run_files.CHECKPOINT)
    assert checkpoint.stat().st_size


@pytest.mark.usefixtures("handled")
def test_an_error_that_a_library_made_of_the_signal_is_reported_as_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_import(*arguments: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("partially initialized module") from None

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dmlbench.cli.list.main", break_import)
    assert run(["list"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "dmlbench: ended by SIGTERM\n"


CODE = """
import os, signal, sys
from dmlbench.system import signals
signals.handle_signals()
if "raising" in sys.argv:
    signals.raise_on_signals()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        print("unwound", flush=True)
os.kill(os.getpid(), int(sys.argv[1]))
print("still here")
"""


def run_code(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CODE, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGINT, "interrupted"), (signal.SIGHUP, "ended by SIGHUP")])
def test_a_signal_during_the_first_imports_ends_the_process_with_one_sentence(number: int, reason: str) -> None:
    ended = run_code(int(number))
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + number, "", f"dmlbench: {reason}\n")


def test_a_second_signal_ends_the_process_at_once() -> None:
    ended = run_code(int(signal.SIGINT), "raising")
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "unwound\n", "dmlbench: interrupted\n")


def test_a_signal_that_the_parent_process_ignores_is_ignored() -> None:
    command = f"trap '' HUP; exec {sys.executable} -c '{CODE}' {int(signal.SIGHUP)}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "still here\n", "")
