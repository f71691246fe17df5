"""Unpack the archives of a data set, downloaded or provided by the user, into its directory: complete and verified, or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from dmlbench.config.schema import Dataset
from dmlbench.data.archive import unpack
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.system.atomic_write import atomic_directory
from dmlbench.system.download import download


def prepare(dataset: Dataset, store: Path, load: Callable[[Path], Split]) -> Iterator[str]:
    """Unpack the files of a data set into `dataset.root`.

    A download is verified by its published hash, an archive of the user by its content: `load` reads the unpacked files
    before their directory gets its final name, so that an incomplete data set never has this name.

    Args:
        dataset: Data set, with its root, and its archives or downloads.
        store: Directory in which downloads are kept.
        load: Reads the data set in a directory, and raises `UserError` if it is incomplete or another data set.

    Yields:
        One line per completed step.

    Raises:
        UserError: There is nothing to download or to unpack, or the unpacked files are not the data set.
    """
    if dataset.root is None:
        raise UserError(
            f"dataset/{dataset.name} has no dataset.root, so there is nothing to prepare; use `dmlbench data check`"
        )
    root = Path(dataset.root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        if dataset.archive is not None:
            raise UserError(
                f"dataset.root '{root}' exists already; remove it, or unpack into another directory with dataset.root=DIRECTORY"
            )
        load(root)
        yield f"{root} exists already, and was verified"
        return
    archives = _archives_of_user(dataset.archive) if dataset.archive is not None else []
    if not archives:
        if not dataset.downloads:
            reason = dataset.ask or "its configuration file lists no downloads"
            raise UserError(f"dataset/{dataset.name} cannot be downloaded: {reason}")
        archives = [_download(entry, store) for entry in dataset.downloads]
        yield f"downloaded {', '.join(map(str, archives))}"
    if root.is_dir():
        root.rmdir()  # it is empty
    with atomic_directory(root) as temporary:
        unpack(archives, temporary)
        try:
            load(temporary)
        except UserError as error:
            message = str(error).replace(f"{temporary}/", "").replace(str(temporary), "the unpacked archive")
            raise UserError(f"{', '.join(map(str, archives))}: {message}; the unpacked files were removed") from error
    yield f"unpacked to {root}"


def _archives_of_user(archive: str | tuple[str, ...]) -> list[Path]:
    archives = [Path(archive)] if isinstance(archive, str) else [Path(one) for one in archive]
    for one in archives:
        if not one.is_file():
            problem = "is a directory, not a file" if one.is_dir() else "does not exist"
            raise UserError(f"dataset.archive is '{one}', which {problem}")
    return archives


def _download(entry: dict[str, str], store: Path) -> Path:
    url = entry["url"]
    name = Path(urlsplit(url).path).name
    if name in ("", ".."):
        raise UserError(f"the address {url} does not end in the name of a file")
    file = store / name
    hashes = {algorithm: digest for algorithm, digest in entry.items() if algorithm != "url"}
    download(url, file, hashes, otherwise="use an archive that you have with dataset.archive=FILE")
    return file
