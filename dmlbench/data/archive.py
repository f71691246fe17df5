"""Unpack archives: regular files and directories only, inside the target directory, of bounded number and size."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from dmlbench.errors import UserError
from dmlbench.system.atomic_write import DISK_FULL

MAX_MEMBERS = 1_000_000  # the largest published data set here has 120,053 images
# Images hardly compress: an archive that unpacks to many times its size is not a data set.
MAX_GROWTH = 20
MIN_TOTAL_BYTES = 2**30  # allowed for any archive, because lists and annotations compress well
MAX_HEADER_BYTES = 2**20  # long names and extended headers, which tarfile reads into memory
MAX_SHOWN_NAME = 120


@dataclass(frozen=True)
class _Member:
    """One member of an archive.

    Args:
        name: Path in the archive, with forward slashes.
        kind: `file`, `directory`, `a link`, or another noun phrase for what is refused.
        size: Bytes of the unpacked file.
        open: Opens the content.
    """

    name: str
    kind: str
    size: int
    open: Callable[[], IO[bytes] | None]


def unpack(archives: Sequence[Path], folder: Path) -> None:
    """Unpack archives into one directory.

    Only regular files and directories are created, with default permissions. Links of any kind, devices and FIFOs are refused:
    without links, a path that is inside the directory by its parts cannot lead out of it.

    Args:
        archives: tar files (plain, gzip, bzip2, xz) or zip files. A file with another suffix is copied.
        folder: Directory to unpack into. It must exist.

    Raises:
        UserError: An archive is missing, damaged, encrypted, not an archive or too large, one of its members is neither a file
            nor a directory or leads outside the directory, or the disk is full.
    """
    for archive in archives:
        if not archive.is_file():
            raise UserError(f"the archive {archive} does not exist")
        try:
            _unpack_one(archive, folder)
        except UserError:
            raise
        except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
            raise UserError(
                f"{archive} is refused: it contains {_quoted(_below(error.filename, folder))} as a file and as a directory; "
                "get another archive"
            ) from error
        except OSError as error:
            if error.errno is None:  # raised by the reader of a compression format
                raise _damaged(archive, error) from error
            raise UserError(_cannot_write(archive, folder, error)) from error
        except Exception as error:  # the readers of archives raise exceptions of many classes on damaged files
            raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> UserError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"{archive} is damaged or truncated ({_printable(reason)}); remove it and get it again")


def _cannot_write(archive: Path, folder: Path, error: OSError) -> str:
    sentence = f"{archive} cannot be unpacked into {folder.parent}: {error.strerror}"
    if error.errno in DISK_FULL:
        sentence += "; free some space, or set another directory with paths.data=DIRECTORY"
    return sentence


def _unpack_one(archive: Path, folder: Path) -> None:
    if zipfile.is_zipfile(archive):
        reader = _read_zip
    elif _is_tar(archive):
        reader = _read_tar
    elif archive.suffix.lower() in (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz"):
        raise UserError(f"{archive} is damaged or not an archive: it is neither tar nor zip; remove it and get it again")
    else:
        shutil.copyfile(archive, folder / archive.name)
        return
    limit = max(MIN_TOTAL_BYTES, MAX_GROWTH * archive.stat().st_size)
    total, root, parents = 0, folder.resolve(), {folder}
    with reader(archive, limit) as members:
        bar = tqdm(members, unit="file", disable=None, desc=f"unpack {archive.name}", leave=False)
        for number, member in enumerate(bar, start=1):
            _refuse_too_many(archive, number)
            target = _target(archive, member, folder)
            total += member.size
            _refuse_too_large(archive, total, limit)
            parent = target if member.kind == "directory" else target.parent
            if parent not in parents:
                parent.mkdir(parents=True, exist_ok=True)
                if not parent.resolve().is_relative_to(root):
                    raise _outside(archive, member)
                parents.add(parent)
            if member.kind == "file":
                _write(member, target)


def _refuse_too_many(archive: Path, count: int) -> None:
    if count > MAX_MEMBERS:
        raise UserError(f"{archive} is refused: it has more than {MAX_MEMBERS:,} members")


def _refuse_too_large(archive: Path, total: int, limit: int) -> None:
    if total > limit:
        raise UserError(
            f"{archive} is refused: its members have {total:,} bytes in total or more, but of an archive of this size at most "
            f"{limit:,} bytes are unpacked; unpack it yourself, and set its directory with dataset.root=DIRECTORY"
        )


def _target(archive: Path, member: _Member, folder: Path) -> Path:
    """Return the path of a member below the target directory, or refuse the member."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise _outside(archive, member)
    if member.kind not in ("file", "directory"):
        raise UserError(
            f"{archive} is refused: its member {_quoted(member.name)} is {member.kind}; only files and directories are unpacked"
        )
    return folder / path


def _outside(archive: Path, member: _Member) -> UserError:
    return UserError(f"{archive} is refused: the path of its member {_quoted(member.name)} leads outside the directory")


def _write(member: _Member, target: Path) -> None:
    content = member.open()
    assert content is not None
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file, 2**20)


def _quoted(name: str) -> str:
    """Return a name of a member in quotes, shortened, with escape sequences for control characters."""
    return repr(name if len(name) <= MAX_SHOWN_NAME else f"{name[:MAX_SHOWN_NAME]}...")


def _below(path: object, folder: Path) -> str:
    """The path of a member within the target directory."""
    return str(path).removeprefix(f"{folder}{os.sep}")


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


# ---- zip


@contextmanager
def _read_zip(archive: Path, limit: int) -> Iterator[Iterator[_Member]]:
    with zipfile.ZipFile(archive) as file:
        entries = file.infolist()
        _refuse_too_many(archive, len(entries))
        _refuse_too_large(archive, sum(entry.file_size for entry in entries), limit)
        members = [_zip_member(archive, file, entry) for entry in entries]
        for member in members:  # all members are checked before the first is written
            _target(archive, member, Path())
        yield iter(members)


def _zip_member(archive: Path, file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> _Member:
    if entry.flag_bits & 1:
        raise UserError(f"{archive} is encrypted; unpack it yourself, and set its directory with dataset.root=DIRECTORY")
    mode = stat.S_IFMT(entry.external_attr >> 16)
    if stat.S_ISLNK(mode):
        kind = "a link"
    elif entry.is_dir():
        kind = "directory"
    else:
        kind = "file" if mode in (0, stat.S_IFREG) else "neither a file nor a directory"
    return _Member(entry.filename.replace("\\", "/"), kind, entry.file_size, lambda: file.open(entry))


# ---- tar


class _TarHeader(tarfile.TarInfo):
    """A header that is checked before tarfile follows it: sizes may be negative, or those of a file in memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        metadata = self.type in (
            *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
            *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
        )
        if self.size < 0 or (metadata and self.size > MAX_HEADER_BYTES):
            raise tarfile.ReadError(f"a header declares {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]  # not in the type stubs


def _open_tar(archive: Path) -> tarfile.TarFile:
    # A stream is only read forwards, so no header can make the reader run in circles.
    return tarfile.open(archive, "r|*", bufsize=2**20, tarinfo=_TarHeader)


def _is_tar(archive: Path) -> bool:
    try:
        _open_tar(archive).close()
    except (tarfile.TarError, EOFError):
        return False
    return True


@contextmanager
def _read_tar(archive: Path, limit: int) -> Iterator[Iterator[_Member]]:
    with _open_tar(archive) as file:
        yield (_tar_member(file, entry) for entry in file)


def _tar_member(file: tarfile.TarFile, entry: tarfile.TarInfo) -> _Member:
    if entry.issym() or entry.islnk():
        kind = "a link"
    elif entry.isdir():
        kind = "directory"
    else:
        kind = "file" if entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not entry.issparse() else ""
    return _Member(entry.name, kind or "neither a file nor a directory", entry.size, lambda: file.extractfile(entry))
