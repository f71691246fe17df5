"""Search of `dmlbench serve` with ten users at once, relative to the bare matrix-vector product under the same load.

The server is in another process than the users, and measures nothing itself; the bare product and the search function are
measured in one process, by as many threads, in turn.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

DIM, USERS, K = 512, 10, 10
COLUMNS = {
    **{"schema_version": 3, "run_id": "bench-0", "fingerprint": "bench", "method_digest": "bench", "status": "ok"},
    **{"reason": None, "dataset": "bench", "dataset_label": "60,502 x 512", "split_digest": "bench", "trunk": "bench"},
    **{"trunk_label": "Bench", "loss": "triplet", "loss_label": "Triplet", "loss_kind": "pair", "seed": 0, "protocol": "bench"},
    **{"protocol_version": 1, "precision": "fp32", "split_seed": 0, "map_at_r": 0.5},
}


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the times and ratios of a search, of an answer of the server, and of its first page; and the memory.

    Args:
        quick: Use fewer embeddings and searches.
        overrides: Not used.
    """
    n, searches, rounds = (6_000, 5, 1) if quick else (60_502, 20, 5)
    with tempfile.TemporaryDirectory() as directory:
        _write_run(Path(directory) / "runs", n)
        _measure_search(Path(directory) / "runs", searches, rounds)
        _measure_server(Path(directory), n, searches, rounds)


def _write_run(folder: Path, n: int) -> None:
    """Write the row and the embeddings of a run: unit vectors of 11,316 classes, as those of SOP."""
    from safetensors.numpy import save_file

    generator = np.random.default_rng(0)
    rows = generator.standard_normal((n, DIM), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    everything = np.ones(n, bool)
    tensors = {"embeddings": rows, "labels": np.arange(n) % 11_316, "ids": np.arange(n)}
    run = folder / "bench/triplet/bench-0"
    run.mkdir(parents=True)
    save_file({**tensors, "is_query": everything, "is_gallery": everything.copy()}, run / "embeddings.safetensors")
    (run / "row.json").write_text(json.dumps(COLUMNS))


def _measure_search(runs: Path, searches: int, rounds: int) -> None:
    from dmlbench.web.catalogue import Catalogue
    from dmlbench.web.search import hits_of_query, use_one_thread_per_product

    use_one_thread_per_product()  # as the server does
    catalogue = Catalogue([runs])
    before = _anonymous_mib()
    [collection] = catalogue.snapshot().collections.values()
    [model] = collection.models
    embeddings = catalogue.embeddings(model)
    rows = embeddings.rows
    times: dict[str, list[float]] = {"bare": [], "search": []}
    sides: dict[str, Callable[[int], object]] = {
        "bare": lambda query: rows @ rows[query],
        "search": lambda query: hits_of_query(collection, model, catalogue.embeddings(model), query, K),
    }
    for number in range(rounds + 1):
        for name, side in sides.items():
            took = _with_users(side, searches)
            times[name] += took if number else []
    grown = _anonymous_mib() - before
    _print("search", "search function", times["search"], times["bare"])
    size = rows.nbytes / 2**20
    print(f"serve   embeddings of {size:.0f} MiB are mapped: {grown:.0f} MiB of other memory for {USERS} users (at most 32)")


def _measure_server(directory: Path, n: int, searches: int, rounds: int) -> None:
    """Measure a server in another process, and the same product in that process' place while it is idle."""
    command = [sys.executable, "-m", "dmlbench", "serve", "runs", "--port", "0"]
    began = time.perf_counter()
    server = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        address = re.findall(r"http://[^/]+", server.stdout.readline())[0]
        started = time.perf_counter()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(f"{address}/").read()
        first = 1000 * (time.perf_counter() - started)
        print(f"serve   listens after {started - began:.2f} s; first page after {first:.0f} ms (at most 300)")
        rows = np.memmap(
            directory / "runs/bench/triplet/bench-0/embeddings.safetensors",
            np.float32,
            "r",
            offset=_offset(directory),
            shape=(n, DIM),
        )

        def ask(query: int) -> None:
            opener.open(f"{address}/api/search?model=bench-0&query={query}&k={K}").read()

        times: dict[str, list[float]] = {"bare": [], "server": []}
        for number in range(rounds + 1):
            bare, asked = _with_users(lambda query: rows @ rows[query], searches), _with_users(ask, searches)
            if number:
                times["bare"] += bare
                times["server"] += asked
        _print("server", "answer of the server, HTTP and JSON included", times["server"], times["bare"])
    finally:
        server.terminate()
        server.wait()


def _offset(directory: Path) -> int:
    data = (directory / "runs/bench/triplet/bench-0/embeddings.safetensors").open("rb").read(2**16)
    length = int.from_bytes(data[:8], "little")
    return int(8 + length + json.loads(data[8 : 8 + length])["embeddings"]["data_offsets"][0])


def _with_users(side: Callable[[int], object], searches: int) -> list[float]:
    """Let ten users search at once, each one search after the other; return the seconds of each search."""

    def user(number: int) -> list[float]:
        took = []
        for i in range(searches):
            began = time.perf_counter()
            side(number * searches + i)
            took.append(time.perf_counter() - began)
        return took

    with ThreadPoolExecutor(USERS) as pool:
        return [one for took in pool.map(user, range(USERS)) for one in took]


def _print(name: str, what: str, took: Sequence[float], bare: Sequence[float]) -> None:
    (p50, p95), (bare50, bare95) = (1000 * np.percentile(one, [50, 95]) for one in (took, bare))
    print(f"serve   {USERS} users, bare product: median {bare50:.1f} ms, p95 {bare95:.1f} ms")
    print(f"serve   {what}: median {p50:.1f} ms, p95 {p95:.1f} ms")
    print(f"serve   ratio of the p95 of the {name} {p95 / bare95:.2f} (at most 1.5), of the median {p50 / bare50:.2f}")


def _anonymous_mib() -> float:
    """Return the memory of this process that is not mapped from files, in MiB; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("RssAnon")), 0.0)
