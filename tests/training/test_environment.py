"""A row records what decides rounding on a CPU, and a table says so if its rows differ in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from rows_factory import make_row

from dmlbench.results.columns import column
from dmlbench.tables.table import compare
from dmlbench.training.environment import begin_memory_peak, cpu_columns, make_deterministic

CODE = "import json; from dmlbench.training.environment import cpu_columns; print(json.dumps(cpu_columns()))"


def test_the_instruction_set_is_the_one_that_torch_uses() -> None:
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    limited = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(limited.stdout)["cpu_capability"] in ("DEFAULT", "NO AVX")
    assert cpu_columns()["cpu_capability"] == torch.backends.cpu.get_cpu_capability()


def test_the_libraries_of_torch_are_named_with_their_versions() -> None:
    assert cpu_columns()["cpu_libraries"]
    assert any(digit in str(cpu_columns()["cpu_libraries"]) for digit in "0123456789")


def test_a_table_says_that_its_rows_were_computed_with_different_instructions() -> None:
    rows = [make_row(0.5, loss="triplet", cpu_capability="AVX2"), make_row(0.4, cpu_capability="AVX512")]
    [table] = compare(rows)
    assert any("the rows differ in CPU instruction set: AVX2, AVX512" in note.replace("The", "the") for note in table.notes)


def test_rows_from_before_the_instruction_set_was_recorded_give_no_warning() -> None:
    [table] = compare([make_row(0.5, loss="triplet", cpu_capability="AVX2"), make_row(0.4)])
    assert not any("instruction" in note for note in table.notes)


def test_the_same_plan_on_the_same_kind_of_cpu_reproduces_the_columns_except_for_the_model() -> None:
    assert [name for name in cpu_columns() if not column(name).reproducible] == ["cpu_model"]


@pytest.mark.parametrize(("chosen", "expected"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_matrix_products_on_cuda_are_reproducible_unless_the_user_chose_a_workspace(
    chosen: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", chosen or "")
    if chosen is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    make_deterministic(torch.get_num_threads())
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == expected


def test_the_peak_of_memory_on_cuda_begins_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    resets: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: resets.append("reset"))
    begin_memory_peak("cpu")
    assert resets == []
    begin_memory_peak("cuda")
    assert resets == ["reset"]
