"""Floor 5: one run, from plan to row: the page where all parts meet."""

from __future__ import annotations

import platform
import resource
import socket
import subprocess
import time
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from dmlbench import __version__
from dmlbench.data.loader import Batches
from dmlbench.data.split import Split
from dmlbench.embed import embed, refuse_collapse, save_embeddings
from dmlbench.errors import MethodFailure
from dmlbench.evaluate.metrics import score
from dmlbench.evaluate.ranking import Ranking, rank
from dmlbench.losses.objective import Objective, objective_of
from dmlbench.plan import Plan
from dmlbench.randomness import seed_of, torch_stream
from dmlbench.rows import SCHEMA_VERSION, Row, Scalar
from dmlbench.train import History, save, train
from dmlbench.trunks.embedder import Embedder, embedder_of

MODEL = "model.pt"
EMBEDDINGS = "embeddings.safetensors"


def run(plan: Plan, split: Split) -> Row:
    """Train, embed and score one plan; the same plan and seed give the same row.

    Args:
        plan: what to run; its folder exists. A checkpoint there is taken up.
        split: of the plan's data set.

    Returns:
        The row; a method that broke down gives one with `status: failed` and the reason.
    """
    compute_alike(plan)
    batches = Batches(split.paths(), plan.protocol, plan.workers, plan.device == "cuda", plan.cache)
    model = embedder_of(plan).to(plan.device).to(memory_format=torch.channels_last)
    objective = initialised_objective(plan)
    history = History()
    try:
        if objective is not None:
            history = train(model, objective.to(plan.device), split, batches, plan)
        began = time.perf_counter()
        scores = score(ranking_of(model, split, batches, plan), plan.dataset.recall_at)
    except MethodFailure as failure:
        return row_of(plan, split, model, objective, history, status="failed", reason=str(failure))
    save(plan.folder / MODEL, {"model": model.state_dict()})
    seconds = round(time.perf_counter() - began, 3)
    return row_of(plan, split, model, objective, history, status="ok", reason=None, evaluate_seconds=seconds, **scores)


def compute_alike(plan: Plan) -> None:
    """Fix what torch may otherwise choose by the machine: threads, algorithms, TF32."""
    torch.set_num_threads(plan.protocol.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # the mode above would also fill every new tensor with NaN, which decides no number and costs time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def initialised_objective(plan: Plan) -> Objective | None:
    """The method's objective, its own parameters drawn from a stream of their own."""
    with torch_stream(seed_of(plan.seed, "initialise loss")):
        return objective_of(plan.method)


def ranking_of(model: Embedder, split: Split, batches: Batches, plan: Plan) -> Ranking:
    """Embed queries and gallery, write their embeddings, and rank the gallery for each query."""
    queries, gallery = split.ids("query"), split.ids("gallery")
    ids = np.union1d(queries, gallery)
    labels = torch.from_numpy(split.frame["label"].to_numpy()[ids])
    embeddings = embed(model, batches, ids.tolist(), plan.device, plan.precision)
    refuse_collapse(embeddings)
    save_embeddings(plan.folder / EMBEDDINGS, embeddings, labels, torch.from_numpy(ids))
    q, g = (torch.from_numpy(np.searchsorted(ids, role)) for role in (queries, gallery))
    return rank(
        queries=embeddings[q],
        gallery=embeddings[g],
        query_labels=labels[q],
        gallery_labels=labels[g],
        query_ids=torch.from_numpy(queries),
        gallery_ids=torch.from_numpy(gallery),
        depth=max(plan.dataset.recall_at),
    )


def row_of(
    plan: Plan,
    split: Split,
    model: Embedder,
    objective: Objective | None,
    history: History,
    status: str,
    reason: str | None,
    **scores: Scalar,
) -> Row:
    """Everything a reader of the row may ask, in flat columns."""
    own = sum(parameter.numel() for parameter in objective.parameters()) if objective else 0
    columns: dict[str, Scalar] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": plan.run_id,
        "fingerprint": plan.fingerprint,
        "method_digest": plan.method.digest,
        "status": status,
        "reason": reason,
        "dataset_label": plan.dataset.label,
        "trunk_label": plan.trunk.label,
        "loss": plan.method.name,
        "loss_label": plan.method.label,
        "seed": plan.seed,
        **plan.shared,
        **plan.method.columns,
        "trunk_weights": Path(plan.trunk.weights).name,
        "selected_on": plan.protocol.selection if objective else "none",
        "selected_epoch": len(history.epochs) if objective else 0,
        **{f"n_{fact}": count for fact, count in split.facts.items()},
        "n_images_skipped": split.n_skipped,
        **scores,
        "final_loss": history.epochs[-1]["loss"] if history.epochs else None,
        "embedding_dim": model.embedding_dim,
        "n_model_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "n_loss_parameters": own,
        "device": device_name(plan.device),
        **versions(),
        "train_seconds": round(history.seconds, 3),
        "images_per_second": history.images_per_second,
        "n_resumed": history.n_resumed,
        "memory_gib": memory_gib(plan.device),
        "hostname": socket.gethostname(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Row(columns)


def device_name(device: str) -> str:
    """The kind of device, as its maker calls it."""
    return torch.cuda.get_device_name() if device == "cuda" else f"cpu ({platform.machine()})"


def memory_gib(device: str) -> float:
    """The greatest memory in use so far: the device's on CUDA, the process's elsewhere."""
    if device == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**30, 3)
    unit = 1 if platform.system() == "Darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)


@cache
def versions() -> dict[str, Scalar]:
    """The versions that a number may depend on, and the code's revision where it runs from a checkout."""
    names = ("torch", "torchvision", "pytorch-metric-learning", "numpy")
    found: dict[str, Scalar] = {f"{name.replace('-', '_')}_version": version(name) for name in names}
    return {
        "dmlbench_version": __version__,
        "code_revision": _revision(),
        "python_version": platform.python_version(),
        **found,
    }


def _revision() -> str | None:
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
