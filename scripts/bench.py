"""What dmlbench costs beside the bare thing, each as a ratio measured in one run.

    python scripts/bench.py              all of it
    python scripts/bench.py train        throughput: dmlbench's training against a bare loop
    python scripts/bench.py start        start-up: `dmlbench --help` against `python -c pass`
    python scripts/bench.py input        loading: our batches, decoded and cached, against PIL and torchvision's v1 transforms

The two sides alternate, so that a busy machine slows both; medians are compared. Seconds mean little elsewhere, ratios do.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def alternate(rounds: int, **sides: Callable[[], float]) -> dict[str, float]:
    """Median seconds of each side, measured in turn after one unmeasured round."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            took = side()
            if number:
                seconds[name].append(took)
    return {name: statistics.median(values) for name, values in seconds.items()}


def bench_start(rounds: int = 20) -> None:
    """`dmlbench --help` and `dmlbench table --help` against a bare interpreter."""

    def command(*words: str) -> Callable[[], float]:
        def run() -> float:
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - began

        return run

    took = alternate(rounds, bare=command("-c", "pass"), help=command("-m", "dmlbench", "--help"))
    print(f"start   bare {took['bare'] * 1e3:.1f} ms, dmlbench --help {took['help'] * 1e3:.1f} ms")
    print(f"start   ratio {took['help'] / took['bare']:.2f} (at most 5)")


def bench_train(rounds: int = 5) -> None:
    """Epochs of `train.train` against a bare loop: same model, same loss, same batches from the same loader."""
    import torch

    from dmlbench import experiment, launch
    from dmlbench.data.loader import Batches
    from dmlbench.train import epoch_sampler, train, training_labels
    from dmlbench.trunks.embedder import embedder_of

    with tempfile.TemporaryDirectory() as folder:
        words = ["loss=multi_similarity", "protocol.epochs=2", f"paths.runs={folder}/runs", f"paths.data={folder}/data"]
        plan, split = launch.prepare(*launch.compose(words))
        experiment.compute_alike(plan)
        plan.folder.mkdir(parents=True)
        batches = Batches(split.paths(), plan.protocol)  # keeps the decoded images, for both sides
        labels = torch.from_numpy(training_labels(split))
        ids, sampler = split.ids("train"), epoch_sampler(plan, training_labels(split))
        rows = [row for epoch in range(plan.protocol.epochs) for row in sampler(epoch)]
        steps = len(rows)

        def harness() -> float:
            (plan.folder / "checkpoint.pt").unlink(missing_ok=True)
            model, objective = embedder_of(plan), experiment.initialised_objective(plan)
            assert objective is not None
            began = time.perf_counter()
            train(model, objective, split, batches, plan)
            return time.perf_counter() - began

        def bare() -> float:
            model, objective = embedder_of(plan), experiment.initialised_objective(plan)
            assert objective is not None
            model.to(memory_format=torch.channels_last)
            lr = plan.protocol.lr
            optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=lr, weight_decay=1e-4)
            loaded = batches.training((ids[row] for row in rows), plan.seed)
            began = time.perf_counter()
            model.train()
            for row, (images, _) in zip(rows, loaded, strict=True):
                loss = objective(model(images.to(memory_format=torch.channels_last)), labels[row])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            return time.perf_counter() - began

        took = alternate(rounds, harness=harness, bare=bare)
        images = steps * plan.protocol.batch_size
        print(f"train   bare {images / took['bare']:.0f} images/s, dmlbench {images / took['harness']:.0f} images/s")
        print(f"train   ratio {took['bare'] / took['harness']:.3f} of the bare loop's throughput (at least 0.95)")


def bench_input(rounds: int = 5, n_images: int = 256, batch_size: int = 64) -> None:
    """Randomly cropped batches of photos of CUB's size (500 x 375), one core: normalised float for the peer, uint8 for ours.

    The embedder normalises a whole batch at a time, on the device; its share, on this one, is told too.
    """
    import torch
    from PIL import Image
    from torchvision import transforms as v1

    from dmlbench.data.loader import Batches
    from dmlbench.plan import Protocol

    torch.set_num_threads(1)
    protocol = Protocol(name="bench", version=1, epochs=1, batch_size=batch_size, embedding_dim=1, image_px=227)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    peers = v1.Compose(
        [
            v1.Resize(protocol.resized_px),
            v1.RandomResizedCrop(protocol.image_px, protocol.crop_scale, protocol.crop_ratio),
            v1.RandomHorizontalFlip(),
            v1.ToTensor(),
            v1.Normalize(mean, std),
        ]
    )
    with tempfile.TemporaryDirectory() as place:
        paths = photos(Path(place), n_images)
        rows = [range(first, first + batch_size) for first in range(0, n_images, batch_size)]
        ours = {"uncached": Batches(paths, protocol), "cached": Batches(paths, protocol, cache=Path(place) / "cache")}
        ours["uncached"]._training.kept = None  # what does not fit into memory is decoded each time

        def peer() -> float:
            began = time.perf_counter()
            for row in rows:
                torch.stack([peers(Image.open(paths[image]).convert("RGB")) for image in row])
            return time.perf_counter() - began

        def side(name: str, normalise: bool = False) -> Callable[[], float]:
            shift, scale = (255 * torch.tensor(values).view(3, 1, 1) for values in (mean, std))

            def run() -> float:
                began = time.perf_counter()
                for images, _ in ours[name].training(iter(rows), seed=0):
                    if normalise:
                        (images.float() - shift) / scale
                return time.perf_counter() - began

            return run

        took = alternate(
            rounds,
            peer=peer,
            uncached=side("uncached"),
            cached=side("cached"),
            cached_normalised=side("cached", normalise=True),
        )
    for name, least in (("uncached", 1.5), ("cached", 6.0)):
        speeds = f"peer {n_images / took['peer']:.0f} images/s, {name} {n_images / took[name]:.0f} images/s"
        print(f"input   {speeds}, ratio {took['peer'] / took[name]:.2f} (at least {least})")
    print(f"input   cached and normalised on the CPU: ratio {took['peer'] / took['cached_normalised']:.2f}")


def photos(folder: Path, n: int) -> list[Path]:
    """JPEGs of 500 x 375 pixels, quality 90: parts of scikit-learn's two sample photos."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    sources, generator, paths = load_sample_images().images, np.random.default_rng(0), []
    for number in range(n):
        source = Image.fromarray(sources[number % len(sources)])
        height = int(source.height * generator.uniform(0.7, 1))
        width = height * 4 // 3
        x, y = generator.integers(0, source.width - width + 1), generator.integers(0, source.height - height + 1)
        paths.append(folder / f"{number}.jpg")
        source.resize((500, 375), Image.Resampling.BICUBIC, (x, y, x + width, y + height)).save(paths[-1], quality=90)
    return paths


BENCHES = {"start": bench_start, "train": bench_train, "input": bench_input}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHES:
        if name not in BENCHES:
            sys.exit(f"bench: '{name}' is not known; known: {', '.join(BENCHES)}")
        BENCHES[name]()
