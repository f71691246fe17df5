"""Damaged and hostile files are read, or refused in one sentence; nothing is written elsewhere or executed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fault_injection import fuzz

EXAMPLES = 30


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("samples")
    fuzz.make_samples(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("reader", fuzz.READERS)
def test_a_reader_of_damaged_files_only_refuses_them(reader: str, samples: Path) -> None:
    found = fuzz.run(reader, samples, EXAMPLES)
    assert found.problems == {}
    assert found.examples == found.read + found.refused > 0


def _misbehave(folder: Path) -> None:
    content = (folder / "row.json").read_bytes()
    if len(content) % 2:
        raise KeyError("an error that no user understands")
    (folder.parent / "evil").write_bytes(b"")
    os.system("true")


def test_exceptions_files_elsewhere_and_programs_are_noticed(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fuzz.READERS, "rows", replace(fuzz.READERS["rows"], read=_misbehave))
    found = fuzz.run("rows", samples, EXAMPLES)
    assert found.crashed + found.outside == found.examples
    problems = " ".join(found.problems.values())
    assert "KeyError: 'an error that no user understands'" in problems
    assert "/evil, os.system" in problems
