"""Check that a directory of a run or a study contains its own files, before a command writes or removes files there.

Such a directory may come from somebody else. Below a link to another directory, a command would overwrite and remove files that
lie elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from dmlbench.errors import UserError


def refuse_links(directory: Path, files: Collection[str] = ()) -> None:
    """Refuse a directory that is a link, or that contains a link to something other than a file, at any depth.

    A link to a file is harmless, because files are replaced by rename. Links among the parents are followed.

    Args:
        directory: Directory to search. It may be missing.
        files: Names of files, in whose place a directory is refused as well.

    Raises:
        UserError: Says which path is a link or a directory.
    """
    if directory.is_symlink():
        raise UserError(_is_a_link(str(directory)))
    left = [str(directory)]
    while left:  # not os.walk, which calls itself for every level
        try:
            with os.scandir(left.pop()) as found:
                entries = list(found)
        except OSError:  # there is no such directory, or another process has removed it; writing reports other errors
            continue
        for entry in entries:
            if entry.is_symlink():
                if not os.path.isfile(entry.path):
                    raise UserError(_is_a_link(entry.path))
            elif entry.is_dir(follow_symlinks=False):
                if entry.name in files:
                    raise UserError(f"{entry.path} is a directory in the place of a file; remove it")
                left.append(entry.path)


def _is_a_link(path: str) -> str:
    return f"{path} is a link, and a run writes and removes no files behind a link; remove it"
