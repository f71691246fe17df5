"""dmlbench passes every conformance case, and the cases detect wrong implementations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from adapters import dmlbench, drop_first  # noqa: E402
from cases import Case, cases  # noqa: E402


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_dmlbench_passes_every_case(case: Case) -> None:
    assert case.holds(dmlbench)


def test_an_implementation_that_drops_the_first_neighbour_fails_the_cases_about_it() -> None:
    outcomes = {case.name: case.passes(drop_first) for case in cases()}
    assert outcomes["plain"]
    assert not outcomes["self among duplicates"]
    assert not outcomes["collapse, sorted by class"]
    assert not outcomes["singletons"]


def test_the_command_checks_any_function_without_dmlbench(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def evaluate(*arrays, ks):\n    return {f'recall_at_{k}': 1.0 for k in ks}\n")
    command = [sys.executable, str(HERE), "mine:evaluate"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "mine:evaluate" in done.stdout
    assert "| plain | Data without a pitfall gives the textbook values. | **no** |" in done.stdout
