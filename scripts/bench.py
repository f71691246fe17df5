"""What dmlbench costs beside the bare thing, each as a ratio measured in one run.

    python scripts/bench.py              all of it
    python scripts/bench.py train        throughput: dmlbench's training against a bare loop
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


BENCHES = {"start": bench_start, "train": bench_train}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHES:
        if name not in BENCHES:
            sys.exit(f"bench: '{name}' is not known; known: {', '.join(BENCHES)}")
        BENCHES[name]()
