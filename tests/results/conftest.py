"""Fixtures that several tests of results share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from grown_package import PROGRAM, SMALL_RUN, Grown, copy_with_new_field, run_with

from dmlbench.cli import run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory in which the smallest run has finished, below `runs`. Tests must not change it."""
    folder = tmp_path_factory.mktemp("small_run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["train", *SMALL_RUN]) == 0
    return folder


@pytest.fixture(scope="session")
def grown(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Grown:
    """Run commands with a copy of the package that has one more field, in a copy of the directory of `small_run`."""
    package = copy_with_new_field(tmp_path_factory.mktemp("package"))
    folder = shutil.copytree(small_run, tmp_path_factory.mktemp("grown") / "work")
    return Grown(folder, run_with(package, PROGRAM, folder))
