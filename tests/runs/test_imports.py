"""What a command imports before it needs it."""

from __future__ import annotations

import subprocess
import sys


def test_checking_jobs_and_evaluating_files_import_no_torchvision() -> None:
    modules = "dmlbench.runs.checks, dmlbench.runs.job_checks, dmlbench.runs.launcher, dmlbench.runs.external"
    code = f"import sys, {modules}; print([name for name in ('torchvision', 'torch._dynamo') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
