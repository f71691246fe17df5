"""The proxies of a loss: its two-dimensional parameters, called proxies, centres or class weights."""

from __future__ import annotations

import torch
from torch import nn

from dmlbench.errors import UserError

# Names of parameters in this package and in pytorch-metric-learning, and whether each column is a proxy instead of each row.
_IN_COLUMNS = {"proxies": False, "W": True, "fc": True}


def proxy_parameters(module: nn.Module, dim: int) -> list[tuple[nn.Parameter, bool]]:
    """Find the proxies among the parameters of a loss.

    Args:
        module: Loss, or an objective that contains it.
        dim: Size D of the embedding.

    Returns:
        Parameters of shape `(C, D)` or `(D, C)`, each with whether its columns are proxies. In a square parameter of another
        name than those of `pytorch-metric-learning`, rows are proxies.
    """
    found = []
    for name, parameter in module.named_parameters():
        if parameter.ndim == 2 and dim in parameter.shape:
            by_shape = parameter.shape[1] != dim
            in_columns = _IN_COLUMNS.get(name.rpartition(".")[2], by_shape)
            found.append((parameter, in_columns if parameter.shape[0] == parameter.shape[1] else by_shape))
    return found


def copy_proxies(module: nn.Module, dim: int) -> list[torch.Tensor]:
    """Copy the proxies of a loss.

    Args:
        module: Loss, or an objective that contains it.
        dim: Size D of the embedding.

    Returns:
        Detached copies of its matrices, each float `(C, D)`.
    """
    found = proxy_parameters(module, dim)
    return [(parameter.detach().T if in_columns else parameter.detach()).clone() for parameter, in_columns in found]


def scale_proxies(module: nn.Module, dim: int, length: float, key: str) -> None:
    """Scale each proxy of a loss to the same length, in place. Directions do not change.

    Args:
        module: Loss that normalises its proxies, so that their lengths do not affect its value.
        dim: Size D of the embedding.
        length: Length of each proxy, above 0.
        key: Name of the loss and the length as configured, for errors.

    Raises:
        UserError: The loss has no proxies.
    """
    found = proxy_parameters(module, dim)
    if not found:
        raise UserError(f"{key}, but the loss has no matrix of proxies; use loss.proxy_init=constructor")
    with torch.no_grad():
        for parameter, in_columns in found:
            parameter.copy_(length * nn.functional.normalize(parameter, dim=0 if in_columns else 1))
