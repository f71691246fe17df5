"""A copy of the package in which the protocol has one more field, for tests of how the schema grows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from dmlbench.results.columns import SCHEMA_VERSION

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL_RUN = (
    *("loss=untrained", "dataset=synthetic", "dataset.make.classes=4", "dataset.make.images_per_class=2"),
    *("dataset.make.image_px=16", "protocol.image_px=16", "workers=0", "device=cpu"),
)
# The declaration of the new field: its meaning in the docstring of `Protocol`, and the field itself.
MEANING = "        cutout_px: Side of a random square that is masked in training images, in pixels; 0 for none.\n"
FIELD = f"    cutout_px: int = setting(0, at_least=0, since={SCHEMA_VERSION + 1}, before=0)\n"
# Executed in one process, because each process imports torch. Prints exit status, output and errors of each step as JSON.
PROGRAM = f"""
import contextlib, io, json, sys
import dmlbench
from dmlbench.cli import run

assert dmlbench.__file__.startswith(sys.argv[1]), dmlbench.__file__
small_run, found = {list(SMALL_RUN)!r}, {{}}

def step(name, arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = run(arguments)
    found[name] = [status, out.getvalue(), err.getvalue()]

step("same run", ["train", *small_run])
step("next seed", ["train", *small_run, "seed=1"])
step("table", ["table"])
step("csv", ["table", "--format", "csv"])
step("too small", ["train", *small_run, "protocol.cutout_px=-1"])
step("other value", ["train", *small_run, "protocol.cutout_px=4"])
step("explanation", ["table", "--explain"])
step("vary", ["table", "--vary", "protocol.cutout_px"])
step("caption", ["table", "--format", "markdown", "--no-test"])
sys.path.insert(0, sys.argv[2])
from write_docs import columns_page
found["documentation"] = [0, columns_page(), ""]
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Step:
    """What one command did.

    Args:
        status: Exit status.
        out: Standard output.
        err: Standard error.
    """

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Grown:
    """What the commands of `PROGRAM` did.

    Args:
        folder: Directory in which they ran.
        steps: Name to step.
    """

    folder: Path
    steps: dict[str, Step]


def copy_with_new_field(root: Path) -> Path:
    """Copy the package and insert one optional field into the class `Protocol`.

    Args:
        root: Directory for the copies of `dmlbench` and `conf`.
    """
    for name in ("dmlbench", "conf"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    schema = root / "dmlbench" / "config" / "schema.py"
    text = schema.read_text(encoding="utf-8")
    for next_line, new in (("        clip_grad_norm: Maximum norm", MEANING), ("    clip_grad_norm: float | None", FIELD)):
        assert text.count(next_line) == 1
        text = text.replace(next_line, new + next_line)
    schema.write_text(text, encoding="utf-8")
    return root


def run_with(package: Path, program: str, folder: Path) -> dict[str, Step]:
    """Run a program with a copy of the package in another process.

    Args:
        package: What `copy_with_new_field` returned.
        program: Python source that prints steps as JSON.
        folder: Working directory.
    """
    environment = os.environ | {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", program, str(package), str(REPOSITORY / "scripts")]
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: Step(*step) for name, step in json.loads(done.stdout.splitlines()[-1]).items()}
