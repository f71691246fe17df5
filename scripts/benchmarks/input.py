"""Loading of randomly cropped batches on one core, relative to PIL and torchvision's v1 transforms.

The other side returns normalised float images. dmlbench returns uint8, because the model normalises whole batches on the
device; the cost of normalising on the CPU is printed separately.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torchvision import transforms as v1

from benchmarks.photos import write_photos
from benchmarks.timing import alternate
from dmlbench.config.schema import Protocol
from dmlbench.data.loader import Batches

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
BATCH_SIZE = 64


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the images per second with and without a decoded cache, and their ratios.

    Args:
        quick: Use few images and one round.
        overrides: Not used.
    """
    rounds, n_images = (1, BATCH_SIZE) if quick else (5, 4 * BATCH_SIZE)
    torch.set_num_threads(1)
    protocol = Protocol(name="bench", version=1, epochs=1, batch_size=BATCH_SIZE, embedding_dim=1, image_px=227)
    with tempfile.TemporaryDirectory() as directory:
        paths = write_photos(Path(directory), n_images)
        batches = [range(first, first + BATCH_SIZE) for first in range(0, n_images, BATCH_SIZE)]
        uncached = Batches(paths, protocol)
        uncached._training.kept = None  # decode each time, as for data sets that do not fit into memory
        cached = Batches(paths, protocol, cache=Path(directory) / "cache")
        took = alternate(
            rounds,
            peer=lambda: _peer(paths, protocol, batches),
            uncached=_ours(uncached, batches),
            cached=_ours(cached, batches),
            cached_normalised=_ours(cached, batches, normalise=True),
        )
    for name, minimum in (("uncached", 1.5), ("cached", 6.0)):
        speeds = f"peer {n_images / took['peer']:.0f} images/s, {name} {n_images / took[name]:.0f} images/s"
        print(f"input   {speeds}, ratio {took['peer'] / took[name]:.2f} (at least {minimum})")
    print(f"input   cached and normalised on the CPU: ratio {took['peer'] / took['cached_normalised']:.2f}")


def _peer(paths: Sequence[Path], protocol: Protocol, batches: Sequence[Sequence[int]]) -> float:
    transform = v1.Compose(
        [
            v1.Resize(protocol.resized_px),
            v1.RandomResizedCrop(protocol.image_px, protocol.crop_scale, protocol.crop_ratio),
            v1.RandomHorizontalFlip(),
            v1.ToTensor(),
            v1.Normalize(MEAN, STD),
        ]
    )
    began = time.perf_counter()
    for batch in batches:
        torch.stack([transform(Image.open(paths[image]).convert("RGB")) for image in batch])
    return time.perf_counter() - began


def _ours(source: Batches, batches: Sequence[Sequence[int]], normalise: bool = False) -> Callable[[], float]:
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))

    def load() -> float:
        began = time.perf_counter()
        for images, _ in source.training(iter(batches), seed=0):
            if normalise:
                (images.float() - mean) / std
        return time.perf_counter() - began

    return load
