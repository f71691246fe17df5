"""Photos for benchmarks that read image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def write_photos(directory: Path, n: int) -> list[Path]:
    """Write JPEG files of the size of CUB's photos, 500 x 375 pixels, quality 90: crops of scikit-learn's two sample photos.

    Args:
        directory: Existing directory.
        n: Number of files.

    Returns:
        Their paths.
    """
    sources, generator, paths = load_sample_images().images, np.random.default_rng(0), []
    for number in range(n):
        source = Image.fromarray(sources[number % len(sources)])
        height = int(source.height * generator.uniform(0.7, 1))
        width = height * 4 // 3
        x, y = generator.integers(0, source.width - width + 1), generator.integers(0, source.height - height + 1)
        paths.append(directory / f"{number}.jpg")
        source.resize((500, 375), Image.Resampling.BICUBIC, (x, y, x + width, y + height)).save(paths[-1], quality=90)
    return paths
