"""One pass of a trunk over the images of a data set, decoding included, in a process of its own: a side of `bench.py frozen`.

    python scripts/bench_frozen.py BATCH WORD...

BATCH images go through the trunk at a time; 0 for the protocol's batch. Prints wall and CPU
seconds of the pass alone, without start-up, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace

import torch
from dmlbench.launch import compose, prepare

from dmlbench.data.loader import make_batches
from dmlbench.models.embedder import build_embedder
from dmlbench.runs.experiment import compute_alike


def main(batch_size: int, words: list[str]) -> None:
    """Time the pass."""
    plan, split = prepare(*compose([*words, "loss=untrained"]))
    compute_alike(plan)
    if batch_size:
        plan = replace(plan, protocol=replace(plan.protocol, batch_size=batch_size))
    began, worked = time.perf_counter(), time.process_time()
    model = build_embedder(plan).to(memory_format=torch.channels_last).eval()
    with torch.no_grad():
        for images, _ in make_batches(plan, split).test(range(len(split.frame))):
            model.pooled(images.to(memory_format=torch.channels_last))
    print(json.dumps({"wall": time.perf_counter() - began, "cpu": time.process_time() - worked}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
