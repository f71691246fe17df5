"""Hashing the contents of a directory of 10,000 images, relative to reading them, and to decoding them once.

The files are read from the disk: they are dropped from the page cache before each round. From the page cache, reading is a copy
in memory, which no hash can follow; that ratio is printed too.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.photos import write_photos
from benchmarks.timing import alternate, wall_seconds
from dmlbench.data.contents import hash_contents
from dmlbench.data.datasets.image_folder import folder
from dmlbench.data.images import read_image

N_PHOTOS = 100  # different images, which are copied


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the ratios.

    Args:
        quick: Use few images and one round.
        overrides: Not used.
    """
    rounds, copies = (1, 2) if quick else (5, 100)
    with tempfile.TemporaryDirectory() as directory:
        root, store = Path(directory) / "images", Path(directory) / "store"
        for number in range(copies):
            (root / f"{number:03}").mkdir(parents=True)
        for path in write_photos(Path(directory), N_PHOTOS):
            for number in range(copies):
                shutil.copy(path, root / f"{number:03}" / path.name)
        split = folder(str(root))
        paths = split.paths()
        os.sync()
        for name, prepare, limit in (("the disk", _drop_from_page_cache, " (at most 1.2)"), ("the page cache", _read, "")):
            took = alternate(
                rounds,
                read=_after(prepare, paths, lambda: _read(paths)),
                hashed=_after(prepare, paths, lambda: hash_contents(split, store, again=True)),
            )
            speed = f"{len(paths) / took['hashed']:.0f} images/s"
            print(f"contents hashed from {name}: {speed}, {took['hashed'] / took['read']:.2f} x reading{limit}")
        decoded = wall_seconds(lambda: [read_image(path) for path in paths[:N_PHOTOS]]) / N_PHOTOS * len(paths)
        remembered = wall_seconds(lambda: hash_contents(split, store))
        print(f"contents hashed: {took['hashed'] / decoded:.3f} x decoding; remembered: {remembered / decoded:.4f} x decoding")


def _after(prepare: Callable[[Sequence[Path]], None], paths: Sequence[Path], work: Callable[[], object]) -> Callable[[], float]:
    def side() -> float:
        prepare(paths)
        return wall_seconds(work)

    return side


def _drop_from_page_cache(paths: Sequence[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _read(paths: Sequence[Path]) -> None:
    for path in paths:
        with path.open("rb", buffering=0) as file:
            file.read()
