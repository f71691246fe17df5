"""Specs with `_target_` are checked before anything is built."""

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


def test_a_spec_is_built_with_its_arguments() -> None:
    loss = build("loss.make", {"_target_": CONTRASTIVE, "neg_margin": 0.7})
    assert isinstance(loss, losses.ContrastiveLoss)
    assert loss.neg_margin == 0.7


def test_a_nested_spec_is_built_first() -> None:
    distance = {"_target_": "pytorch_metric_learning.distances.LpDistance", "power": 2}
    loss = build("loss.make", {"_target_": "pytorch_metric_learning.losses.TripletMarginLoss", "distance": distance})
    assert loss.distance.power == 2


def test_arguments_of_the_caller_are_passed_unchanged() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = build("optimizer", {"_target_": "torch.optim.SGD", "momentum": 0.9}, [{"params": [weight], "lr": 0.5}])
    assert optimizer.param_groups[0]["params"][0] is weight
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_misspelt_argument_is_refused_with_a_similar_name() -> None:
    with pytest.raises(UserError, match=r"loss\.make\.neg_margn is not an argument of .*; did you mean 'neg_margin'\?"):
        check("loss.make", {"_target_": CONTRASTIVE, "neg_margn": 1})


def test_a_misspelt_argument_is_refused_if_the_constructor_passes_keywords_to_its_base_classes() -> None:
    with pytest.raises(UserError, match=r"num_clases is not an argument of .*did you mean 'num_classes'"):
        check("loss.make", {"_target_": COSFACE, "num_clases": 4, "embedding_size": 2})


def test_a_misspelt_argument_of_a_nested_spec_is_refused_with_its_key() -> None:
    distance = {"_target_": "pytorch_metric_learning.distances.LpDistance", "pover": 2}
    with pytest.raises(UserError, match=r"loss\.make\.distance\.pover is not an argument"):
        check("loss.make", {"_target_": CONTRASTIVE, "distance": distance})


def test_the_parameters_of_all_base_classes_are_known() -> None:
    known = parameters(losses.CosFaceLoss)
    assert known is not None
    assert {"margin", "scale", "num_classes", "embedding_size", "reducer", "weight_regularizer"} <= set(known)


def test_text_is_refused_if_a_number_is_needed() -> None:
    with pytest.raises(UserError, match=r"loss\.make\.neg_margin is 'wide', but .* needs a number"):
        check("loss.make", {"_target_": CONTRASTIVE, "neg_margin": "wide"})


@pytest.mark.parametrize("value", ["no", "off", "maybe", None])
def test_text_is_refused_if_true_or_false_is_needed_because_python_takes_text_as_true(value: str | None) -> None:
    target = "dmlbench.losses.semantic_granularity.SemanticGranularityLoss"
    with pytest.raises(UserError, match=r"loss\.make\.linked is ('no'|'off'|'maybe'|null), but .* needs true or false"):
        check("loss.make", {"_target_": target, "linked": value})
    check("loss.make", {"_target_": target, "linked": False})


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(
        UserError, match=r"sampler\.samples_per_class is missing; dmlbench\.data\.samplers\.m_per_class needs it"
    ):
        check("sampler", {"_target_": "dmlbench.data.samplers.m_per_class"}, positional=3)


class OtherName:
    """A class whose methods call the instance something else than `self`."""

    def __init__(this, margin: float) -> None:  # noqa: N805
        this.margin = margin


def test_the_first_parameter_of_a_constructor_may_have_any_name() -> None:
    assert build("loss.make", {"_target_": f"{__name__}.OtherName", "margin": 0.5}).margin == 0.5


def test_the_instance_is_not_an_argument() -> None:
    with pytest.raises(UserError, match=r"loss\.make\.this is not an argument of .*known: margin"):
        check("loss.make", {"_target_": f"{__name__}.OtherName", "this": 1, "margin": 0.5})
    with pytest.raises(UserError, match=r"loss\.make\.margin is missing"):
        check("loss.make", {"_target_": f"{__name__}.OtherName"})


def test_an_error_of_the_constructor_is_reported_in_one_sentence() -> None:
    with pytest.raises(UserError, match=r"loss\.make: .*CosFaceLoss refuses its arguments: .*num_classes"):
        build("loss.make", {"_target_": COSFACE})


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("nowhere.Loss", "cannot be imported: .*nowhere"),
        ("pytorch_metric_learning.losses.Contrastive", "has no .Contrastive"),
        ("pytorch_metric_learning.losses.__doc__", "is not a class or function|cannot be imported"),
        (3, "it needs a `_target_`"),
    ],
)
def test_a_target_that_cannot_be_imported_is_refused_in_one_sentence(target: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check("loss.make", {"_target_": target})


def test_only_source_files_outside_installed_packages_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a_loss_of_mine.py"
    file.write_text("class Loss:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = {"_target_": "a_loss_of_mine.Loss"}
    first = source_sha256("loss.make", spec)
    assert first is not None
    assert source_sha256("loss.make", {"_target_": CONTRASTIVE, "distance": spec}) == first
    file.write_text("class Loss:\n    margin = 2\n")
    del sys.modules["a_loss_of_mine"]  # as in a new process
    assert source_sha256("loss.make", spec) != first
    for target in (CONTRASTIVE, "dmlbench.data.samplers.shuffle", "collections.Counter"):
        assert source_sha256("loss.make", {"_target_": target}) is None
    del sys.modules["a_loss_of_mine"]


def test_a_source_file_of_the_user_is_found_in_lists_and_hashed_as_it_was_imported(
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
    file.write_text(file.read_text().replace("pass", "margin = 2"))  # edited while the process runs
    assert source_sha256("loss.make", spec) == first
    del sys.modules["a_loss_in_a_list"]
    assert source_sha256("loss.make", spec) != first


def test_a_misspelt_argument_in_a_list_is_refused() -> None:
    spec = {
        "_target_": "pytorch_metric_learning.losses.MultipleLosses",
        "losses": [{"_target_": "pytorch_metric_learning.losses.TripletMarginLoss", "margn": 1}],
    }
    with pytest.raises(UserError, match=r"loss.make.losses\[0\].margn is not an argument"):
        check("loss.make", spec)


def test_null_is_refused_if_a_number_is_needed() -> None:
    spec = {"_target_": "pytorch_metric_learning.losses.ContrastiveLoss", "pos_margin": None}
    with pytest.raises(UserError, match=r"loss\.make\.pos_margin is null, but .* needs a number"):
        check("loss.make", spec)


def test_a_list_that_is_too_short_for_its_constructor_is_refused_in_one_sentence() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(UserError, match=r"optimizer: torch\.optim\.AdamW refuses its arguments: list index out of range"):
        build("optimizer", {"_target_": "torch.optim.AdamW", "betas": [0.9]}, [weight])


def test_a_misspelt_class_is_refused_with_the_similar_class_of_the_same_module() -> None:
    with pytest.raises(UserError) as refused:
        check("loss.make", {"_target_": "pytorch_metric_learning.losses.TripletMarginLos"})
    assert str(refused.value) == (
        "loss.make._target_ 'pytorch_metric_learning.losses.TripletMarginLos' is not known: "
        "pytorch_metric_learning.losses has no 'TripletMarginLos'; did you mean 'TripletMarginLoss'?"
    )


def test_a_misspelt_class_of_the_users_own_module_is_refused_with_the_similar_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_lifted.py").write_text("class Lifted: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"mine_lifted has no 'Lifetd'; did you mean 'Lifted'\?$"):
        check("loss.make", {"_target_": "mine_lifted.Lifetd"})
