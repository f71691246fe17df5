"""Data and a finished study that the tests of tuning share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_studies import tuned


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the generated data sets."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def four_trials(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished study with four trials. Tests that change it use `copied_runs`."""
    return tuned(data, tmp_path_factory.mktemp("four_trials"), "trials=4")


@pytest.fixture
def copied_runs(four_trials: Path, tmp_path: Path) -> Path:
    """A copy of the directory of runs that contains `four_trials`."""
    shutil.copytree(four_trials.parents[2], tmp_path / "runs")
    return tmp_path / "runs"
