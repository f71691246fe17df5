"""From an archive, the network's or the user's own, to a data set's folder: whole and verified, or not at all."""

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


def prepare(dataset: Dataset, store: Path, verified: Callable[[Path], Split]) -> Iterator[str]:
    """Put a data set's files where its YAML expects them.

    A download is judged by its published hash, what a user brings by its content: `verified` reads the files before they
    are given their name, so that no half of a data set is ever found under it.

    Args:
        dataset: where its root is to be, and where its archives come from.
        store: where downloads are kept.
        verified: reads the data set under a folder; raises `UserError` where it is not what it should be.

    Yields:
        What was done, a line each.

    Raises:
        UserError: there is nothing to fetch, or what was fetched is not the data set.
    """
    if dataset.root is None:
        raise UserError(f"dataset/{dataset.name} has no place of its own and nothing to prepare; use `dmlbench data check`")
    root = Path(dataset.root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        if dataset.archive is not None:
            raise UserError(f"dataset.root '{root}' is there already; remove it, or unpack elsewhere with dataset.root=FOLDER")
        verified(root)
        yield f"{root} is there already, and is what it should be"
        return
    archives = _own(dataset.archive) if dataset.archive is not None else []
    if not archives:
        if not dataset.downloads:
            raise UserError(f"dataset/{dataset.name} cannot be downloaded: {dataset.ask or 'its YAML names no address'}")
        archives = [_fetched(entry, store) for entry in dataset.downloads]
        yield f"fetched {', '.join(map(str, archives))}"
    if root.is_dir():
        root.rmdir()  # an empty one
    with atomic_directory(root) as temporary:
        unpack(archives, temporary)
        try:
            verified(temporary)
        except UserError as error:
            said = str(error).replace(str(temporary), "its folder")
            raise UserError(f"{', '.join(map(str, archives))}: {said}; nothing was kept") from error
    yield f"unpacked to {root}"


def _own(archive: str | tuple[str, ...]) -> list[Path]:
    archives = [Path(archive)] if isinstance(archive, str) else [Path(one) for one in archive]
    for one in archives:
        if not one.is_file():
            raise UserError(f"dataset.archive is '{one}', which {'is a folder' if one.is_dir() else 'does not exist'}")
    return archives


def _fetched(entry: dict[str, str], store: Path) -> Path:
    url = entry["url"]
    file = store / Path(urlsplit(url).path).name
    hashes = {name: digits for name, digits in entry.items() if name != "url"}
    download(url, file, hashes, otherwise="name an archive that you have with dataset.archive=FILE")
    return file
