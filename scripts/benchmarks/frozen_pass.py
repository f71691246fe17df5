"""One pass of a trunk over the images of a data set, with decoding: one side of the benchmark `frozen`, in a separate process.

    python -m benchmarks.frozen_pass BATCH_SIZE OVERRIDE...

BATCH_SIZE is the number of images per forward pass; 0 for the protocol's batch size. Prints wall and CPU seconds of the pass
alone, without start-up, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from dmlbench.config.compose import compose
from dmlbench.data.loader import make_batches
from dmlbench.models.embedder import build_embedder
from dmlbench.runs.prepare import prepare
from dmlbench.training.environment import make_deterministic


def main(batch_size: int, overrides: Sequence[str]) -> None:
    """Time the pass.

    Args:
        batch_size: Images per forward pass, or 0.
        overrides: Overrides of the configuration.
    """
    plan, split = prepare(compose([*overrides, "loss=untrained"]))
    make_deterministic(plan.protocol.threads)
    if batch_size:
        plan = replace(plan, protocol=replace(plan.protocol, batch_size=batch_size))
    wall, cpu = time.perf_counter(), time.process_time()
    model = build_embedder(plan).to(memory_format=torch.channels_last).eval()
    with torch.no_grad():
        for images, _ in make_batches(plan, split).test(range(len(split.frame))):
            model.pooled(images.to(memory_format=torch.channels_last))
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
