"""Files and directories are complete or absent, also after a crash or a power failure."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import BinaryIO

import pytest

from dmlbench.system.atomic_write import Content, atomic_directory, atomic_write


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Größe\n", "Größe\n".encode()),
        (b"\x00\xff", b"\x00\xff"),
        (lambda file: file.write(b"from a function"), b"from a function"),
    ],
    ids=["text", "bytes", "function"],
)
def test_content_is_text_bytes_or_a_function(tmp_path: Path, content: Content, expected: bytes) -> None:
    atomic_write(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == expected
    assert os.listdir(tmp_path) == ["file"]


def test_parent_directories_are_created(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a" / "b" / "file", "x")
    assert (tmp_path / "a" / "b" / "file").read_text() == "x"


def test_a_file_is_replaced_by_its_new_content(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", "a long old text")
    atomic_write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_a_reader_sees_the_old_content_until_the_new_content_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    seen = []

    def write_in_parts(out: BinaryIO) -> None:
        out.write(b"first half, ")
        out.flush()
        seen.append(file.read_text())
        out.write(b"second half")

    atomic_write(file, write_in_parts)
    assert seen == ["old"]
    assert file.read_text() == "first half, second half"


def test_a_failed_write_leaves_the_old_file_and_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")

    def fail(out: BinaryIO) -> None:
        out.write(b"half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left on device"):
        atomic_write(tmp_path / "file", fail)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_write_that_is_interrupted_before_the_rename_leaves_the_old_file_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")

    def interrupt(self: Path, target: Path) -> None:
        assert self.read_text() == "new"  # the temporary file is complete
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "file", "new")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def _write_and_die(file: Path) -> None:
    def die(out: BinaryIO) -> None:
        out.write(b"half")
        out.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    atomic_write(file, die)


def test_a_writer_that_is_killed_leaves_the_old_file_complete(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    writer = multiprocessing.get_context("fork").Process(target=_write_and_die, args=(tmp_path / "file",))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -signal.SIGKILL
    assert (tmp_path / "file").read_text() == "old"
    # The temporary file of a killed process is hidden and is never read under the name of the file.
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == ["file"]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synchronised and renamed, in order."""
    found: list[str] = []
    fsync, replace, rename = os.fsync, Path.replace, Path.rename

    def record_fsync(descriptor: int) -> None:
        found.append(f"fsync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")
        fsync(descriptor)

    def record_replace(self: Path, target: Path) -> Path:
        found.append(f"rename {self.name} to {target.name}")
        return replace(self, target)

    def record_rename(self: Path, target: Path) -> Path:
        found.append(f"rename {self.name} to {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    monkeypatch.setattr(Path, "rename", record_rename)
    return found


def test_data_are_synchronised_before_the_rename_and_the_directory_after_it(tmp_path: Path, events: list[str]) -> None:
    atomic_write(tmp_path / "runs" / "file", "x")
    synced, renamed, directory = events
    temporary = synced.removeprefix("fsync ")
    assert temporary not in ("file", "runs")
    assert renamed == f"rename {temporary} to file"
    assert directory == "fsync runs"


def test_all_data_are_in_the_file_when_it_is_synchronised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, fsync = [], os.fsync

    def record_size(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record_size)
    atomic_write(tmp_path / "file", lambda out: out.write(b"x" * 10))  # smaller than the buffer of the file
    assert sizes[0] == 10


def test_a_directory_gets_its_name_when_the_block_ends(tmp_path: Path, events: list[str]) -> None:
    with atomic_directory(tmp_path / "parent" / "data") as temporary:
        (temporary / "file").write_text("x")
        assert temporary.parent == tmp_path / "parent"
        assert not (tmp_path / "parent" / "data").exists()
    assert (tmp_path / "parent" / "data" / "file").read_text() == "x"
    assert os.listdir(tmp_path / "parent") == ["data"]
    assert events == [f"rename {temporary.name} to data", "fsync parent"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_a_failed_block_wrote_is_removed(tmp_path: Path, error: type[BaseException]) -> None:
    def write_and_fail() -> None:
        with atomic_directory(tmp_path / "data") as temporary:
            (temporary / "inner").mkdir()
            (temporary / "inner" / "file").write_text("half")
            raise error

    with pytest.raises(error):
        write_and_fail()
    assert os.listdir(tmp_path) == []


def test_a_directory_that_exists_and_has_content_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("old")
    with pytest.raises(OSError, match="not empty"), atomic_directory(tmp_path / "data") as temporary:
        (temporary / "file").write_text("new")
    assert os.listdir(tmp_path) == ["data"]
    assert (tmp_path / "data" / "file").read_text() == "old"
