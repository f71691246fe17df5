from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from omegaconf import OmegaConf

from dmlbench.config.files import conf_dir
from dmlbench.config.identity import digest, flatten
from dmlbench.config.schema import Dataset, Method, Protocol, Trunk, Tuning
from dmlbench.config.typed import typed
from dmlbench.errors import UserError

CLASSES = [("protocol", Protocol), ("loss", Method), ("dataset", Dataset), ("trunk", Trunk), ("tuning", Tuning)]
GIVEN: dict[str, Any] = {
    "name": "mine",
    "version": 1,
    "epochs": 3,
    "batch_size": 8,
    "embedding_dim": 16,
    "image_px": 227,
}


def protocol(**changes: Any) -> Protocol:
    return typed(Protocol, "protocol", GIVEN | changes)


def test_an_unknown_field_is_refused_with_a_near_name() -> None:
    with pytest.raises(UserError, match=r"protocol\.epoch is not known; did you mean 'epochs'\?"):
        protocol(epoch=3)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("epochs", "many", "protocol.epochs is 'many', but a whole number is needed"),
        ("epochs", 2.5, "protocol.epochs is 2.5, but a whole number is needed"),
        ("epochs", True, "protocol.epochs is True, but a whole number is needed"),
        ("lr", "fast", "protocol.lr is 'fast', but a number is needed"),
        ("lr", False, "protocol.lr is False, but a number is needed"),
        ("flip", 1, "protocol.flip is 1, but true or false is needed"),
        ("pooling", "average", "protocol.pooling is 'average', but 'avg' or 'max' or 'avg.max' or 'mixed' is needed"),
        ("schedule", "cosin", "did you mean 'cosine'"),
        ("crop_scale", [0.1], r"protocol.crop_scale is \[0.1\], but a list of 2 numbers is needed"),
        ("clip_grad_norm", "none", "protocol.clip_grad_norm is 'none', but a number or null is needed"),
        ("epochs", -1, "protocol.epochs is -1; it must be at least 0"),
        ("lr", float("nan"), "protocol.lr is nan; it must be at least 0"),
        ("resize_px", 200, "protocol.resize_px is 200, smaller than the crop protocol.image_px=227"),
        ("crop_scale", [0.5, 0.1], "protocol.crop_scale"),
        ("clip_grad_norm", 0, "protocol.clip_grad_norm is 0.0; it must be above 0"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_refused_in_one_sentence(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        protocol(**{field: value})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(UserError, match=r"protocol\.epochs is missing; it needs a whole number"):
        typed(Protocol, "protocol", {key: value for key, value in GIVEN.items() if key != "epochs"})


def test_a_whole_float_serves_as_a_whole_number_and_a_whole_number_as_a_float() -> None:
    made = protocol(epochs=4.0, lr=1)
    assert (made.epochs, type(made.epochs), made.lr, type(made.lr)) == (4, int, 1.0, float)


def test_the_resize_follows_the_crop_as_256_follows_227_unless_given() -> None:
    assert [protocol(image_px=px).resized_px for px in (227, 224, 96)] == [256, 253, 108]
    assert protocol(image_px=96, resize_px=112).resized_px == 112


def test_a_protocol_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol().epochs = 5  # type: ignore[misc]


@pytest.mark.parametrize(("group", "cls"), CLASSES)
def test_config_yaml_names_every_optional_field_with_the_dataclass_own_default(group: str, cls: type) -> None:
    written = OmegaConf.to_container(OmegaConf.load(conf_dir() / "config.yaml"))[group]  # type: ignore[index,call-overload]
    harness_fills_in = {"source_sha256", "weights_sha256"}
    for spec in dataclasses.fields(cls):
        if spec.name in harness_fills_in:
            assert spec.name not in written
        elif spec.default is not dataclasses.MISSING:
            default = list(spec.default) if isinstance(spec.default, tuple) else spec.default
            assert written[spec.name] == default, spec.name


def test_a_method_without_a_loss_is_of_kind_none_and_no_other() -> None:
    with pytest.raises(UserError, match="kind is 'pair', so `make` must be given"):
        Method("x", "X", "pair")
    with pytest.raises(UserError, match="kind is 'none', so `make` must not be given"):
        Method("x", "X", "none", make={"_target_": "a.B"})


def test_the_method_digest_sees_every_number_of_the_method_but_not_its_label_or_search_space() -> None:
    base = Method("x", "X", "pair", make={"_target_": "a.B", "margin": 0.1})
    same = [
        dataclasses.replace(base, label="Y"),
        dataclasses.replace(base, search={"make.margin": {"low": 0}}),
        dataclasses.replace(base, make={"margin": 0.1, "_target_": "a.B"}),
    ]
    other = [
        dataclasses.replace(base, make={"_target_": "a.B", "margin": 0.2}),
        dataclasses.replace(base, make={"_target_": "a.C", "margin": 0.1}),
        dataclasses.replace(base, miner={"_target_": "a.M"}),
        dataclasses.replace(base, samples_per_class=5),
        dataclasses.replace(base, lr_scale=10.0),
        dataclasses.replace(base, weight_decay=0.0),
        dataclasses.replace(base, source_sha256="00"),
    ]
    assert {method.digest for method in same} == {base.digest}
    assert len({method.digest for method in [base, *other]}) == len(other) + 1


def test_a_digest_depends_on_the_numbers_and_not_on_their_order_or_type() -> None:
    assert digest({"a": 1, "b": [0.5, 2]}) == digest({"b": [0.5, 2.0], "a": 1.0})
    assert digest({"a": 1}) != digest({"a": "1"})
    assert digest({"a": True}) != digest({"a": 1})


def test_flat_columns_keep_the_path_to_a_value() -> None:
    nested = {"make": {"_target_": "a.B", "distance": {"power": 2}}, "miner": None}
    assert dict(flatten("loss", nested)) == {
        "loss_make_target": "a.B",
        "loss_make_distance_power": 2,
        "loss_miner": None,
    }
