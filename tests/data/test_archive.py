"""Archives are unpacked completely or not at all, and never write outside the target directory."""

from __future__ import annotations

import errno
import io
import os
import random
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dmlbench.data import archive
from dmlbench.data.archive import unpack
from dmlbench.errors import UserError
from dmlbench.system.atomic_write import atomic_directory


def make_tar(file: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(file, mode) as made:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return file


def make_zip(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
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


def assert_refused(tmp_path: Path, file: Path, match: str) -> None:
    """Unpacking is refused in one printable sentence, and the parent of the target is left as it was."""
    (tmp_path / "inner").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=match) as refusal:
        unpack_into(tmp_path / "inner" / "out", file)
    assert str(refusal.value).isprintable()
    assert list((tmp_path / "inner").iterdir()) == []


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize("member", ["../escaped.txt", "/absolute/escaped.txt", "top/../../escaped.txt", "top/.."])
def test_a_member_outside_the_directory_is_refused_by_name_and_nothing_is_left(
    make: Callable[[Path, dict[str, bytes]], Path], member: str, tmp_path: Path
) -> None:
    file = make(tmp_path / ("a.tgz" if make is make_tar else "a.zip"), {"top/fine.txt": b"1", member: b"2"})
    assert_refused(tmp_path, file, rf"is refused: the path of its member '{member}' leads outside the directory")
    assert not list(tmp_path.rglob("escaped.txt"))


def add_member(made: tarfile.TarFile, name: str, kind: bytes, target: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    made.addfile(info)


@pytest.mark.parametrize(
    ("kind", "noun"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.FIFOTYPE, "neither a file nor a directory"),
        (tarfile.CHRTYPE, "neither a file nor a directory"),
        (tarfile.BLKTYPE, "neither a file nor a directory"),
        (tarfile.GNUTYPE_SPARSE, "neither a file nor a directory"),
        (b"Z", "neither a file nor a directory"),
    ],
)
def test_a_tar_file_with_anything_but_files_and_directories_is_refused(kind: bytes, noun: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        add_member(made, "top", tarfile.DIRTYPE)
        add_member(made, "top/one", kind, "two")  # also a link that stays inside
    assert_refused(tmp_path, tmp_path / "a.tar", f"is refused: its member 'top/one' is {noun}")


def test_a_zip_file_with_a_link_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        link = zipfile.ZipInfo("top/one")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, "two")
    assert_refused(tmp_path, tmp_path / "a.zip", "is refused: its member 'top/one' is a link")


def test_links_beyond_the_longest_path_write_nothing_outside(tmp_path: Path) -> None:
    """CVE-2025-4517: `os.path.realpath` stops at PATH_MAX, so the filter of tarfile takes a path outside for one inside."""
    outside = tmp_path / "outside.txt"
    outside.write_text("before")
    name, steps, path = "d" * 247, "abcdefghijklmnop", ""
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        for step in steps:
            add_member(made, os.path.join(path, name), tarfile.DIRTYPE)
            add_member(made, os.path.join(path, step), tarfile.SYMTYPE, name)
            path = os.path.join(path, name)
        long = os.path.join("/".join(steps), "l" * 254)
        add_member(made, long, tarfile.SYMTYPE, "../" * len(steps))
        add_member(made, "escape", tarfile.SYMTYPE, f"{long}/../../../{outside.name}")
        add_member(made, "flag", tarfile.LNKTYPE, "escape")
        info = tarfile.TarInfo("flag")
        info.size = 5
        made.addfile(info, io.BytesIO(b"after"))
    assert_refused(tmp_path, tmp_path / "a.tar", "is a link")
    assert outside.read_text() == "before"


def test_a_directory_that_is_a_link_already_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "top").symlink_to(tmp_path)
    with pytest.raises(UserError, match="the path of its member 'top/one' leads outside the directory"):
        unpack([make_tar(tmp_path / "a.tar", {"top/one": b"1"}, "w")], tmp_path / "out")
    assert not (tmp_path / "one").exists()


def test_a_zip_file_that_unpacks_to_much_more_than_its_size_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MIN_TOTAL_BYTES", 2**20)
    file = make_zip(tmp_path / "a.zip", {"top/fine": b"1", "top/bomb": bytes(8 * 2**20)})
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"its members have 8,388,609 bytes in total.*at most 1,048,576 bytes are unpacked"):
        unpack([file], tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_a_tar_file_that_unpacks_to_much_more_than_its_size_is_refused_at_the_member_that_exceeds_the_limit(
    compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MIN_TOTAL_BYTES", 2**20)
    file = make_tar(tmp_path / f"a.tar.{compression}", {"top/bomb": bytes(8 * 2**20)}, f"w:{compression}")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"at most 1,048,576 bytes are unpacked"):
        unpack([file], tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_an_archive_with_too_many_members_is_refused(
    make: Callable[[Path, dict[str, bytes]], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 10)
    assert_refused(tmp_path, make(tmp_path / "a", {f"{k}": b"" for k in range(11)}), "has more than 10 members")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
@pytest.mark.parametrize("size", [2**34, -(2**20)])
def test_a_tar_header_of_an_absurd_size_is_refused_without_being_read(kind: bytes, size: int, tmp_path: Path) -> None:
    """CVE-2025-8194: a negative size is an endless loop; a large one would be read into memory."""
    info = tarfile.TarInfo("top")
    info.type = kind
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (size % 256**12).to_bytes(12, "big") if size < 0 else b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(20 * 512))
    assert_refused(tmp_path, tmp_path / "a.tar", "is damaged or (truncated|not an archive)|header")


def test_names_of_members_are_printed_without_control_characters(tmp_path: Path) -> None:
    file = make_tar(tmp_path / "a.tar", {"../\x1b]0;title\x07\x9b31m\n" + "x" * 900: b""}, "w")
    assert_refused(tmp_path, file, r"is refused: the path of its member '\.\./\\x1b\]0;title\\x07\\x9b31m\\nx{50,150}\.\.\.'")


def test_members_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    sentence = r"\.tar is refused: it contains 'a' as a file and as a directory; get another archive$"
    assert_refused(tmp_path, make_tar(tmp_path / "a.tar", {"a": b"", "a/b": b""}, "w"), sentence)
    assert_refused(tmp_path, make_tar(tmp_path / "b.tar", {"a/b": b"", "a": b""}, "w"), sentence)
    assert_refused(tmp_path, make_tar(tmp_path / "c.tar", {"x" * 300: b""}, "w"), "cannot be unpacked .*: File name too long$")


def test_a_member_that_is_repeated_replaces_the_first_as_in_an_updated_archive(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        for content in (b"first", b"2"):
            info = tarfile.TarInfo("top/one")
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    unpack_into(tmp_path / "out", tmp_path / "a.tar")
    assert (tmp_path / "out/top/one").read_bytes() == b"2"


def test_files_are_written_without_the_permissions_of_the_archive(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        info = tarfile.TarInfo("one")
        info.mode = 0o6777
        made.addfile(info)
    unpack_into(tmp_path / "out", tmp_path / "a.tar")
    assert stat.S_IMODE((tmp_path / "out/one").stat().st_mode) & 0o7111 == 0


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
