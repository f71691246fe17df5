"""Archives are unpacked completely or not at all, and never write outside the target directory."""

from __future__ import annotations

import errno
import io
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dmlbench.data.archive import unpack
from dmlbench.errors import UserError
from dmlbench.system.atomic_write import atomic_directory


def make_tar(file: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(file, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def make_zip(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def unpack_into(folder: Path, *archives: Path) -> None:
    with atomic_directory(folder) as temporary:
        unpack(archives, temporary)


def noise(n: int) -> bytes:
    return random.Random(0).randbytes(n)


@pytest.mark.parametrize("name", ["a.tar", "a.tgz", "a.tar.bz2", "a.tar.xz", "a.zip"])
def test_tar_and_zip_files_of_any_compression_are_unpacked(name: str, tmp_path: Path) -> None:
    modes = {"a.tar": "w", "a.tgz": "w:gz", "a.tar.bz2": "w:bz2", "a.tar.xz": "w:xz"}
    members = {"top/one.txt": b"1", "top/in/two.txt": b"2"}
    file = make_zip(tmp_path / name, members) if name == "a.zip" else make_tar(tmp_path / name, members, modes[name])
    unpack_into(tmp_path / "out", file)
    assert {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*.txt")
    } == members


def test_several_archives_and_a_plain_file_are_unpacked_into_one_directory(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("x")
    unpack_into(
        tmp_path / "out",
        make_zip(tmp_path / "a.zip", {"img/a": b"1"}),
        make_tar(tmp_path / "b.tgz", {"img/b": b"2"}),
        tmp_path / "list.txt",
    )
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == ["a", "b", "list.txt"]


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize("member", ["../escaped.txt", "/absolute/escaped.txt", "top/../../escaped.txt"])
def test_a_member_outside_the_directory_is_refused_by_name_and_nothing_is_left(
    make: Callable[[Path, dict[str, bytes]], Path], member: str, tmp_path: Path
) -> None:
    file = make(tmp_path / ("a.tgz" if make is make_tar else "a.zip"), {"top/fine.txt": b"1", member: b"2"})
    if make is make_tar and member.startswith("/"):
        unpack_into(tmp_path / "inner" / "out", file)  # tar's own rule: a leading slash is removed
        assert (tmp_path / "inner" / "out" / member.lstrip("/")).is_file()
        return
    with pytest.raises(UserError, match=r"is refused: its member '.*escaped\.txt' would be written outside"):
        unpack_into(tmp_path / "inner" / "out", file)
    assert list((tmp_path / "inner").iterdir()) == []
    assert not list(tmp_path.rglob("escaped.txt"))


def test_a_link_to_the_outside_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../secret"
        archive.addfile(link)
    with pytest.raises(UserError, match="would be written outside"):
        unpack_into(tmp_path / "out", tmp_path / "a.tar")


def test_an_encrypted_zip_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = make_zip(tmp_path / "a.zip", {"top/a.bin": b"1"})
    content = bytearray(file.read_bytes())
    content[6] |= 1  # the flag of encryption, in the header of the member
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory of the archive
    file.write_bytes(content)
    with pytest.raises(
        UserError, match=r"is encrypted; unpack it yourself, and set its directory with dataset\.root=DIRECTORY"
    ):
        unpack_into(tmp_path / "out", file)


@pytest.mark.parametrize("name", ["a.tgz", "a.zip"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.95])
def test_a_truncated_archive_is_refused_and_nothing_is_left(name: str, share: float, tmp_path: Path) -> None:
    members = {f"top/{k}.bin": noise(3000) for k in range(30)}
    file = make_zip(tmp_path / name, members) if name == "a.zip" else make_tar(tmp_path / name, members)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"is damaged or (truncated|not an archive).*get it again"):
        unpack_into(tmp_path / "inner" / "out", file)
    assert list((tmp_path / "inner").iterdir()) == []


def test_a_damaged_member_is_detected(tmp_path: Path) -> None:
    file = make_zip(tmp_path / "a.zip", {"top/a.bin": noise(5000)})
    content = bytearray(file.read_bytes())
    content[1000] ^= 255
    file.write_bytes(content)
    with pytest.raises(UserError, match="is damaged or truncated"):
        unpack_into(tmp_path / "out", file)


def test_a_full_disk_is_not_reported_as_a_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make_zip(tmp_path / "a.zip", {"top/a.bin": noise(5000)})

    def disk_full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", disk_full)
    with pytest.raises(UserError, match=r"cannot be unpacked into .*: No space left on device; free some space"):
        unpack_into(tmp_path / "inner" / "out", file)
    assert list((tmp_path / "inner").iterdir()) == []
