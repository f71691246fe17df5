"""Files and directories are complete or absent, also after a crash or a power failure."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from dmlbench.system import atomic_write as module
from dmlbench.system.atomic_write import Content, DiskFullError, atomic_directory, atomic_write, remove_stale_temporaries


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


def _die(out: BinaryIO) -> None:
    out.write(b"half")
    out.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def _write_file_and_die(path: Path) -> None:
    atomic_write(path, _die)


def _fill_directory_and_die(path: Path) -> None:
    with atomic_directory(path) as temporary:
        atomic_write(temporary / "inner" / "file", _die)


def run_until_killed(target: Callable[[Path], None], path: Path) -> None:
    writer = multiprocessing.get_context("fork").Process(target=target, args=(path,))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -signal.SIGKILL


def test_the_next_write_of_the_same_file_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    run_until_killed(_write_file_and_die, tmp_path / "file")
    run_until_killed(_fill_directory_and_die, tmp_path / "data")
    atomic_write(tmp_path / "file", "new")
    with atomic_directory(tmp_path / "data"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["data", "file"]


def test_a_writer_that_is_killed_leaves_the_old_file_complete(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    run_until_killed(_write_file_and_die, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "old"
    # The temporary file of a killed process is hidden and is never read under the name of the file.
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == ["file"]


def test_what_killed_writes_leave_is_found_and_removed_at_every_depth(tmp_path: Path) -> None:
    run_until_killed(_write_file_and_die, tmp_path / "run" / "fold0" / "checkpoint.pt")
    run_until_killed(_fill_directory_and_die, tmp_path / "run" / "data")
    (tmp_path / "run" / f".model.pt.{os.getpid()}.tmp").touch()  # of an earlier version, in a container with the same number
    [in_fold] = (tmp_path / "run" / "fold0").iterdir()
    removed = remove_stale_temporaries(tmp_path)
    assert in_fold in removed
    assert len(removed) == 3
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "fold0"]
    assert remove_stale_temporaries(tmp_path / "missing") == []


def test_temporary_files_below_are_kept_if_only_the_directory_itself_is_searched(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "inner"):
        folder.mkdir(exist_ok=True)
        (folder / ".file.12345678.tmp").touch()
    assert remove_stale_temporaries(tmp_path, recursive=False) == [tmp_path / ".file.12345678.tmp"]
    assert os.listdir(tmp_path / "inner") == [".file.12345678.tmp"]


def test_the_temporary_files_of_a_running_process_are_kept(tmp_path: Path) -> None:
    def write(out: BinaryIO) -> None:
        out.write(b"half")
        assert remove_stale_temporaries(tmp_path) == []
        out.write(b" and half")

    with atomic_directory(tmp_path / "data") as temporary:
        atomic_write(temporary / "file", write)
        assert remove_stale_temporaries(tmp_path) == []
    atomic_write(tmp_path / "file", write)
    assert (tmp_path / "data" / "file").read_text() == (tmp_path / "file").read_text() == "half and half"


def test_a_write_starts_again_if_its_new_temporary_file_was_taken_for_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch, n_removed = Path.touch, []

    def touch_and_remove(self: Path, exist_ok: bool = True) -> None:
        touch(self, exist_ok=exist_ok)
        if not n_removed:
            n_removed.extend(remove_stale_temporaries(tmp_path))

    monkeypatch.setattr(Path, "touch", touch_and_remove)
    atomic_write(tmp_path / "file", "text")
    assert len(n_removed) == 1
    assert os.listdir(tmp_path) == ["file"]


def test_links_and_files_with_other_names_are_never_removed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / ".a.12345678.tmp").touch()
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".b.12345678.tmp").symlink_to(tmp_path / "outside")
    (folder / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / ".c.12345678.tmp")
    for name in (".row.json.tmp", "a.12345678.tmp", ".a.12345678", ".12345678.tmp"):
        (folder / name).touch()
    before = sorted(tmp_path.rglob("*"))
    assert remove_stale_temporaries(folder) == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_in_place_of_the_temporary_file_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").write_text("content")

    class Name:
        hex = "0" * 8

    monkeypatch.setattr(module, "uuid4", Name)
    (tmp_path / ".file.00000000.tmp").symlink_to("victim")
    with pytest.raises(FileExistsError):
        atomic_write(tmp_path / "file", "new")
    assert (tmp_path / "victim").read_text() == "content"


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Writing more than 10,000 bytes to a file fails, as on a full disk."""
    previous = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, previous[0][1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, previous[0])
    signal.signal(signal.SIGXFSZ, previous[1])


@pytest.mark.parametrize(
    ("content", "need"),
    [
        ("x" * 20_000, "20,000"),
        (b"x" * 20_000, "20,000"),
        (lambda out: torch.save({"weights": torch.zeros(5_000)}, out), r"2\d,\d\d\d"),
        (lambda out: np.save(out, np.zeros(2_500)), "20,128"),
    ],
    ids=["text", "bytes", "torch", "numpy"],
)
@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_one_sentence_with_the_file_and_the_space_that_it_needs(
    tmp_path: Path, content: Content, need: str
) -> None:
    sentence = rf"/file cannot be written: File too large; it needs at least {need} bytes, and [\d,]+ are free$"
    with pytest.raises(DiskFullError, match=sentence) as caught:
        atomic_write(tmp_path / "file", content)
    assert caught.value.errno == errno.EFBIG
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_while_a_directory_is_filled_names_the_directory(tmp_path: Path) -> None:
    sentence = r"/data cannot be written: No space left on device; [\d,]+ bytes are free$"
    with pytest.raises(DiskFullError, match=sentence), atomic_directory(tmp_path / "data"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_another_error_of_the_system_names_the_file(tmp_path: Path) -> None:
    def fail(out: BinaryIO) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="Input/output error") as caught:
        atomic_write(tmp_path / "file", fail)
    assert caught.value.filename == str(tmp_path / "file")


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
