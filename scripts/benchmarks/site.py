"""`dmlbench site` about 10,000 entries on one core: time, and size of the largest page."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import load_file, save_file

from benchmarks.timing import cpu_seconds
from dmlbench.cli import run
from dmlbench.config.files import conf_dir
from dmlbench.publication.pack import Statement, pack
from dmlbench.results import columns as registry
from dmlbench.results import run_files
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.system.regular_files import sha256
from dmlbench.verification import verify_run

LOSSES = ("contrastive", "triplet", "proxy_nca", "softtriple", "multi_similarity", "cosface", "arcface", "roadmap")
N_SEEDS = 3
LIMIT_SECONDS, LIMIT_KB = 60, 1000
_NO_SCORES = ("ids", "labels")


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the CPU seconds for a site, and the size of its largest page.

    Args:
        quick: Use 48 entries.
        overrides: Not used.
    """
    n_tables = 2 if quick else 417
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        n_queries = write_entries(directory, n_tables)
        command = [sys.executable, "-m", "dmlbench", "site", str(directory / "results"), "--output", str(directory / "site")]
        took = cpu_seconds(command)
        pages = [file.stat().st_size for file in (directory / "site").rglob("*.html")]
    n_entries = n_tables * len(LOSSES) * N_SEEDS
    print(
        f"site    {n_entries:,} entries of {n_queries} queries: {took:.1f} s of one core (at most {LIMIT_SECONDS} for 10,000)"
    )
    print(f"site    {len(pages):,} pages, the largest one has {max(pages) / 1e3:.0f} kB (at most {LIMIT_KB})")


def write_entries(directory: Path, n_tables: int) -> int:
    """Publish copies of one real run with other methods, seeds and scores of queries.

    Args:
        directory: Empty directory, of which `results` will contain the entries.
        n_tables: Number of tables, which differ in the seed of the split; 20 of them share a data set.

    Returns:
        Number of queries of an entry.
    """
    overrides = ["dataset=synthetic", "loss=contrastive", "protocol.epochs=1", f"paths.runs={directory}/one"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert run(["train", *overrides, f"paths.data={directory}/data"]) == 0
    [file] = find_rows(directory / "one")
    row, statement = read_row(file), Statement("Benchmark", "CC0-1.0")
    for folder, copy in _copies(row, directory / "copies"):
        for table in range(n_tables):
            shared = {"dataset": f"set_{table // 20}", "dataset_label": f"Set {table // 20}", "split_seed": table}
            found = _with_identity({**copy, **shared}, folder)
            (folder / run_files.ROW).write_text(json.dumps(dict(found.columns)), encoding="utf-8")
            packed = pack(verify_run(found), statement)
            entry = directory / "results" / packed.path
            entry.mkdir(parents=True)
            for name, content in packed.contents.items():
                (entry / name).write_bytes(content)
    return int(str(row["n_queries"]))


def _copies(row: Row, directory: Path) -> Iterator[tuple[Path, dict]]:
    """Yield a directory with scores, and the columns of a row, for each loss and seed."""
    assert row.folder is not None
    scores, generator = load_file(row.folder / run_files.PER_QUERY), np.random.default_rng(0)
    labels = scores["labels"]
    for place, loss in enumerate(LOSSES):
        for seed in range(N_SEEDS):
            # Each query takes the scores of another one of its class, better ones more often for later losses.
            index = np.concatenate([_drawn(np.flatnonzero(labels == label), scores, place, generator) for label in set(labels)])
            order = np.concatenate([np.flatnonzero(labels == label) for label in set(labels)])
            drawn = {name: values.copy() for name, values in scores.items()}
            for name in scores.keys() - set(_NO_SCORES):
                drawn[name][order] = scores[name][index]
            folder = directory / f"{loss}-{seed}"
            folder.mkdir(parents=True)
            save_file(drawn, folder / run_files.PER_QUERY)
            label = yaml.safe_load((conf_dir() / "loss" / f"{loss}.yaml").read_text(encoding="utf-8"))["label"]
            method = {"loss": loss, "loss_label": label, "loss_make_neg_margin": 0.01 * place, "seed": seed}
            digests = ("per_query_sha256", "embeddings_sha256", "model_sha256")  # those of different runs differ
            files = {**dict.fromkeys(digests, sha256(folder / run_files.PER_QUERY)), "overrides": "[]", "config_files": "{}"}
            yield folder, {**row.columns, **_metrics(row, drawn), **method, **files}


def _drawn(members: np.ndarray, scores: dict[str, np.ndarray], place: int, generator: np.random.Generator) -> np.ndarray:
    """Return a query of the class for each of its queries: the better one of two, more often for later losses."""
    first, second = generator.choice(members, (2, len(members)))
    better = np.where(scores["map_at_r"][first] >= scores["map_at_r"][second], first, second)
    return np.where(generator.random(len(members)) < 0.02 * place, better, first)


def _metrics(row: Row, scores: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the means of scores over queries and over classes."""
    _, index, counts = np.unique(scores["labels"], return_inverse=True, return_counts=True)
    found = {}
    for name in scores.keys() - set(_NO_SCORES):
        values = scores[name].astype(np.float64)
        found[name] = float(values.mean())
        if f"macro_{name}" in row.columns:
            found[f"macro_{name}"] = float((np.bincount(index, values) / counts).mean())
    return found


def _with_identity(columns: dict, folder: Path) -> Row:
    """Return a row whose digests follow from its columns."""
    row = Row(columns, folder)
    method = {name: value for name, value in row.method.items() if name != "loss"}
    fingerprint, digest = registry.fingerprint(row.shared), registry.method_digest(method)
    identity = {"fingerprint": fingerprint, "method_digest": digest, "run_id": registry.run_id(fingerprint, digest, row.seed)}
    return Row({**row.columns, **identity}, folder)
