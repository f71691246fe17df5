"""Pairs of real handwritten digits: 100 classes without a download."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from dmlbench.data.datasets.generated import generated, require_whole
from dmlbench.data.split import Split
from dmlbench.system.seeding import numpy_generator

VERSION = 1  # of what the images show; raised with every change to their pixels or their choice
CANVAS_PX = 36
DIGIT_PX = (16, 28)  # width, height: two of them leave a margin that a crop of 32 px may shift in
TRAIN_CLASSES = 50
# The rarest digit has 174 samples, so 87 in each half, and each stands once at a place in a class.
MOST_IMAGES_PER_CLASS = 87


def digits(root: str, split_seed: int = 0, images_per_class: int = 24) -> Split:
    """Two handwritten digits side by side; the two-digit number is the class.

    Classes 00-49 train, 50-99 are query and gallery. Each digit's samples are divided into a half for the training
    classes and a half for the unseen ones, so no sample stands on both sides. Within a class no sample stands twice at
    the same place, so no image repeats.

    Args:
        root: where generated data sets are kept; the images are written below it at the first call.
        split_seed: of the halves and of the pairs.
        images_per_class: from 2 to 87.

    Returns:
        The split, relative to `root`; the first part of each path tells the generator's version and arguments, so the
        split's digest depends on them.

    Raises:
        UserError: `images_per_class` or `split_seed` is no whole number of its range.

    Source:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998, as bundled with scikit-learn.
    """
    require_whole("digits", "images_per_class", images_per_class, 2, MOST_IMAGES_PER_CLASS)
    require_whole("digits", "split_seed", split_seed, 0, 2**63 - 1)
    arguments = {"version": VERSION, "split_seed": split_seed, "images_per_class": images_per_class}
    folder, listing = generated(
        Path(root), "digits", arguments, partial(_generate, split_seed=split_seed, images_per_class=images_per_class)
    )
    classes = listing["path"].str.split("/").str[0]
    label = classes.astype(np.int64)
    train = label < TRAIN_CLASSES
    frame = pd.DataFrame(
        {
            "path": f"{folder}/" + listing["path"],
            "label": label,
            "class_name": classes,
            "train": train,
            "val": False,
            "query": ~train,
            "gallery": ~train,
        }
    )
    return Split(frame, Path(root), notes=("classes 00-49 train, 50-99 are unseen; no source digit is on both sides",))


def _generate(folder: Path, split_seed: int, images_per_class: int) -> pd.DataFrame:
    from sklearn.datasets import load_digits  # takes longer to import than everything else here takes to run

    bunch = load_digits()
    halves = [_halves(bunch.target, digit, split_seed) for digit in range(10)]
    lines = []
    for number in range(100):
        side = 0 if number < TRAIN_CLASSES else 1
        left, right = halves[number // 10][side], halves[number % 10][side]
        (folder / f"{number:02d}").mkdir()
        for index, pair in enumerate(_pairs(left, right, images_per_class, split_seed, number)):
            path = f"{number:02d}/{index:02d}.png"
            _side_by_side(bunch.images[list(pair)]).save(folder / path)
            lines.append((path, *pair))
    return pd.DataFrame(lines, columns=["path", "left", "right"])


def _halves(target: np.ndarray, digit: int, split_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The samples of one digit, those for the training classes and those for the unseen."""
    samples = numpy_generator(split_seed, "digits_halves", digit).permutation(np.flatnonzero(target == digit))
    return samples[: len(samples) // 2], samples[len(samples) // 2 :]


def _pairs(left: np.ndarray, right: np.ndarray, count: int, split_seed: int, number: int) -> list[tuple[int, int]]:
    """Samples for the left and the right place of a class's images, none twice at its place."""
    generator = numpy_generator(split_seed, "digits_pairs", number)
    lefts = generator.permutation(left)
    # A doubled digit draws both places from one half: half a turn away, no sample meets itself.
    rights = np.roll(lefts, len(lefts) // 2) if number % 11 == 0 else generator.permutation(right)
    return [(int(one), int(other)) for one, other in zip(lefts[:count], rights[:count], strict=True)]


def _side_by_side(pair: np.ndarray) -> Image.Image:
    """Draw two samples, `(2, 8, 8)` in [0, 16], in the middle of a grey canvas."""
    canvas = Image.new("L", (CANVAS_PX, CANVAS_PX))
    width, height = DIGIT_PX
    for place, sample in enumerate(pair):
        grey = Image.fromarray(np.rint(sample * (255 / 16)).astype(np.uint8))
        corner = (CANVAS_PX // 2 - width * (1 - place), (CANVAS_PX - height) // 2)
        canvas.paste(grey.resize(DIGIT_PX, Image.Resampling.BICUBIC), corner)
    return canvas
