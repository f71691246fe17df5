"""Archives: unpacked beside their place and renamed when whole; no member leaves the folder."""

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

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, LZMAError, OSError, RuntimeError)


def unpack(archives: Sequence[Path], folder: Path) -> None:
    """Unpack archives, one into the other's midst, into a folder.

    Args:
        archives: tar (plain, gzip, bzip2, xz) or zip; a file of another suffix is copied as it is.
        folder: exists.

    Raises:
        UserError: an archive is damaged, no archive, or has a member that would lie outside the folder; names both.
    """
    for archive in archives:
        try:
            _unpack_one(archive, folder)
        except UserError:
            raise
        except _BROKEN as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's doing, not the archive's
                raise UserError(
                    f"{archive} cannot be unpacked into {folder.parent}: {error.strerror}; make room, or give another "
                    "place with paths.data=FOLDER"
                ) from error
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{archive} is damaged or cut short ({reason}); remove it and get it again") from error


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
                    raise UserError(_climbs(archive, member.name)) from error
    elif archive.suffix.lower() in (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz"):
        raise UserError(f"{archive} is damaged or no archive: its content is neither tar nor zip; remove it and get it again")
    else:
        shutil.copyfile(archive, folder / archive.name)


def _unpack_zip(archive: Path, file: zipfile.ZipFile, folder: Path) -> None:
    members = file.infolist()
    for member in members:  # all of them before the first is written
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
            raise UserError(_climbs(archive, member.filename))
        if member.flag_bits & 1:
            raise UserError(f"{archive} asks for a password; unpack it by hand and name the folder with dataset.root=FOLDER")
    for member in tqdm(members, unit="file", disable=None, desc=f"unpack {archive.name}", leave=False):
        file.extract(member, folder)


def _climbs(archive: Path, member: str) -> str:
    return f"{archive} is refused: its member '{member}' would lie outside the folder it is unpacked into"
