"""Size and time of `dmlbench report` for eight methods with three seeds on photos, and the time to open it in a browser."""

from __future__ import annotations

import contextlib
import io
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.photos import write_photos
from benchmarks.timing import alternate, cpu_seconds
from dmlbench.cli import run
from dmlbench.results import run_files
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row, write_row
from dmlbench.system.regular_files import sha256

LOSSES = ("untrained", "contrastive", "triplet", "proxy_nca", "softtriple", "multi_similarity", "cosface", "arcface")
LIMIT_MB, LIMIT_MS = 3.0, 1000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the size of the report, its CPU seconds relative to `dmlbench table`, and the milliseconds until it is usable.

    Args:
        quick: Use fewer photos and one round.
        overrides: Not used.
    """
    rounds, n_classes, per_class, n_seeds = (1, 8, 5, 2) if quick else (3, 200, 10, 3)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with contextlib.chdir(directory):
            _write_runs(directory, n_classes, per_class, n_seeds)
            command = [sys.executable, "-m", "dmlbench"]
            took = alternate(
                rounds,
                report=lambda: cpu_seconds([*command, "report", "runs"]),
                table=lambda: cpu_seconds([*command, "table", "runs"]),
            )
        page = directory / "report.html"
        size = page.stat().st_size / 1e6
        n_images = page.read_text(encoding="utf-8").count("<image ")
        print(f"report  {len(LOSSES)} methods, {n_seeds} seeds, {n_images} photos: {size:.2f} MB (at most {LIMIT_MB:.0f})")
        print(f"report  {took['report']:.2f} s of one core, ratio {took['report'] / took['table']:.2f} to the table alone")
        opened = _milliseconds(page, rounds)
        print(
            "report  no browser to open it" if opened is None else f"report  usable after {opened:.0f} ms (at most {LIMIT_MS})"
        )


def _write_runs(directory: Path, n_classes: int, per_class: int, n_seeds: int) -> None:
    """Train one run on photos, and write copies of it with other methods, seeds, embeddings and scores."""
    photos = directory / "photos"
    photos.mkdir()
    for number, path in enumerate(write_photos(photos, n_classes * per_class)):
        folder = photos / f"class {number % n_classes:03}"
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    tiny = ("protocol=quick", "protocol.epochs=1", "trunk=convnet", "protocol.batch_size=16")
    with contextlib.redirect_stdout(io.StringIO()):
        assert run(["train", "loss=contrastive", "dataset=folder", "dataset.root=photos", "paths.runs=one", *tiny]) == 0
    [file] = find_rows(directory / "one")
    source, generator = read_row(file), np.random.default_rng(0)
    for loss in LOSSES:
        centres = generator.standard_normal((n_classes, 64)).astype(np.float32)
        for seed in range(n_seeds):
            _write_copy(file.parent, directory / "runs" / loss / str(seed), source, loss, seed, centres, generator)
    shutil.rmtree(directory / "one")


def _write_copy(
    source: Path, folder: Path, row: Row, loss: str, seed: int, centres: np.ndarray, generator: np.random.Generator
) -> None:
    shutil.copytree(source, folder)
    tensors = load_file(folder / run_files.EMBEDDINGS)
    labels = tensors["labels"]
    noisy = centres[labels] + 1.5 * generator.standard_normal((len(labels), centres.shape[1])).astype(np.float32)
    tensors["embeddings"] = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    save_file(tensors, folder / run_files.EMBEDDINGS)
    scores = load_file(folder / run_files.PER_QUERY)
    metrics = {
        name: generator.beta(2, 2, len(values)).astype(np.float32) for name, values in scores.items() if _is_metric(name)
    }
    save_file({**scores, **metrics}, folder / run_files.PER_QUERY)
    means = {name: float(values.mean(dtype=np.float64)) for name, values in metrics.items()}
    run_id = f"bench-{loss}-{seed}"
    identity = {"loss": loss, "loss_label": loss, "method_digest": loss, "seed": seed, "run_id": run_id}
    digest = {"embeddings_sha256": sha256(folder / run_files.EMBEDDINGS), "embedding_dim": centres.shape[1]}
    write_row(folder, Row({**row.columns, **identity, **means, **digest}))


def _is_metric(name: str) -> bool:
    return name not in ("ids", "labels")


def _milliseconds(page: Path, rounds: int) -> float | None:
    """Return the median time until the script of the page has run; None without Playwright or a browser."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if program is None:
        return None
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        seconds = []
        for _ in range(rounds + 1):
            tab = browser.new_page()
            tab.goto(page.as_uri())
            timing = "performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart"
            seconds.append(float(tab.evaluate(timing)))
            tab.close()
        browser.close()
    return statistics.median(seconds[1:])
