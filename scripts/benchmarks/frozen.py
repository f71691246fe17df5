"""A sweep with `protocol.trunk_frozen=true`, relative to one pass of its trunk over the same images.

Overrides on the command line choose the data set. Without any, it is the Grocery set of docs/results.md if its archive is in
`shared/data` next to the repository, else a directory of photos. The sweep starts without any cache: images are checked and
features are computed. The start-up of the sweep is included, that of the pass is not.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.photos import write_photos
from benchmarks.timing import measure_in_process, wall_seconds

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
GROCERY = [
    *("dataset=folder", "dataset.name=grocery", "dataset.manifest=labels.csv", "dataset.split=manifest", "trunk=mobilenet_v2"),
    *("protocol=standard", "protocol.epochs=5", "protocol.batch_size=64", "protocol.embedding_dim=128"),
    *("protocol.image_px=112", "protocol.resize_px=128"),
]
PASSES = {"in the protocol's batches": "0", "in batches of 16": "16"}


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the seconds of the sweep and of the passes, and their ratios.

    Args:
        quick: Use few photos, a small network and one round.
        overrides: Overrides of the configuration, which choose the data set.
    """
    with tempfile.TemporaryDirectory() as directory:
        chosen = overrides if any(one.startswith("dataset=") for one in overrides) else _data_set(Path(directory), quick)
        settings = [*chosen, *(one for one in overrides if one not in chosen)]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in (*PASSES, "sweep")}
        for number in range(1 if quick else 3):
            for name, batch_size in PASSES.items():
                found[name].append(measure_in_process("frozen_pass", batch_size, *settings, f"paths.data={directory}/warm"))
            found["sweep"].append(_sweep(settings, f"{directory}/{number}"))
            last = found["sweep"][-1]
            times = ", ".join(f"{name} {each[-1]['wall']:.1f} s ({each[-1]['cpu']:.1f} of CPU)" for name, each in found.items())
            print(f"frozen  {times}: features {last['features']:.1f}, training {last['training']:.1f}", flush=True)
    for name in PASSES:
        for kind in ("wall", "cpu"):
            ratios = [ours[kind] / bare[kind] for ours, bare in zip(found["sweep"], found[name], strict=True)]
            print(f"frozen  sweep / one pass {name}, {kind}: {statistics.median(ratios):.2f} (at most 1.1)")


def _sweep(settings: Sequence[str], directory: str) -> dict[str, float]:
    """Run a sweep in a new process; return its seconds, and those of its parts according to its rows."""
    paths = [f"paths.data={directory}/data", f"paths.runs={directory}/runs"]
    command = [sys.executable, "-m", "dmlbench", "sweep", *settings, *paths, "protocol.trunk_frozen=true"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = wall_seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = [json.loads(file.read_text()) for file in Path(directory).rglob("row.json")]
    assert len(rows) == 9, len(rows)  # seven losses, raw pixels and the untrained trunk
    features, training = (sum(row[f"{name}_seconds"] for row in rows) for name in ("features", "train"))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "features": features, "training": training}


def _data_set(directory: Path, quick: bool) -> list[str]:
    """Write the default data set, and return the overrides that choose it."""
    archive, weights = SHARED_DATA / "grocery81_112.zip", SHARED_DATA / "mobilenet_v2_imagenet_trunk_fp16.pth"
    if archive.is_file() and not quick:
        shutil.unpack_archive(archive, directory)
        return [*GROCERY, f"dataset.root={directory / 'grocery81_112'}", f"trunk.weights={weights}"]
    n_classes, n_images = (8, 8) if quick else (40, 50)
    for label in range(n_classes):
        (directory / "photos" / f"{label:02}").mkdir(parents=True)
        write_photos(directory / "photos" / f"{label:02}", n_images)
    data = ["dataset=folder", f"dataset.root={directory / 'photos'}"]
    if quick:
        return [*data, "trunk=convnet", "protocol=quick", "protocol.epochs=1", "protocol.batch_size=16"]
    return [*data, "trunk=resnet18", "trunk.weights=none", "protocol=standard"]
