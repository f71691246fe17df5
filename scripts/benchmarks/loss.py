"""Memory and time of a training step of every loss, at 100, 1,000 and 11,318 classes.

A step is forward, backward and a step of AdamW on embeddings of 512 dimensions in a batch of 112. Memory is the peak above
that of the process before the loss is built. It includes parameters, gradients and the state of the optimizer. Each loss runs
in its own process. On a machine with CUDA, loss and embeddings are on the GPU. Losses that pytorch-metric-learning has too, but
slower, are compared with it first; see `loss_ratio`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from pytorch_metric_learning import losses as _losses  # noqa: F401  # imported before the memory is measured

from benchmarks import loss_ratio
from benchmarks.timing import measure_in_process
from dmlbench.config.compose import compose, resolve
from dmlbench.config.files import entries
from dmlbench.losses.objective import build_objective
from dmlbench.system.memory import peak_memory_bytes
from dmlbench.training.environment import make_deterministic

BATCH, DIM = 112, 512
CLASSES = (100, 1_000, 11_318)  # CUB has 100 training classes, SOP 11,318
STEPS = 3
N_ATTRIBUTES = 312  # as CUB has
LIMIT_MIB = 2048
# Overrides for losses whose first steps differ from those in the middle of a training.
IN_USE = {"cross_batch_memory": ["loss.make.start_step=0"]}


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print one line per loss, with memory and seconds for each number of classes.

    Args:
        quick: Measure small numbers of classes.
        overrides: Overrides of the configuration; `loss=NAME` measures one loss.
    """
    classes = (10, 20, 40) if quick else CLASSES
    chosen = [one.partition("=")[2] for one in overrides if one.startswith("loss=")]
    others = [one for one in overrides if not one.startswith("loss=")]
    loss_ratio.measure(quick, chosen)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    largest = 0.0
    print(f"loss    a step on {device}, batch {BATCH}, {DIM} dimensions, for {' / '.join(f'{n:,}' for n in classes)} classes")
    for name in chosen or [name for name, _ in entries("loss") if name not in ("untrained", "raw_pixels")]:
        found = [measure_in_process("loss", device, name, str(n), *IN_USE.get(name, []), *others) for n in classes]
        memory = " / ".join(f"{one['mib']:6.0f}" for one in found)
        seconds = " / ".join(f"{one['seconds'] * 1000:7.1f}" for one in found)
        print(f"loss    {name:26} memory {memory} MiB   time {seconds} ms", flush=True)
        largest = max([largest, *(one["mib"] for one in found)])
    print(f"loss    largest memory {largest:.0f} MiB (at most {LIMIT_MIB})")


def _step(device: str, name: str, n_classes: int, overrides: Sequence[str]) -> dict[str, float]:
    """Peak memory in MiB and the median seconds of a step."""
    make_deterministic(torch.get_num_threads())
    composed = compose(["dataset=cub", f"loss={name}", f"protocol.embedding_dim={DIM}", *overrides])
    facts = {"train_classes": n_classes, "train_images": 5 * n_classes}
    method = resolve(composed, facts).method
    if method.attributes == "predicted":
        method = replace(method, n_attributes=N_ATTRIBUTES)
    generator = torch.Generator().manual_seed(0)
    torch.randn(BATCH, DIM, device=device) @ torch.randn(DIM, DIM, device=device)  # loads the libraries of the device
    before = _peak_mib(device)
    torch.manual_seed(0)
    objective = build_objective(method)
    assert objective is not None
    objective.to(device)
    parameters = list(objective.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3) if parameters else None
    seconds = []
    for _ in range(STEPS):
        first = torch.randperm(n_classes, generator=generator)[: BATCH // 4]
        size = min(BATCH, 4 * len(first))
        size -= size % 3 if method.sampler else 0  # a batch of triplets
        labels = first.repeat_interleave(4)[:size].to(device)
        embeddings = torch.nn.functional.normalize(torch.randn(len(labels), DIM, generator=generator)).to(device)
        embeddings.requires_grad_()
        values = torch.rand(2, len(labels), N_ATTRIBUTES, generator=generator).to(device)
        annotated = None if method.attributes == "ignored" else values[0].round()
        logits = values[1].requires_grad_() if method.attributes == "predicted" else None
        began = time.perf_counter()
        loss = objective(embeddings, labels, annotated, logits)
        if optimizer is not None:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if optimizer is not None:
            optimizer.step()
        if not torch.isfinite(loss):  # also waits for the device
            raise SystemExit(f"the loss of {name} is {loss.item()}")
        seconds.append(time.perf_counter() - began)
    return {"mib": _peak_mib(device) - before, "seconds": sorted(seconds)[len(seconds) // 2]}


def _peak_mib(device: str) -> float:
    return (torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory_bytes()) / 2**20


if __name__ == "__main__":
    device_, name_, classes_, *overrides_ = sys.argv[1:]
    print(json.dumps(_step(device_, name_, int(classes_), overrides_)))
