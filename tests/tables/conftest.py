"""Fixtures of the tests of tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dmlbench.results.row import Row
from dmlbench.results.row_files import write_row


@pytest.fixture
def runs(tmp_path: Path, rows: Sequence[Row], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the rows of the fixture `rows` of a test module below `runs`, in the directory of the test."""
    for row in rows:
        write_row(tmp_path / "runs" / "digits" / str(row["loss"]) / str(row["run_id"]), row)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"
