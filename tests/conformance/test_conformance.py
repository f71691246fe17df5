"""dmlbench passes every case, and the cases tell right from wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from adapters import dmlbench, drop_first  # noqa: E402
from cases import Case, cases  # noqa: E402


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_dmlbench_passes(case: Case) -> None:
    assert case.holds(dmlbench)


def test_an_implementation_that_drops_the_first_neighbour_is_found_out() -> None:
    outcomes = {case.name: case.passes(drop_first) for case in cases()}
    assert outcomes["plain"]
    assert not outcomes["self among duplicates"]
    assert not outcomes["collapse, sorted by class"]
    assert not outcomes["singletons"]


def test_it_runs_on_its_own_against_anything_that_one_function_can_call(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def evaluate(*arrays, ks):\n    return {f'recall_at_{k}': 1.0 for k in ks}\n")
    words = [sys.executable, str(HERE), "mine:evaluate"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "mine:evaluate" in done.stdout
    assert "| plain | Without any pitfall the textbook's numbers come out. | **no** |" in done.stdout
