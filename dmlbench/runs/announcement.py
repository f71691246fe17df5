"""Lines that describe a run before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dmlbench.config.instantiate import locate, parameters
from dmlbench.config.learning_rates import learning_rates
from dmlbench.config.plan import Plan
from dmlbench.config.presets import NONE as NO_PRESET
from dmlbench.config.schema import Protocol
from dmlbench.data.folds import training_splits
from dmlbench.data.split import Split
from dmlbench.results.formatting import selected_by
from dmlbench.training.epoch_sampler import EpochSampler, training_labels


def announcement(plan: Plan, split: Split) -> list[str]:
    """Return a few lines that describe a run before it starts.

    Args:
        plan: The plan of the run.
        split: Its data set, before any fold is held out.
    """
    protocol, method = plan.protocol, plan.method
    rates = learning_rates(method, protocol)
    part = training_splits(split, protocol)[0]
    facts = part.facts
    batch = f", {method.samples_per_class} images per class" if "m_per_class" in plan.sampler["_target_"] else ""
    lr = f", loss learning rate {rates.loss:g}" if method.kind == "classification" else ""
    preset = "" if plan.shared["preset"] == NO_PRESET else f", preset {plan.shared['preset']}"
    weights = "from scratch" if plan.trunk.weights == "none" else f"with {Path(plan.trunk.weights).name}"
    return [
        f"dataset   {plan.dataset.label}: train {facts['train_images']:,} images of {facts['train_classes']:,} classes; test "
        f"{_drawn(protocol)}{facts['query_images']:,} query and {facts['gallery_images']:,} gallery images of "
        f"{facts['test_classes']:,} classes",
        f"trunk     {plan.trunk.label} {weights}",
        f"protocol  {protocol.name} v{protocol.version}{preset}: {_count(protocol.epochs, 'epoch')}, batch "
        f"{protocol.batch_size}, {protocol.embedding_dim}-d, crop {protocol.image_px} of {protocol.resized_px} px, "
        f"{plan.shared['optimizer']} with learning rate {rates.trunk:g}, on {plan.device} in {plan.precision}",
        *(["features  frozen trunk: computed once, from centre crops without flips"] if protocol.trunk_frozen else []),
        *_selection(protocol),
        *(f"note      {note}" for note in (*split.notes, *_few_images(plan, split), *_unused_memory(plan, part))),
        f"method    {method.label} ({method.kind}{batch}{lr})" if method.make else f"method    {method.label}: no training",
        f"run       {plan.run_id}, seed {plan.seed}, in {plan.folder}",
    ]


def _drawn(protocol: Protocol) -> str:
    return "" if protocol.evaluation_queries is None else f"{protocol.evaluation_queries:,} drawn of "


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _selection(protocol: Protocol) -> Iterator[str]:
    """How the reported model is selected, unless it is the last epoch of one training on all training classes."""
    by = selected_by(protocol.selection_metric, protocol.clusters_per_class)
    epoch = f"best epoch on held-out training classes{by}" if protocol.selection == "validation" else "last epoch"
    if protocol.fold == "all":
        yield f"selection {epoch}; {protocol.folds} models, one per fold of held-out training classes"
    elif protocol.fold != "none":
        yield f"selection {epoch}; fold {protocol.fold} of {protocol.folds} of the training classes is held out"
    elif protocol.selection == "validation":
        yield f"selection {epoch}, as given by the data set"


def _few_images(plan: Plan, split: Split) -> Iterator[str]:
    counts = split.frame.loc[split.frame["train"], "label"].value_counts()
    few = int((counts < plan.method.samples_per_class).sum())
    if few and "samples_per_class" in plan.sampler:
        crops = "" if plan.protocol.trunk_frozen else ", each with its own crop"
        yield (
            f"{few} training class{'es have' if few > 1 else ' has'} fewer than {plan.method.samples_per_class} images, "
            f"which repeat within a batch{crops}"
        )


def _unused_memory(plan: Plan, part: Split) -> Iterator[str]:
    make = plan.method.make
    start = (parameters(locate("loss.make", make)) or {}).get("start_step") if make else None
    if make is None or start is None:
        return
    n_steps = plan.protocol.epochs * len(EpochSampler(plan, training_labels(part))(0))
    start_step = make.get("start_step", start.default)
    if n_steps <= start_step:
        yield (
            f"loss.make.start_step is {start_step:,}, but training has {_count(n_steps, 'step')}, so the loss never uses its "
            "memory of earlier batches"
        )
