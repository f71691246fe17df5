"""Fixtures of the tests of the site: a study that is published, and its site."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "publication"), str(TESTS / "report")]  # runs that can be published, and a reader of pages


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in an empty directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `results/` of a small study, and `site/`; not to be changed."""
    from published_study import publish_study, site

    directory = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        publish_study()
        site("results")
    return directory
