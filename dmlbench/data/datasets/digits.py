"""Pairs of real handwritten digits: 50 classes without a download.

Training classes consist of the digits 0 to 4, test classes of the digits 5 to 9, 25 classes each. Training therefore shows
no digit of a test class, neither in its place nor in the other one.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from dmlbench.data.datasets.generated import generate_once, require_integer
from dmlbench.data.split import Split
from dmlbench.system.seeding import numpy_generator

VERSION = 2  # raised with every change to the pixels or to the choice of the images
CANVAS_PX = 36
DIGIT_PX = (16, 28)  # width, height: two digits leave a margin, within which a crop of 32 px can shift
TRAIN_DIGITS, TEST_DIGITS = range(5), range(5, 10)
MOST_IMAGES_PER_CLASS = 174  # samples of the rarest digit; in a class, each sample appears at most once on each side


def digits(root: str, split_seed: int = 0, images_per_class: int = 48) -> Split:
    """Generate images of two handwritten digits side by side, whose class is the two-digit number.

    Training classes consist of the digits 0 to 4, test classes of the digits 5 to 9; they share neither a digit nor a sample.
    Within a class, no sample appears twice on the same side, so no image repeats.

    Args:
        root: Directory of generated data sets. The images are written into it at the first call.
        split_seed: Seed of the pairs.
        images_per_class: Number of images per class, from 2 to 174.

    Returns:
        The split, with paths relative to `root`. The first part of each path contains a digest of the generator's version
        and arguments, so the digest of the split depends on them.

    Raises:
        UserError: `images_per_class` or `split_seed` is not a whole number in its range.

    Source:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998, as bundled with scikit-learn.
    """
    require_integer("digits", "images_per_class", images_per_class, 2, MOST_IMAGES_PER_CLASS)
    require_integer("digits", "split_seed", split_seed, 0, 2**63 - 1)
    arguments = {"version": VERSION, "split_seed": split_seed, "images_per_class": images_per_class}
    folder, listing = generate_once(
        Path(root), "digits", arguments, partial(_generate, split_seed=split_seed, images_per_class=images_per_class)
    )
    classes = listing["path"].str.split("/").str[0]
    train = classes.str[0].isin([str(digit) for digit in TRAIN_DIGITS])
    frame = pd.DataFrame(
        {
            "path": f"{folder}/" + listing["path"],
            "label": classes.factorize()[0],
            "class_name": classes,
            "train": train,
            "val": False,
            "query": ~train,
            "gallery": ~train,
        }
    )
    note = "training classes consist of the digits 0 to 4, test classes of the digits 5 to 9"
    return Split(frame, Path(root), notes=(note,), origin="generated")


def _generate(folder: Path, split_seed: int, images_per_class: int) -> pd.DataFrame:
    from sklearn.datasets import load_digits  # imported here because the import takes longer than the rest of this module

    bunch = load_digits()
    samples = [np.flatnonzero(bunch.target == digit) for digit in range(10)]
    lines = []
    for left, right in (pair for side in (TRAIN_DIGITS, TEST_DIGITS) for pair in product(side, side)):
        name = f"{left}{right}"
        (folder / name).mkdir()
        for index, pair in enumerate(_sample_pairs(samples[left], samples[right], images_per_class, split_seed, int(name))):
            path = f"{name}/{index:03d}.png"
            _draw_side_by_side(bunch.images[list(pair)]).save(folder / path)
            lines.append((path, *pair))
    return pd.DataFrame(lines, columns=["path", "left", "right"])


def _sample_pairs(left: np.ndarray, right: np.ndarray, count: int, split_seed: int, number: int) -> list[tuple[int, int]]:
    """Return the left and right sample of each image of a class. No sample repeats on the same side."""
    generator = numpy_generator(split_seed, "digits_pairs", number)
    lefts = generator.permutation(left)
    # For a doubled digit, both sides use the same samples. A shift by half their number pairs no sample with itself.
    rights = np.roll(lefts, len(lefts) // 2) if number % 11 == 0 else generator.permutation(right)
    return [(int(one), int(other)) for one, other in zip(lefts[:count], rights[:count], strict=True)]


def _draw_side_by_side(pair: np.ndarray) -> Image.Image:
    """Draw two samples, `(2, 8, 8)` in [0, 16], in the middle of a black canvas."""
    canvas = Image.new("L", (CANVAS_PX, CANVAS_PX))
    width, height = DIGIT_PX
    for position, sample in enumerate(pair):
        digit = Image.fromarray(np.rint(sample * (255 / 16)).astype(np.uint8))
        corner = (CANVAS_PX // 2 - width * (1 - position), (CANVAS_PX - height) // 2)
        canvas.paste(digit.resize(DIGIT_PX, Image.Resampling.BICUBIC), corner)
    return canvas
