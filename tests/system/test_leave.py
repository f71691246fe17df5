"""A command ends without freeing its objects, after everything else has been done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Outcome = Callable[..., tuple[int, str, str]]

OBJECT = """
import atexit, sys, threading, time
from dmlbench.system.leave import leave, leave_after_last_job, prepare_to_leave


class Slow:
    def __del__(self):
        print("freed", flush=True)


kept = Slow()
"""
COMMAND = f"""{OBJECT}
prepare_to_leave()
atexit.register(print, "last function of a library")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
sys.stdout.write("line without an end; ")
"""


BUFFERED = os.environ | {"PYTHONUNBUFFERED": ""}


@pytest.fixture
def outcome(tmp_path: Path) -> Outcome:
    """A function that executes code as a program, by default with the name of the command: exit status, output and errors."""

    def execute(code: str, program: str = "dmlbench", stdout: Any = subprocess.PIPE) -> tuple[int, str, str]:
        (tmp_path / program).write_text(code)
        command = [sys.executable, program]
        done = subprocess.run(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=BUFFERED, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return execute


@pytest.mark.parametrize("status", [0, 2, 130])
def test_threads_and_functions_of_libraries_are_done_and_output_is_written_but_objects_are_not_freed(
    status: int, outcome: Outcome
) -> None:
    assert outcome(f"{COMMAND}\nleave({status})") == (status, "line without an end; thread\nlast function of a library\n", "")


def test_an_error_ends_a_process_as_python_does(outcome: Outcome) -> None:
    status, output, error = outcome(f"{COMMAND}\nraise ValueError('a defect')")
    assert (status, output.splitlines()[-1]) == (1, "freed")
    assert error.endswith("ValueError: a defect\n")


def test_output_that_cannot_be_written_is_reported_by_python(outcome: Outcome) -> None:
    code = "import sys; from dmlbench.system.leave import *; prepare_to_leave(); sys.stdout.write('line'); leave(0)"
    with open("/dev/full", "w") as full:
        status, _, error = outcome(code, stdout=full)
    assert status == 120
    assert "No space left on device" in error


@pytest.mark.parametrize("program", ["program.py", "dmlbench/program.py"])  # the second one is in a checkout
def test_a_program_that_calls_the_entry_point_of_the_command_ends_in_its_own_way(
    program: str, outcome: Outcome, tmp_path: Path
) -> None:
    (tmp_path / program).parent.mkdir(exist_ok=True)
    code = (
        "import sys\nfrom dmlbench.__main__ import main\nfile = open('kept.txt', 'w')\nfile.write('data')\n"
        "sys.argv = ['dmlbench', '--version']\ntry:\n    main()\nexcept SystemExit:\n    sys.exit(3)\n"
    )
    assert outcome(code, program)[0] == 3
    assert (tmp_path / "kept.txt").read_text() == "data"


def test_a_process_of_a_launcher_frees_nothing_after_its_last_job(outcome: Outcome) -> None:
    assert outcome(f"{OBJECT}\nleave_after_last_job()\nleave_after_last_job()\nprint('job', flush=True)") == (0, "job\n", "")
