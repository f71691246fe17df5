"""Unpack archives. Members that would be written outside the target directory are refused."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from dmlbench.errors import UserError

# What the standard library raises on damaged archives.
_UNPACKING_ERRORS = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, LZMAError, OSError, RuntimeError)


def unpack(archives: Sequence[Path], folder: Path) -> None:
    """Unpack archives into one directory.

    Args:
        archives: tar files (plain, gzip, bzip2, xz) or zip files. A file with another suffix is copied.
        folder: Directory to unpack into. It must exist.

    Raises:
        UserError: An archive is missing, damaged, encrypted or not an archive, one of its members would be written outside
            the directory, or the disk is full.
    """
    for archive in archives:
        try:
            _unpack_one(archive, folder)
        except UserError:
            raise
        except _UNPACKING_ERRORS as error:
            if isinstance(error, OSError) and error.errno is not None:  # a problem of the disk, not of the archive
                raise UserError(
                    f"{archive} cannot be unpacked into {folder.parent}: {error.strerror}; free some space, or set another "
                    "directory with paths.data=DIRECTORY"
                ) from error
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{archive} is damaged or truncated ({reason}); remove it and get it again") from error


def _unpack_one(archive: Path, folder: Path) -> None:
    if not archive.is_file():
        raise UserError(f"the archive {archive} does not exist")
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            _unpack_zip(archive, file, folder)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as file:
            for member in tqdm(file, unit="file", disable=None, desc=f"unpack {archive.name}", leave=False):
                try:
                    file.extract(member, folder, filter="data")
                except tarfile.FilterError as error:
                    raise UserError(_outside(archive, member.name)) from error
    elif archive.suffix.lower() in (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz"):
        raise UserError(f"{archive} is damaged or not an archive: it is neither tar nor zip; remove it and get it again")
    else:
        shutil.copyfile(archive, folder / archive.name)


def _unpack_zip(archive: Path, file: zipfile.ZipFile, folder: Path) -> None:
    members = file.infolist()
    for member in members:  # all members are checked before the first is written
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
            raise UserError(_outside(archive, member.filename))
        if member.flag_bits & 1:
            raise UserError(f"{archive} is encrypted; unpack it yourself, and set its directory with dataset.root=DIRECTORY")
    for member in tqdm(members, unit="file", disable=None, desc=f"unpack {archive.name}", leave=False):
        file.extract(member, folder)


def _outside(archive: Path, member: str) -> str:
    return f"{archive} is refused: its member '{member}' would be written outside the directory that it is unpacked into"
