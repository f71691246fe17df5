"""Directories of small images, which are noise around a colour of their class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_photos(
    root: Path,
    classes: int = 8,
    per_class: int = 5,
    seed: int = 0,
    name: str = "class{:02}",
    colours: tuple[int, int] = (0, 255),
    noise: int = 50,
    tint: int = 0,
) -> Path:
    """Write `classes` directories of PNG images of 24 x 24 pixels, and return the directory that contains them.

    The colour of a class is drawn from `colours`. Each image differs from it by at most `tint`, each pixel by at most `noise`.
    """
    generator = np.random.default_rng(seed)
    for label in range(classes):
        folder = root / name.format(label)
        folder.mkdir(parents=True)
        colour = generator.integers(*colours, 3, endpoint=True)
        for k in range(per_class):
            pixels = colour + generator.integers(-noise, noise, (24, 24, 3), endpoint=True)
            if tint:
                pixels += generator.integers(-tint, tint, 3, endpoint=True)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{k}.png")
    return root
