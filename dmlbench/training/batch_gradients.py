"""The loss of a batch and its gradients: of the whole batch at once, with the memory of a chunk of it, or in several processes.

In chunks, the model embeds the batch without a graph. The loss of the whole batch gives the gradient with respect to every
embedding, and the model embeds each chunk again to propagate its part. Several processes each embed a part of the batch, gather
the embeddings of the others, and propagate their part. Both are exact for every loss and miner, because they see all embeddings
of the batch, as long as the embedding of an image does not depend on the other images of its chunk or part.
"""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import nn

from dmlbench.config.plan import Plan
from dmlbench.config.schema import Protocol
from dmlbench.data.loader import to_device
from dmlbench.errors import MethodFailure, UserError
from dmlbench.losses.objective import Objective
from dmlbench.models.embedder import Embedder
from dmlbench.system.seeding import torch_stream
from dmlbench.training import processes
from dmlbench.training.global_batch_norm import PLAIN
from dmlbench.training.optimization import STEP_ERRORS

LARGEST_ROUNDING = 1e-3  # largest difference of two unit vectors by rounding, also through an untrained trunk of many layers
# Names of the share of values that a layer drops at random: torch's dropout and stochastic depth, timm's DropPath.
_DROP_SHARES = ("p", "drop_prob")


def add_gradients(
    model: Embedder,
    objective: Objective,
    images: torch.Tensor,
    labels: torch.Tensor,
    plan: Plan,
    attributes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the loss of a batch and its gradients with respect to the parameters of model and objective.

    The model computes in the precision of the plan, the objective in float32. The parameters have no gradients before the call;
    after it, they have those of the whole batch in every process.

    Args:
        model: Model, on the device of the plan.
        objective: Objective, on the same device.
        images: uint8 `(B, 3, H, W)`, or features, float32 `(B, C)`; on the CPU. One of several processes has its part of them,
            `processes.part_of(B)`.
        labels: int64 `(B,)`, on the CPU; of the whole batch in every process.
        plan: Plan with device, precision and the size of a chunk.
        attributes: Annotated attributes of the whole batch, float32 `(B, K)` with NaN for missing values, on the CPU. None if
            the method ignores them.

    Returns:
        The loss, a scalar without a graph.

    Raises:
        MethodFailure: The loss cannot be computed, because embeddings are not finite.
    """
    size = plan.protocol.chunk_size or len(images)
    is_one_chunk = size >= len(images)
    if is_one_chunk and processes.count() == 1:
        loss = _loss(objective, _outputs(model, images, plan), labels, plan, attributes)
        loss.backward()
        return loss.detach()
    chunks = images.split(size)
    with torch.set_grad_enabled(is_one_chunk):
        each = [_outputs(model, chunk, plan) for chunk in chunks]
    parts = [processes.part_of(len(labels), rank) for rank in range(processes.count())]
    counts = [part.stop - part.start for part in parts]
    outputs = tuple(processes.gather_rows(torch.cat(own), counts).requires_grad_() for own in zip(*each, strict=True))
    loss = _loss(objective, outputs, labels, plan, attributes)
    loss.backward()
    gradients = [None if one.grad is None else one.grad[parts[processes.rank()]].split(size) for one in outputs]
    for index, chunk in enumerate(chunks):
        found = zip(each[0] if is_one_chunk else _outputs(model, chunk, plan), gradients, strict=True)
        used = [(output, own[index]) for output, own in found if own is not None and output.requires_grad]
        if used:
            torch.autograd.backward([output for output, _ in used], [gradient for _, gradient in used])
    _add_parts(model, objective)
    return loss.detach()


def _add_parts(model: Embedder, objective: Objective) -> None:
    """Give every process the gradients of the whole batch.

    Each process has propagated a part of the gradients of the model, and all gradients of the objective. Those of the objective
    are averaged, so that processes whose hardware rounds differently keep equal parameters.
    """
    processes.add_over_processes([one.grad for one in model.parameters() if one.grad is not None])
    own = [one.grad for one in objective.parameters() if one.grad is not None]
    processes.add_over_processes(own)
    for gradient in own if processes.count() > 1 else ():
        gradient.div_(processes.count())


def _outputs(model: Embedder, images: torch.Tensor, plan: Plan) -> tuple[torch.Tensor, ...]:
    """The embeddings of images and, if the model predicts attributes, their logits."""
    moved = to_device(images, plan.device)
    # Autocast remembers weights in bfloat16 until it ends, also without a graph, so each call has a context of its own.
    with torch.autocast(plan.device, dtype=torch.bfloat16, enabled=plan.precision == "bf16_training"):
        return (model(moved),) if model.attributes is None else model.with_attributes(moved)


def _loss(
    objective: Objective, outputs: tuple[torch.Tensor, ...], labels: torch.Tensor, plan: Plan, attributes: torch.Tensor | None
) -> torch.Tensor:
    """The loss of a batch, a scalar with its graph."""
    embeddings, *logits = outputs
    known = None if attributes is None else attributes.to(plan.device, non_blocking=True)
    try:
        return objective(embeddings, labels.to(plan.device, non_blocking=True), known, *logits)
    except STEP_ERRORS as error:  # such as a miner that cannot draw from these distances
        if torch.isfinite(embeddings).all():
            raise
        reason = str(error).partition("\n")[0]
        raise MethodFailure(f"training diverged: embeddings of a batch are not finite ({reason})") from error


def refuse_divided_batches(model: Embedder, protocol: Protocol) -> None:
    """Refuse chunks, or several processes, if the embedding of an image depends on the chunk or part that it is in.

    Known layers are named. What they do not explain is found by embedding a few images twice, and in parts.

    Args:
        model: Model in training mode, on the CPU.
        protocol: Protocol with the sizes of images, batches and chunks.

    Raises:
        UserError: Batch normalization is not frozen, a layer drops values at random, there are more processes than images, or
            embeddings of a few images are not equal if they are computed again, or in parts.
    """
    size, count = protocol.chunk_size, processes.count()
    if count > protocol.batch_size:
        raise UserError(f"{count} processes cannot share a batch of {protocol.batch_size} images; use fewer processes")
    if size is None and count == 1:
        return
    cause, remedy = f"protocol.chunk_size is {size}", "protocol.chunk_size=null"
    if size is None:
        cause, remedy = f"{count} processes share a batch", "one process"
    for name, module in model.named_modules():
        layer = f"{name} ({type(module).__name__})"
        is_global = size is None and type(module) in PLAIN
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training and not is_global:
            raise UserError(
                f"{cause}, but batch normalization is not frozen, so that an embedding depends on "
                f"the whole batch: {layer}; use protocol.freeze_batch_norm=true, a trunk without it, or {remedy}"
            )
        drops = any(word in type(module).__name__.lower() for word in ("drop", "stochastic"))
        shares = [getattr(module, share, 0) for share in _DROP_SHARES] if drops else []
        if any(isinstance(share, int | float) and share > 0 for share in shares):
            raise UserError(
                f"{cause}, but the model drops values at random, which would differ from those of "
                f"the whole batch: {layer}; use a trunk without dropout, or {remedy}"
            )
    difference = _difference(model, protocol)
    if difference is not None:
        raise UserError(f"{cause}, but {difference}; use a trunk without such a layer, or {remedy}")


def _difference(model: Embedder, protocol: Protocol) -> str | None:
    """How embeddings of a few images differ if they are computed again, or in parts; None if they do not."""
    pixels, generator = protocol.image_px, torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, pixels, pixels), dtype=torch.uint8, generator=generator)
    normalizations = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm) and one.training]
    try:
        for one in normalizations:  # several processes use the moments of the whole batch; see `global_batch_norm`
            one.eval()
        with torch.no_grad(), ExitStack() as stack:
            inputs = images
            if protocol.trunk_frozen:
                inputs = model.pooled(images)
                stack.enter_context(model.over_features())
            found = []
            for seed, parts in enumerate(([inputs], [inputs], inputs.split(2))):
                with torch_stream(seed):
                    found.append(torch.cat([model(part) for part in parts]))
    finally:
        for one in normalizations:
            one.train()
    again, in_parts = (float((other - found[0]).abs().max()) for other in found[1:])
    if again > LARGEST_ROUNDING:
        return "its model gives other embeddings of the same images each time, as dropout does"
    if in_parts > LARGEST_ROUNDING:
        return "the embedding of an image depends on the other images of its chunk or part, as batch normalization does"
    return None
