"""`dmlbench table --no-test` over 10,000 rows on one core, relative to reading and parsing the same files."""

from __future__ import annotations

import contextlib
import io
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.timing import alternate, cpu_seconds
from dmlbench.cli import run
from dmlbench.results import columns as registry
from dmlbench.results.columns import column
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row, write_row

LOSSES = ("untrained", "contrastive", "triplet", "proxy_nca", "softtriple", "multi_similarity", "cosface", "arcface")
PARSE = """
import json, os, sys
for directory, _, files in os.walk(sys.argv[1]):
    if "row.json" in files:
        with open(os.path.join(directory, "row.json"), "rb") as file:
            json.loads(file.read())
"""


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the CPU seconds of both sides and their ratio.

    Args:
        quick: Use 32 rows and one round.
        overrides: Not used.
    """
    rounds, n_studies, n_seeds = (1, 2, 2) if quick else (5, 50, 25)
    with tempfile.TemporaryDirectory() as directory:
        runs = f"{directory}/runs"
        n_columns = write_rows(Path(directory), n_studies, n_seeds)
        table = [sys.executable, "-m", "dmlbench", "table", "--no-test", runs]
        took = alternate(
            rounds, table=lambda: cpu_seconds(table), parsing=lambda: cpu_seconds([sys.executable, "-c", PARSE, runs])
        )
    n_rows = n_studies * len(LOSSES) * n_seeds
    print(f"table   {n_rows} rows of {n_columns} columns: {took['table']:.2f} s of one core (at most 2)")
    print(f"table   ratio {took['table'] / took['parsing']:.2f} to reading and parsing alone, {took['parsing']:.2f} s")


def write_rows(directory: Path, n_studies: int, n_seeds: int) -> int:
    """Write copies of one real row with random metrics below `runs/`.

    Args:
        directory: Empty directory.
        n_studies: Number of tables, which differ in the size of the embedding.
        n_seeds: Number of seeds per loss.

    Returns:
        Number of columns of a row.
    """
    overrides = ["dataset=synthetic", "loss=contrastive", "protocol.epochs=1", f"paths.runs={directory}/one"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert run(["train", *overrides, f"paths.data={directory}/data"]) == 0
    [file] = find_rows(directory / "one")
    columns, generator = read_row(file).columns, random.Random(0)
    metrics = [name for name in columns if column(name).role == "metric"]
    for study in range(n_studies):
        for loss in LOSSES:
            for seed in range(n_seeds):
                identity = {"loss": loss, "loss_label": loss, "loss_make_name": loss, "seed": seed}
                scores = dict.fromkeys(metrics, generator.random())  # of equal metrics, none is impossible
                row = Row({**columns, **identity, **scores, "protocol_embedding_dim": study + 1})
                row = Row({**row.columns, **_digests(row)})
                write_row(directory / "runs" / loss / str(row["run_id"]), row)
    return len(columns)


def _digests(row: Row) -> dict[str, str]:
    fingerprint = registry.fingerprint(row.shared)
    method_digest = registry.method_digest({name: value for name, value in row.method.items() if name != "loss"})
    run_id = registry.run_id(fingerprint, method_digest, row.seed)
    return {"fingerprint": fingerprint, "method_digest": method_digest, "run_id": run_id}
