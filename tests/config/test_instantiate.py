from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from pytorch_metric_learning import losses

from dmlbench.config.instantiate import build, check, parameters, source_sha256
from dmlbench.errors import UserError

CONTRASTIVE = "pytorch_metric_learning.losses.ContrastiveLoss"
COSFACE = "pytorch_metric_learning.losses.CosFaceLoss"


def test_a_spec_becomes_the_object_with_its_arguments() -> None:
    loss = build("loss.make", {"_target_": CONTRASTIVE, "neg_margin": 0.7})
    assert isinstance(loss, losses.ContrastiveLoss)
    assert loss.neg_margin == 0.7


def test_a_nested_spec_is_built_first() -> None:
    distance = {"_target_": "pytorch_metric_learning.distances.LpDistance", "power": 2}
    loss = build("loss.make", {"_target_": "pytorch_metric_learning.losses.TripletMarginLoss", "distance": distance})
    assert loss.distance.power == 2


def test_parameters_handed_over_are_the_very_objects() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = build("optimizer", {"_target_": "torch.optim.SGD", "momentum": 0.9}, [{"params": [weight], "lr": 0.5}])
    assert optimizer.param_groups[0]["params"][0] is weight
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_misspelt_argument_is_refused_with_a_near_name() -> None:
    with pytest.raises(UserError, match=r"loss\.make\.neg_margn is no argument of .*; did you mean 'neg_margin'\?"):
        check("loss.make", {"_target_": CONTRASTIVE, "neg_margn": 1})


def test_a_misspelt_argument_is_refused_where_the_constructor_passes_anything_up() -> None:
    with pytest.raises(UserError, match=r"num_clases is no argument of .*did you mean 'num_classes'"):
        check("loss.make", {"_target_": COSFACE, "num_clases": 4, "embedding_size": 2})


def test_a_misspelt_argument_of_a_nested_spec_is_refused_with_its_place() -> None:
    distance = {"_target_": "pytorch_metric_learning.distances.LpDistance", "pover": 2}
    with pytest.raises(UserError, match=r"loss\.make\.distance\.pover is no argument"):
        check("loss.make", {"_target_": CONTRASTIVE, "distance": distance})


def test_the_arguments_of_all_ancestors_are_known() -> None:
    known = parameters(losses.CosFaceLoss)
    assert known is not None
    assert {"margin", "scale", "num_classes", "embedding_size", "reducer", "weight_regularizer"} <= set(known)


def test_text_for_a_number_is_refused() -> None:
    with pytest.raises(UserError, match=r"loss\.make\.neg_margin is 'wide', but .* takes a number there"):
        check("loss.make", {"_target_": CONTRASTIVE, "neg_margin": "wide"})


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(UserError, match=r"sampler\.samples_per_class is missing"):
        check("sampler", {"_target_": "dmlbench.data.samplers.m_per_class"}, positional=3)


def test_what_a_constructor_itself_refuses_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"loss\.make: .*CosFaceLoss refuses its arguments: .*num_classes"):
        build("loss.make", {"_target_": COSFACE})


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("nowhere.Loss", "cannot be imported: .*nowhere"),
        ("pytorch_metric_learning.losses.Contrastive", "cannot be imported"),
        ("pytorch_metric_learning.losses.__doc__", "is no class or function|cannot be imported"),
        (3, "it needs a `_target_`"),
    ],
)
def test_a_target_that_cannot_be_imported_is_one_sentence(target: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check("loss.make", {"_target_": target})


def test_only_a_source_file_outside_installed_packages_is_digested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "a_loss_of_mine.py"
    mine.write_text("class Loss:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = {"_target_": "a_loss_of_mine.Loss"}
    first = source_sha256("loss.make", spec)
    assert first is not None
    assert source_sha256("loss.make", {"_target_": CONTRASTIVE, "distance": spec}) == first
    mine.write_text("class Loss:\n    margin = 2\n")
    del sys.modules["a_loss_of_mine"]  # as in a new process
    assert source_sha256("loss.make", spec) != first
    for target in (CONTRASTIVE, "dmlbench.data.samplers.shuffle", "collections.Counter"):
        assert source_sha256("loss.make", {"_target_": target}) is None
    del sys.modules["a_loss_of_mine"]


def test_ones_own_file_is_seen_within_lists_and_digested_as_it_was_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "a_loss_in_a_list.py"
    file.write_text("import torch\n\n\nclass Mine(torch.nn.Module):\n    pass\n")
    spec = {
        "_target_": "pytorch_metric_learning.losses.MultipleLosses",
        "losses": [{"_target_": "a_loss_in_a_list.Mine"}],
    }
    first = source_sha256("loss.make", spec)
    assert first is not None
    file.write_text(file.read_text() + "\n# edited while the process runs\n")
    assert source_sha256("loss.make", spec) == first
    del sys.modules["a_loss_in_a_list"]
    assert source_sha256("loss.make", spec) != first


def test_an_argument_misspelt_within_a_list_is_refused() -> None:
    spec = {
        "_target_": "pytorch_metric_learning.losses.MultipleLosses",
        "losses": [{"_target_": "pytorch_metric_learning.losses.TripletMarginLoss", "margn": 1}],
    }
    with pytest.raises(UserError, match=r"loss.make.losses\[0\].margn is no argument"):
        check("loss.make", spec)


def test_null_where_a_number_belongs_is_refused() -> None:
    spec = {"_target_": "pytorch_metric_learning.losses.ContrastiveLoss", "pos_margin": None}
    with pytest.raises(UserError, match=r"loss\.make\.pos_margin is None, but .* takes a number there"):
        check("loss.make", spec)


def test_a_list_that_is_too_short_for_its_constructor_is_one_sentence() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(UserError, match=r"optimizer: torch\.optim\.AdamW refuses its arguments: list index out of range"):
        build("optimizer", {"_target_": "torch.optim.AdamW", "betas": [0.9]}, [weight])
