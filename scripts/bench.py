"""What dmlbench costs beside the bare thing, each as a ratio measured in one run.

    python scripts/bench.py              all of it
    python scripts/bench.py train        throughput: dmlbench's training against a bare loop
    python scripts/bench.py start        start-up: `dmlbench --help` against `python -c pass`
    python scripts/bench.py input        loading: our batches, decoded and cached, against PIL and torchvision's v1 transforms
    python scripts/bench.py evaluate     all metrics against the bare matrix product and against pytorch-metric-learning
    python scripts/bench.py cluster      k-means once against ten times; the scores of a partition
    python scripts/bench.py table        a table of 10,000 rows against reading and parsing their files
    python scripts/bench.py gallery      memory of a search in a million embeddings on the disk
    python scripts/bench.py frozen       a sweep of seven losses over a frozen trunk against one pass through it
    python scripts/bench.py frozen dataset=... protocol=...      likewise, of other words

The two sides alternate, so that a busy machine slows both; medians are compared. Seconds mean little elsewhere, ratios do.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
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

    from dmlbench import launch
    from dmlbench.data.loader import Batches
    from dmlbench.models.embedder import build_embedder
    from dmlbench.runs import experiment
    from dmlbench.training.trainer import epoch_sampler, train, training_labels

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
            model, objective = build_embedder(plan), experiment.initialised_objective(plan)
            assert objective is not None
            began = time.perf_counter()
            train(model, objective, split, batches, plan)
            return time.perf_counter() - began

        def bare() -> float:
            model, objective = build_embedder(plan), experiment.initialised_objective(plan)
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

    from dmlbench.config.schema import Protocol
    from dmlbench.data.loader import Batches

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


def bench_evaluate(rounds: int = 3) -> None:
    """All retrieval metrics against the bare matrix product and against pytorch-metric-learning with faiss.

    Each side is a process of its own; CPU seconds, wall seconds and memory are those of the evaluation alone.
    """
    for name, dim in (("cub", 512), ("cars", 512), ("sop", 128), ("sop", 512)):
        found: dict[str, list[dict[str, float]]] = {"floor": [], "ours": [], "peer": []}
        for _ in range(rounds):
            for side, runs in found.items():
                words = [sys.executable, str(Path(__file__).with_name("bench_evaluate.py")), side, name, str(dim)]
                environment = dict(os.environ, OMP_NUM_THREADS="2")
                done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
                runs.append(json.loads(done.stdout.splitlines()[-1]))
        median = {
            side: {what: statistics.median(run[what] for run in runs) for what in ("cpu", "wall", "memory")}
            for side, runs in found.items()
        }
        ours, peer, floor = (median[side] for side in ("ours", "peer", "floor"))
        print(
            f"evaluate {name} x {dim}: R@1 {found['ours'][0]['recall_at_1']:.3f}, peer {found['peer'][0]['precision_at_1']:.3f}"
        )
        for what, unit, scale in (("cpu", "s", 1), ("wall", "s", 1), ("memory", "MiB", 2**20)):
            numbers = ", ".join(f"{side} {values[what] / scale:.2f} {unit}" for side, values in median.items())
            ratios = f"ours / floor {ours[what] / floor[what]:.2f}, peer / ours {peer[what] / ours[what]:.2f}"
            print(f"evaluate {name} x {dim}: {what:6} {numbers}; {ratios}", flush=True)


def bench_cluster(rounds: int = 3) -> None:
    """k-means with one initialisation against ten, and the scores of a partition, on the sizes of CUB and SOP."""
    import bench_evaluate
    import numpy as np
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    from dmlbench.evaluation.clustering import clusters, contingency_scores

    labels = bench_evaluate.labels_of("cub")
    for noise in (1.8, 3.0, bench_evaluate.NOISE["cub", 512]):
        bench_evaluate.NOISE["cub", 512] = noise
        x = bench_evaluate.embeddings_of("cub", 512, labels).numpy()
        once, tenfold, seconds = [], [], {"once": 0.0, "tenfold": 0.0}
        for seed in range(5):
            began = time.perf_counter()
            found = clusters(x, 100, seed)
            seconds["once"] += time.perf_counter() - began
            once.append(contingency_scores(found, labels.numpy())["nmi"])
            began = time.perf_counter()
            with threadpool_limits(1):
                found = KMeans(100, n_init=10, random_state=seed).fit(x).labels_
            seconds["tenfold"] += time.perf_counter() - began
            tenfold.append(contingency_scores(found, labels.numpy())["nmi"])
        apart, share = abs(np.mean(once) - np.mean(tenfold)), seconds["once"] / seconds["tenfold"]
        print(
            f"cluster noise {noise}: NMI of five seeds: once {np.mean(once):.4f} (std {np.std(once):.4f}), "
            f"n_init=10 {np.mean(tenfold):.4f} (std {np.std(tenfold):.4f}); difference {apart:.4f} (at most 0.01), "
            f"time {share:.3f} (at most 0.125)",
            flush=True,
        )
    classes = np.random.default_rng(0).permutation(np.arange(60_502) % 11_316)
    found = np.where(np.random.default_rng(1).random(60_502) < 0.6, classes, np.random.default_rng(2).permutation(classes))
    took = alternate(20, scores=lambda: _seconds(lambda: contingency_scores(found, classes)))
    print(f"cluster scores of SOP's partition: {took['scores'] * 1e3:.1f} ms (at most 10)")


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def bench_gallery(n: int = 1_000_000, dim: int = 128, n_queries: int = 1_000) -> None:
    """Memory of `dmlbench evaluate` on a gallery that stays on the disk, above that of its imports."""
    import numpy as np

    program = (
        "import sys\n"
        "import torch, scipy.sparse, sklearn.cluster, hydra, pandas, dmlbench.runs.reevaluate, dmlbench.cli.errors, safetensors.torch\n"
        "from dmlbench.cli import run\n"
        # of this program alone: ru_maxrss would begin with what the process that starts it had
        "status = lambda kind: next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith(kind)) / 1024\n"
        "before = status('VmRSS')\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "done = run(['evaluate', sys.argv[1], '--runs', sys.argv[2], 'ks=1,10,100,1000'])\n"
        "print(done, status('VmHWM') - before)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        generator = np.random.default_rng(0)
        labels = generator.integers(0, 50_000, n + n_queries)
        centres = generator.standard_normal((50_000, dim), dtype=np.float32)
        file = Path(folder) / "gallery.npy"
        values = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(n + n_queries, dim))
        for begin in range(0, len(values), 2**16):
            part = slice(begin, begin + 2**16)
            values[part] = centres[labels[part]] + 1.5 * generator.standard_normal(values[part].shape, dtype=np.float32)
        values.flush()
        del values
        roles = (np.arange(n + n_queries) >= n).astype(int)
        lines = (f"{label},{role},{1 - role}" for label, role in zip(labels, roles, strict=True))
        file.with_suffix(".csv").write_text("labels,is_query,is_gallery\n" + "\n".join(lines) + "\n")
        began = time.perf_counter()
        words = [sys.executable, "-c", program, str(file), f"{folder}/runs"]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        print("gallery " + done.stdout.splitlines()[0].split("  (")[0])
        status, mebibytes = done.stdout.splitlines()[-1].split()
        seconds = time.perf_counter() - began
        print(f"gallery status {status}, {seconds:.0f} s, {float(mebibytes):.0f} MiB above the imports (at most 512)")


def bench_table(rounds: int = 5, n_studies: int = 50, n_seeds: int = 25) -> None:
    """`dmlbench table --untested` over 10,000 rows against a process that reads and parses the same files, on one core."""
    import contextlib
    import io
    import random

    from dmlbench.rows import is_metric

    from dmlbench.cli import run
    from dmlbench.results.row import Row
    from dmlbench.results.row_files import find_rows, read_row, write_row
    from dmlbench.tables.table import ORDER

    floor = (
        "import json, os, sys\n"
        "for place, _, files in os.walk(sys.argv[1]):\n"
        "    if 'row.json' in files:\n"
        "        with open(os.path.join(place, 'row.json'), 'rb') as file:\n"
        "            json.loads(file.read())\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        words = ["dataset=synthetic", "loss=contrastive", "protocol.epochs=1", f"paths.runs={folder}/one"]
        with contextlib.redirect_stdout(io.StringIO()):
            assert run(["train", *words, f"paths.data={folder}/data"]) == 0
        [file] = find_rows(Path(folder) / "one")
        columns, generator = read_row(file).columns, random.Random(0)
        for study in range(n_studies):
            for loss in ORDER:
                for seed in range(n_seeds):
                    own = {"loss": loss, "loss_label": loss, "method_digest": loss, "seed": seed}
                    own |= {
                        "protocol_embedding_dim": study + 1,
                        "fingerprint": f"{study:08x}",
                        "run_id": f"{study}-{loss}-{seed}",
                    }
                    scores = {name: generator.random() for name in columns if is_metric(name)}
                    write_row(Path(folder) / "runs" / loss / str(own["run_id"]), Row({**columns, **own, **scores}))
        sides = {"table": ["-m", "dmlbench", "table", "--untested"], "floor": ["-c", floor]}

        def side(name: str) -> Callable[[], float]:
            return lambda: _cpu_seconds([sys.executable, *sides[name], f"{folder}/runs"])

        took = alternate(rounds, table=side("table"), floor=side("floor"))
    n = n_studies * len(ORDER) * n_seeds
    print(f"table   {n} rows of {len(columns)} columns: {took['table']:.2f} s of one core (at most 2)")
    print(f"table   ratio {took['table'] / took['floor']:.2f} to reading and parsing alone, {took['floor']:.2f} s")


def _cpu_seconds(command: list[str]) -> float:
    """What a process takes of one core, its start included; other work on the machine counts little."""
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


GROCERY = ["dataset=folder", "dataset.name=grocery", "dataset.manifest=labels.csv", "dataset.split=manifest"]
GROCERY += ["trunk=mobilenet_v2", "protocol=standard", "protocol.epochs=5", "protocol.batch_size=64"]
GROCERY += ["protocol.embedding_dim=128", "protocol.image_px=112", "protocol.resize_px=128"]


def bench_frozen(rounds: int = 3) -> None:
    """`dmlbench sweep protocol.trunk_frozen=true` against one bare pass over the same images; a process each, in turn.

    The words of the data set stand on the command line; without any it is the Grocery set of ../shared, as on the page of
    results, and photos where there is none. The sweep starts with nothing: images are checked, features computed. Its
    start-up counts, that of the pass does not.
    """
    with tempfile.TemporaryDirectory() as place:
        words = [*_frozen_words(Path(place)), *(word for word in sys.argv[1:] if "=" in word)]
        passes = {"in the protocol's batches": "0", "in batches of 16": "16"}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in (*passes, "sweep")}
        for number in range(rounds):
            for name, batch in passes.items():
                command = [sys.executable, str(Path(__file__).with_name("bench_frozen.py")), batch, *words]
                done = subprocess.run([*command, f"paths.data={place}/warm"], check=True, capture_output=True, text=True)
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
            found["sweep"].append(_frozen_sweep(words, f"{place}/{number}"))
            said = ", ".join(f"{name} {each[-1]['wall']:.1f} s ({each[-1]['cpu']:.1f} of CPU)" for name, each in found.items())
            last = found["sweep"][-1]
            print(f"frozen  {said}: features {last['features']:.1f}, training {last['training']:.1f}", flush=True)
        for name in passes:
            for kind in ("wall", "cpu"):
                ratio = statistics.median(
                    ours[kind] / bare[kind] for ours, bare in zip(found["sweep"], found[name], strict=True)
                )
                print(f"frozen  sweep / one pass {name}, {kind}: {ratio:.2f} (at most 1.3)")


def _frozen_sweep(words: list[str], place: str) -> dict[str, float]:
    """Seconds of a sweep in a process of its own, from nothing, and the shares of it that its rows tell."""
    fresh = [f"paths.data={place}/data", f"paths.runs={place}/runs", "protocol.trunk_frozen=true"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "dmlbench", "sweep", *words, *fresh]
    wall = _seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = [json.loads(file.read_text()) for file in Path(place).rglob("row.json")]
    assert len(rows) == 8
    features, training = (sum(row[f"{name}_seconds"] for row in rows) for name in ("features", "train"))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "features": features, "training": training}


def _frozen_words(place: Path) -> list[str]:
    if any(word.startswith("dataset=") for word in sys.argv[1:]):
        return []
    kit = Path(__file__).resolve().parents[2] / "shared" / "data"
    if (kit / "grocery81_112.zip").is_file():
        shutil.unpack_archive(kit / "grocery81_112.zip", place)
        weights = kit / "mobilenet_v2_imagenet_trunk_fp16.pth"
        return [*GROCERY, f"dataset.root={place / 'grocery81_112'}", f"trunk.weights={weights}"]
    for label in range(40):
        (place / "photos" / f"{label:02}").mkdir(parents=True)
        photos(place / "photos" / f"{label:02}", 50)
    return ["dataset=folder", f"dataset.root={place / 'photos'}", "trunk=resnet18", "trunk.weights=none", "protocol=standard"]


BENCHES = {
    "table": bench_table,
    "start": bench_start,
    "train": bench_train,
    "input": bench_input,
    "evaluate": bench_evaluate,
    "cluster": bench_cluster,
    "gallery": bench_gallery,
    "frozen": bench_frozen,
}

if __name__ == "__main__":
    for name in [word for word in sys.argv[1:] if "=" not in word] or BENCHES:
        if name not in BENCHES:
            sys.exit(f"bench: '{name}' is not known; known: {', '.join(BENCHES)}")
        BENCHES[name]()
