"""The loss of a batch and its gradients: of the whole batch at once, or with the memory of a chunk of it.

In chunks, the model embeds the batch without a graph. The loss of the whole batch gives the gradient with respect to every
embedding, and the model embeds each chunk again to propagate its part. This is exact for every loss and miner, because they
see all embeddings of the batch, as long as the embedding of an image does not depend on the other images of its chunk.
"""

from __future__ import annotations

import torch
from torch import nn

from dmlbench.config.plan import Plan
from dmlbench.data.loader import to_device
from dmlbench.errors import MethodFailure, UserError
from dmlbench.losses.objective import Objective
from dmlbench.models.embedder import Embedder
from dmlbench.training.optimization import STEP_ERRORS

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
    """Compute the loss of a batch and add its gradients to the parameters of model and objective.

    The model computes in the precision of the plan, the objective in float32.

    Args:
        model: Model, on the device of the plan.
        objective: Objective, on the same device.
        images: uint8 `(B, 3, H, W)`, or features, float32 `(B, C)`; on the CPU.
        labels: int64 `(B,)`, on the CPU.
        plan: Plan with device, precision and the size of a chunk.
        attributes: Annotated attributes, float32 `(B, K)` with NaN for missing values, on the CPU. None if the method ignores
            them.

    Returns:
        The loss, a scalar without a graph.

    Raises:
        MethodFailure: The loss cannot be computed, because embeddings are not finite.
    """
    size = plan.protocol.chunk_size or len(images)
    if size >= len(images):
        loss = _loss(objective, _outputs(model, images, plan), labels, plan, attributes)
        loss.backward()
        return loss.detach()
    chunks = images.split(size)
    with torch.no_grad():
        each = [_outputs(model, chunk, plan) for chunk in chunks]
    outputs = tuple(torch.cat(parts).requires_grad_() for parts in zip(*each, strict=True))
    loss = _loss(objective, outputs, labels, plan, attributes)
    loss.backward()
    gradients = [None if one.grad is None else one.grad.split(size) for one in outputs]
    for index, chunk in enumerate(chunks):
        found = zip(_outputs(model, chunk, plan), gradients, strict=True)
        used = [(output, parts[index]) for output, parts in found if parts is not None and output.requires_grad]
        if used:
            torch.autograd.backward([output for output, _ in used], [gradient for _, gradient in used])
    return loss.detach()


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


def refuse_chunks(model: nn.Module, chunk_size: int | None) -> None:
    """Refuse chunks if the embedding of an image depends on the chunk that it is in.

    Args:
        model: Model in training mode.
        chunk_size: Images per chunk; None if the batch is not divided.

    Raises:
        UserError: Batch normalization is not frozen, or a layer drops values at random.
    """
    if chunk_size is None:
        return
    for name, module in model.named_modules():
        layer = f"{name} ({type(module).__name__})"
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise UserError(
                f"protocol.chunk_size is {chunk_size}, but batch normalization is not frozen, so that an embedding depends on "
                f"the whole batch: {layer}; use protocol.freeze_batch_norm=true, a trunk without it, or "
                "protocol.chunk_size=null"
            )
        drops = any(word in type(module).__name__.lower() for word in ("drop", "stochastic"))
        shares = [getattr(module, share, 0) for share in _DROP_SHARES] if drops else []
        if any(isinstance(share, int | float) and share > 0 for share in shares):
            raise UserError(
                f"protocol.chunk_size is {chunk_size}, but the model drops values at random, which would differ from those of "
                f"the whole batch: {layer}; use a trunk without dropout, or protocol.chunk_size=null"
            )
