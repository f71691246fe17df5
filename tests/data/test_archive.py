"""Archives are unpacked whole or not at all, and never beyond their folder."""

from __future__ import annotations

import errno
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from dmlbench.data.archive import new_folder, unpack
from dmlbench.errors import UserError


def tar(file: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(file, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def zipped(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def into(folder: Path, *archives: Path) -> None:
    with new_folder(folder) as temporary:
        unpack(archives, temporary)


def noise(n: int) -> bytes:
    import random

    return random.Random(0).randbytes(n)


@pytest.mark.parametrize("name", ["a.tar", "a.tgz", "a.tar.bz2", "a.tar.xz", "a.zip"])
def test_tar_and_zip_are_unpacked_whatever_their_compression(name: str, tmp_path: Path) -> None:
    modes = {"a.tar": "w", "a.tgz": "w:gz", "a.tar.bz2": "w:bz2", "a.tar.xz": "w:xz"}
    members = {"top/one.txt": b"1", "top/in/two.txt": b"2"}
    file = zipped(tmp_path / name, members) if name == "a.zip" else tar(tmp_path / name, members, modes[name])
    into(tmp_path / "out", file)
    assert {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*.txt")
    } == members


def test_several_archives_and_a_plain_list_become_one_folder(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("x")
    into(
        tmp_path / "out",
        zipped(tmp_path / "a.zip", {"img/a": b"1"}),
        tar(tmp_path / "b.tgz", {"img/b": b"2"}),
        tmp_path / "list.txt",
    )
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == ["a", "b", "list.txt"]


@pytest.mark.parametrize("kind", [tar, zipped])
@pytest.mark.parametrize("member", ["../escaped.txt", "/absolute/escaped.txt", "top/../../escaped.txt"])
def test_a_member_that_climbs_out_is_refused_by_name_and_nothing_is_left(kind, member: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = kind(tmp_path / ("a.tgz" if kind is tar else "a.zip"), {"top/fine.txt": b"1", member: b"2"})
    if kind is tar and member.startswith("/"):
        into(tmp_path / "inner" / "out", file)  # tar's own rule: a leading slash is dropped
        assert (tmp_path / "inner" / "out" / member.lstrip("/")).is_file()
        return
    with pytest.raises(UserError, match=r"is refused: its member '.*escaped\.txt' would lie outside"):
        into(tmp_path / "inner" / "out", file)
    assert list((tmp_path / "inner").iterdir()) == []
    assert not list(tmp_path.rglob("escaped.txt"))


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../secret"
        archive.addfile(link)
    with pytest.raises(UserError, match="would lie outside"):
        into(tmp_path / "out", tmp_path / "a.tar")


@pytest.mark.parametrize("name", ["a.tgz", "a.zip"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.95])
def test_an_archive_that_is_cut_short_is_one_sentence_and_nothing_is_left(name: str, share: float, tmp_path: Path) -> None:
    members = {f"top/{k}.bin": noise(3000) for k in range(30)}
    file = zipped(tmp_path / name, members) if name == "a.zip" else tar(tmp_path / name, members)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"is damaged or (cut short|no archive).*get it again"):
        into(tmp_path / "inner" / "out", file)
    assert list((tmp_path / "inner").iterdir()) == []


def test_a_member_that_is_damaged_is_found(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", {"top/a.bin": noise(5000)})
    content = bytearray(file.read_bytes())
    content[1000] ^= 255
    file.write_bytes(content)
    with pytest.raises(UserError, match="is damaged or cut short"):
        into(tmp_path / "out", file)


def test_a_full_disk_is_told_from_a_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = zipped(tmp_path / "a.zip", {"top/a.bin": noise(5000)})

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(UserError, match=r"cannot be unpacked into .*: No space left on device; make room"):
        into(tmp_path / "inner" / "out", file)
    assert list((tmp_path / "inner").iterdir()) == []
