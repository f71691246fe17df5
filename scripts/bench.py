"""What dmlbench costs beside the bare thing, each as a ratio measured in one run.

    python scripts/bench.py              all of it
    python scripts/bench.py train        throughput: dmlbench's training against a bare loop
    python scripts/bench.py input        reading: dmlbench with and without its decoded cache against Pillow and torchvision
    python scripts/bench.py start        start-up: `dmlbench --help` against `python -c pass`

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


def bench_input(rounds: int = 7) -> None:
    """Batches of random resized crops of photos, on one core without loading processes.

    Three sides: Pillow with torchvision's transforms v1, as most codes of the field have it, and dmlbench without and with
    `dataset.cache=memmap`. Each ends in a batch to be moved to the device: float and normalised image by image there, uint8
    here, where the embedder normalises the batch on the device.
    """
    import torch
    from PIL import Image
    from torchvision import transforms

    from dmlbench.data import loader
    from dmlbench.plan import Protocol

    torch.set_num_threads(1)
    protocol = Protocol(name="standard", version=1, epochs=1, batch_size=32, embedding_dim=512, image_px=227)
    steps = [
        transforms.Resize(protocol.resized_px),
        transforms.RandomResizedCrop(protocol.image_px, scale=protocol.crop_scale, ratio=protocol.crop_ratio),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    transform = transforms.Compose(steps)
    with tempfile.TemporaryDirectory() as folder:
        paths = photos(Path(folder))
        rows = [range(start, start + 32) for start in range(0, len(paths), 32)]
        loader.MEMORY_BYTES = 0  # a real data set is too large to be kept in memory
        uncached = loader.Batches(paths, protocol)
        cached = loader.Batches(paths, protocol, cache=Path(folder) / "cache")

        def plain() -> float:
            began = time.perf_counter()
            for row in rows:
                torch.stack([transform(Image.open(paths[image_id]).convert("RGB")) for image_id in row])
            return time.perf_counter() - began

        def ours(batches: loader.Batches) -> float:
            began = time.perf_counter()
            for _ in batches.training(iter(rows), seed=0):
                pass
            return time.perf_counter() - began

        took = alternate(rounds, plain=plain, uncached=lambda: ours(uncached), cached=lambda: ours(cached))
    speeds = ", ".join(f"{name} {len(paths) / seconds:.0f}" for name, seconds in took.items())
    print(f"input   images/s of {len(paths)} photos of 500 x 375 px, one core: {speeds}")
    print(f"input   uncached ratio {took['plain'] / took['uncached']:.2f} of plain Pillow and torchvision v1 (at least 1.5)")
    print(f"input   cached   ratio {took['plain'] / took['cached']:.2f} of plain Pillow and torchvision v1 (at least 6)")


def photos(folder: Path, count: int = 128) -> list[Path]:
    """Photos of CUB's usual size as JPEG, cut from the two that scikit-learn brings."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    sources = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        source, share = sources[number % len(sources)], generator.uniform(0.6, 1)
        width, height = 567 * share, 425 * share  # 567 x 425 is the largest 4:3 that fits into 640 x 427
        left, top = generator.uniform(0, source.width - width), generator.uniform(0, source.height - height)
        source.resize((500, 375), box=(left, top, left + width, top + height)).save(path, quality=90)
    return paths


BENCHES = {"start": bench_start, "train": bench_train, "input": bench_input}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHES:
        if name not in BENCHES:
            sys.exit(f"bench: '{name}' is not known; known: {', '.join(BENCHES)}")
        BENCHES[name]()
