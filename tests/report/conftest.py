"""Fixtures of the tests of reports: a directory with runs and their images, and its report."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_pages import Node, report, write_photos, write_study


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, generated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in a directory with nothing but generated data sets."""
    (tmp_path / "data").symlink_to(generated)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `runs` of the untrained trunk and three losses, and their `photos`; not to be changed."""
    directory = tmp_path_factory.mktemp("study")
    write_study(directory / "runs", photos=write_photos(directory / "photos"))
    return directory


@pytest.fixture(scope="session")
def page_file(study: Path) -> Path:
    """The report of the study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study)
        report("runs")
    return study / "report.html"


@pytest.fixture(scope="session")
def page(page_file: Path) -> Node:
    """The report of the study, read."""
    from report_pages import parse

    return parse(page_file.read_text(encoding="utf-8"))
