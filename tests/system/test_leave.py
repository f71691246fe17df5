"""A command ends without freeing its objects, after everything else has been done."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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


def outcome(code: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONUNBUFFERED": ""}, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("status", [0, 2, 130])
def test_threads_and_functions_of_libraries_are_done_and_output_is_written_but_objects_are_not_freed(status: int) -> None:
    assert outcome(f"{COMMAND}\nleave({status})") == (status, "line without an end; thread\nlast function of a library\n", "")


def test_an_error_ends_a_process_as_python_does() -> None:
    status, output, error = outcome(f"{COMMAND}\nraise ValueError('a defect')")
    assert (status, output.splitlines()[-1]) == (1, "freed")
    assert error.endswith("ValueError: a defect\n")


def test_output_that_cannot_be_written_is_reported_by_python() -> None:
    code = "import sys; from dmlbench.system.leave import *; prepare_to_leave(); sys.stdout.write('line'); leave(0)"
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=buffered, check=False)
    assert done.returncode == 120
    assert "No space left on device" in done.stderr


def test_a_process_of_a_launcher_frees_nothing_after_its_last_job() -> None:
    assert outcome(f"{OBJECT}\nleave_after_last_job()\nleave_after_last_job()\nprint('job', flush=True)") == (0, "job\n", "")
