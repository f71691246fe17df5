"""Measure the cost of dmlbench relative to a minimal implementation, as ratios within one run.

    python scripts/bench.py                      run all benchmarks
    python scripts/bench.py train input          run some of them
    python scripts/bench.py --quick              run them at reduced size, to check that they work; the ratios mean nothing
    python scripts/bench.py frozen dataset=...   overrides of the configuration, for the benchmark `frozen`

The two sides alternate, so that other work on the machine slows down both, and medians are compared. Ratios are comparable
between machines; seconds are not.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

# Each is a module of `benchmarks` with a function `measure(quick, overrides)`.
BENCHMARKS = {
    "table": "a table of 10,000 rows, relative to reading and parsing their files",
    "report": "size and time of a report of eight methods with three seeds, and the time to open it",
    "site": "a site about 10,000 entries, and the size of its largest page",
    "verify": "verification of rows up to the tier `consistent`, in seconds per row",
    "start": "start-up: `dmlbench --help`, relative to `python -c pass`",
    "file": "`dmlbench evaluate` of a small file, relative to a script with pytorch-metric-learning",
    "demo": "the sweep of `make demo`, relative to the training of its jobs",
    "train": "training, relative to a minimal training loop and to steps without loading of images",
    "chunks": "a step of 4,000 images in chunks of 200, relative to plain steps of 200",
    "processes": "training in two processes, relative to one: images per second, and the difference of the rows",
    "input": "loading of training batches, relative to PIL and torchvision's v1 transforms",
    "contents": "hashing the contents of 10,000 images, relative to reading and to decoding them",
    "evaluate": "all retrieval metrics, relative to the matrix product and to pytorch-metric-learning",
    "cluster": "k-means with one initialisation, relative to ten; time of the clustering metrics",
    "gallery": "memory of a search in a million embeddings that stay on disk",
    "serve": "search of `dmlbench serve` with ten users at once, relative to the bare matrix-vector product",
    "loss": "batch triplets and SoftTriple, relative to pytorch-metric-learning; memory and time of a step of every loss",
    "angles": "angles by which proxies turn in the first steps, from 50 to 11,318 classes",
    "frozen": "a sweep of seven losses on a frozen trunk, relative to one pass through the trunk",
}


def main() -> None:
    """Run the benchmarks named on the command line."""
    lines = [f"  {name:11}{text}" for name, text in BENCHMARKS.items()]
    parser = argparse.ArgumentParser(
        description=str(__doc__).partition("\n")[0],
        epilog="benchmarks:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("arguments", nargs="*", metavar="NAME|KEY=VALUE", help="benchmarks (default: all), and overrides")
    parser.add_argument("--quick", action="store_true", help="use reduced sizes, to check that the benchmarks work")
    arguments = parser.parse_intermixed_args()
    overrides = [one for one in arguments.arguments if "=" in one]
    names = [one for one in arguments.arguments if "=" not in one] or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            sys.exit(f"bench: '{name}' is not a benchmark; choose from {', '.join(BENCHMARKS)}")
    for name in names:
        import_module(f"benchmarks.{name}").measure(arguments.quick, overrides)


if __name__ == "__main__":
    main()
