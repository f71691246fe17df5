"""`dmlbench verify` up to the tier `consistent` over rows with the scores of 5,924 queries, as many as CUB has, on one core."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.timing import alternate, cpu_seconds
from dmlbench.config.schema import Scalar
from dmlbench.results import columns as registry
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.results.row_files import write_row
from dmlbench.system.regular_files import sha256

KS = (1, 2, 4, 8, 16, 32)
N_CLASSES, CLASS_SIZE = 100, 59
LIMIT = 0.2  # seconds per row


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the CPU seconds per row, start-up included.

    Args:
        quick: Use 4 rows and one round.
        overrides: Not used.
    """
    rounds, n_methods, n_seeds = (1, 2, 2) if quick else (5, 8, 5)
    n_rows = n_methods * n_seeds
    with tempfile.TemporaryDirectory() as directory:
        for method in range(n_methods):
            for seed in range(n_seeds):
                write_run(Path(directory), f"method {method}", seed)
        command = [sys.executable, "-m", "dmlbench", "verify", directory]
        took = alternate(rounds, verify=lambda: cpu_seconds(command))
    n_queries = N_CLASSES * CLASS_SIZE
    print(f"verify  {n_rows} rows of {n_queries:,} queries: {took['verify'] / n_rows:.4f} s per row (at most {LIMIT})")


def write_run(directory: Path, name: str, seed: int) -> None:
    """Write a row of an external method, whose queries are in the gallery, and the scores of its queries.

    Args:
        directory: Directory of runs.
        name: Name of the method.
        seed: Seed of the row and of its scores.
    """
    labels = np.repeat(np.arange(N_CLASSES), CLASS_SIZE)
    scores = _scores(len(labels), np.random.default_rng(seed))
    folder = directory / name.replace(" ", "_") / str(seed)
    folder.mkdir(parents=True)
    file = folder / "per_query.safetensors"
    save_file({"ids": np.arange(len(labels)), "labels": labels, **scores}, file)
    shared: dict[str, Scalar] = {"dataset": "bench", "trunk": EXTERNAL, "protocol": EXTERNAL, "split_digest": "0" * 64}
    fingerprint, method_digest = registry.fingerprint(shared), registry.identity_digest({"name": name})
    means = {metric: float(values.mean()) for metric, values in scores.items()}
    columns: dict[str, Scalar] = {
        "schema_version": registry.SCHEMA_VERSION,
        "run_id": registry.run_id(fingerprint, method_digest, seed),
        **{"fingerprint": fingerprint, "method_digest": method_digest, "status": "ok", "reason": None, "seed": seed, **shared},
        **{"dataset_label": "bench", "trunk_label": EXTERNAL, "loss": name.replace(" ", "_"), "loss_label": name},
        **{"n_queries": len(labels), "n_excluded": 0, "n_gallery": len(labels), "n_test_classes": N_CLASSES},
        **means,
        **{f"macro_{metric}": mean for metric, mean in means.items()},  # all classes have the same size
        "per_query_sha256": sha256(file),
    }
    write_row(folder, Row(columns))


def _scores(n_queries: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the metrics of queries whose relevant items are at random ranks."""
    n_relevant, n_others = CLASS_SIZE - 1, n_queries - CLASS_SIZE
    first = generator.random((n_queries, max(KS) + n_relevant)) < generator.beta(2, 2, (n_queries, 1))
    hits = first.cumsum(1).clip(max=n_relevant)
    assert n_others > 0
    relevant = np.diff(hits, axis=1, prepend=0)
    ranks = np.arange(1, hits.shape[1] + 1)
    found = {f"recall_at_{k}": (hits[:, k - 1] > 0).astype(float) for k in KS}
    for k in KS:
        found[f"precision_at_{k}"] = hits[:, k - 1] / k
        found[f"retrieved_at_{k}"] = hits[:, k - 1] / n_relevant
    found["r_precision"] = hits[:, n_relevant - 1] / n_relevant
    found["map_at_r"] = (relevant * hits / ranks)[:, :n_relevant].sum(1) / n_relevant
    found["mean_reciprocal_rank"] = np.where(relevant.any(1), 1 / (1 + relevant.argmax(1)), 1e-4)
    return found
