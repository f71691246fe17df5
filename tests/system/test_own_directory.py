"""Links and directories in a run directory that a command must not write to."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmlbench.errors import UserError
from dmlbench.system.own_directory import refuse_links


def test_links_to_files_links_above_and_missing_directories_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "disk" / "run" / "fold0").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "disk" / "run" / "fold0" / "model.pt").symlink_to(tmp_path / "file")
    (tmp_path / "runs").symlink_to("disk")
    refuse_links(tmp_path / "runs" / "run", {"model.pt"})
    refuse_links(tmp_path / "runs" / "missing")
    assert (tmp_path / "runs" / "run" / "fold0" / "model.pt").samefile(tmp_path / "file")  # nothing was removed


@pytest.mark.parametrize("target", ["..", "nowhere", "loop", "/dev/null"])
def test_other_links_are_refused_at_any_depth(tmp_path: Path, target: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "loop").symlink_to(target)
    with pytest.raises(UserError, match="a/b/loop is a link"):
        refuse_links(tmp_path)
    with pytest.raises(UserError, match="a/b/loop is a link"):
        refuse_links(tmp_path / "a" / "b" / "loop")


def test_a_directory_in_the_place_of_a_file_is_refused_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "fold0" / "best.pt").mkdir(parents=True)
    refuse_links(tmp_path)
    with pytest.raises(UserError, match=r"fold0/best\.pt is a directory in the place of a file; remove it"):
        refuse_links(tmp_path, {"best.pt"})
