"""Arguments of losses with which training would break down are refused, in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from dmlbench.config.compose import compose, resolve
from dmlbench.errors import UserError
from dmlbench.losses.objective import build_objective


@pytest.mark.parametrize(
    ("loss", "arguments", "reason"),
    [
        ("softtriple", {"gamma": 0}, "gamma is 0; it must be above 0"),
        ("softtriple", {"gamma": -0.1}, "gamma is -0.1; it must be above 0"),
        ("softtriple", {"centers_per_class": 0}, "centers_per_class is 0; it must be at least 1"),
        ("smooth_ap", {"temperature": 0}, "temperature is 0; it must be above 0"),
        ("roadmap", {"temperature": 0}, "temperature is 0; it must be above 0"),
        ("recall_at_k", {"temperature": -1}, "temperature is -1; it must be above 0"),
        ("recall_at_k", {"ks": "[0,1]", "k_temperatures": "[1,1]"}, "ks is [0, 1]; each k must be at least 1"),
        (
            "recall_at_k",
            {"ks": "[1,2]", "k_temperatures": "[0,1]"},
            "k_temperatures is [0, 1]; each temperature must be above 0",
        ),
        ("binomial_deviance", {"alpha": 0}, "alpha is 0; it must be above 0"),
        ("soft_binomial_deviance", {"alpha": -1}, "alpha is -1; it must be above 0"),
        ("sgml", {"alpha": -1}, "alpha is -1; it must be above 0"),
        ("sgml", {"attribute_weight": -5}, "attribute_weight is -5; it must be at least 0"),
        ("cross_batch_memory", {"start_step": -5}, "start_step is -5; it must be at least 0"),
        ("cross_batch_memory", {"memory_size": 0}, "memory_size is 0; it must be at least 1"),
    ],
)
def test_an_argument_that_no_training_can_use_is_refused(loss: str, arguments: dict[str, Any], reason: str) -> None:
    overrides = [f"loss.make.{name}={value}" for name, value in arguments.items()]
    method = resolve(compose([f"loss={loss}", *overrides]), {"train_classes": 4, "train_images": 8}).method
    with pytest.raises(UserError) as refused:
        build_objective(method)
    assert str(refused.value).startswith(f"loss/{loss}: loss.make: dmlbench.losses.")
    assert str(refused.value).endswith(f"Loss refuses its arguments: {reason}")
