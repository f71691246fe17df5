"""Batch normalization over the whole batch, if several processes each compute a part of it.

torch's `SyncBatchNorm` is exact as well, but it does not run on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from dmlbench.training import processes

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # subclasses may compute something else


def use_global_batch_norm(model: nn.Module) -> None:
    """Replace the batch normalization layers of a model in place; parameters, buffers and their names stay.

    Args:
        model: Model. Layers that are not of a class in `PLAIN` stay as they are.
    """
    for name, child in model.named_children():
        if isinstance(child, PLAIN) and type(child) in PLAIN:
            setattr(model, name, _GlobalBatchNorm(child))
        else:
            use_global_batch_norm(child)


class _GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """The layer of a process that has a part of the batch."""

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        self._parameters, self._buffers, self.training = layer._parameters, layer._buffers, layer.training

    def _check_input_dim(self, input: torch.Tensor) -> None:  # noqa: A002 -- its name in torch
        """Accept every input; the trunk has accepted the images before."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 -- its name in torch
        """Normalise a part of a batch with the mean and the variance of the whole batch.

        Args:
            input: Values `(B, C)` or `(B, C, ...)`, where B is the number of images of this process.

        Returns:
            Values of the same shape.
        """
        if not self.training or processes.count() == 1:  # processes embed different batches
            return super().forward(input)
        mean, variance, n = _moments(input.detach())
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            factor = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
            self.running_var.lerp_((variance * n / max(n - 1, 1)).to(self.running_var.dtype), factor)
        weight = torch.ones_like(mean) if self.weight is None else self.weight
        bias = torch.zeros_like(mean) if self.bias is None else self.bias
        normalised: torch.Tensor = _Normalise.apply(input, weight, bias, mean, variance, n, self.eps)
        return normalised


def _moments(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Mean and variance of each channel over all processes, `(C,)`, and the number of values of a channel."""
    own_mean, own_variance = torch.ops.aten.batch_norm_update_stats(values, None, None, 0.0)
    n_own = own_mean.new_tensor([values.numel() // values.shape[1]])
    # Computed in float64, from the moments of each process, because a difference of sums of squares would lose digits.
    own = torch.cat([own_mean, own_variance, n_own]).double()
    found = processes.gather_rows(own[None], [1] * processes.count())
    n, channels = found[:, -1:], values.shape[1]
    means, variances = found[:, :channels], found[:, channels:-1]
    mean = (n * means).sum(0) / n.sum()
    variance = (n * (variances + (means - mean).square())).sum(0) / n.sum()
    return mean.to(own_mean.dtype), variance.to(own_mean.dtype), int(n.sum())


class _Normalise(torch.autograd.Function):
    """Normalisation by moments that depend on the values of all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
        n: int,
        eps: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(values, weight, mean, variance)
        ctx.n, ctx.eps = n, eps
        return functional.batch_norm(values, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, weight, mean, variance = ctx.saved_tensors
        # Gradients as if mean and variance were constants; then the part that these two propagate.
        constant, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0].contiguous(memory_format=torch.channels_last) if gradients[0].ndim == 4 else gradients[0].contiguous(),
            values,
            weight,
            mean,
            variance,
            None,
            None,
            False,
            ctx.eps,
            [True, True, True],
        )
        sums = torch.stack([of_bias, of_weight])
        processes.add_over_processes([sums])
        scale = weight / torch.sqrt(variance + ctx.eps) / ctx.n
        further = functional.batch_norm(values, mean, variance, scale * sums[1], scale * sums[0], False, 0.0, ctx.eps)
        found = constant.sub_(further)
        return found.to(values.dtype), of_weight, of_bias, None, None, None, None
