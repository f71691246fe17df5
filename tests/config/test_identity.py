"""Digests and flat columns, and constructors that have moved."""

from __future__ import annotations

import dataclasses
import doctest
import hashlib

import pytest

from dmlbench.config import identity
from dmlbench.config.identity import MOVED_TARGETS, current_target, digest, flatten
from dmlbench.config.instantiate import build, locate
from dmlbench.config.plan import method_columns
from dmlbench.config.schema import Method
from dmlbench.models.backbones.convnet import ConvNet
from dmlbench.results.columns import method_digest


def test_a_digest_depends_on_values_and_not_on_the_order_of_keys_or_the_type_of_a_number() -> None:
    assert digest({"a": 1, "b": [0.5, 2]}) == digest({"b": [0.5, 2.0], "a": 1.0})
    assert digest({"a": 1}) != digest({"a": "1"})
    assert digest({"a": True}) != digest({"a": 1})


def test_flat_columns_are_named_after_the_path_to_their_value() -> None:
    nested = {"make": {"_target_": "a.B", "distance": {"power": 2}}, "miner": None}
    assert dict(flatten("loss", nested)) == {
        "loss_make_target": "a.B",
        "loss_make_distance_power": 2,
        "loss_miner": None,
    }


def test_different_values_have_different_columns() -> None:
    values = (
        "[1]",
        [1],
        '"[1]"',
        ["[1]"],
        "{}",
        {},
        '"{}"',
        '"a"',
        "a",
        ["a"],
        None,
        "null",
        1,
        "1",
        {"b": {}},
        {"b": "{}"},
        "",
    )
    columns = [dict(flatten("loss", {"make": {"_target_": "a.B", "a": value}})) for value in values]
    columns.append(dict(flatten("loss", {"make": {"_target_": "a.B"}})))
    assert len({digest(one) for one in columns}) == len(values) + 1
    assert dict(flatten("loss_make", {})) == {}, "a field of the configuration that is empty is the same as none"


def test_the_digest_of_a_method_depends_on_every_hyper_parameter_but_not_on_its_label_or_search_space() -> None:
    def digest_of(method: Method) -> str:
        return method_digest(method_columns(method))

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
    assert {digest_of(method) for method in same} == {digest_of(base)}
    assert len({digest_of(method) for method in [base, *other]}) == len(other) + 1


# Constructors that have moved


@pytest.mark.parametrize(("former", "current"), MOVED_TARGETS.items())
def test_a_moved_constructor_keeps_its_digest_and_is_found_under_its_former_path(former: str, current: str) -> None:
    assert digest({"make": [{"_target_": former}]}) == digest({"make": [{"_target_": current}]})
    assert locate("trunk.make", {"_target_": former}) is locate("trunk.make", {"_target_": current})
    assert current_target(former) == current_target(current) == current


def test_the_digest_of_a_moved_constructor_is_that_of_its_former_path() -> None:
    """The text is pinned, because its digest identifies the runs of earlier versions."""
    text = '{"make": {"_target_": "dmlbench.trunks.convnet.ConvNet", "channels": [4, 8]}}'
    make = {"_target_": "dmlbench.models.backbones.convnet.ConvNet", "channels": [4, 8]}
    assert digest({"make": make}) == hashlib.sha256(text.encode()).hexdigest()


def test_a_moved_constructor_is_built_under_its_former_path_also_inside_another_spec() -> None:
    former = {"_target_": "dmlbench.trunks.convnet.ConvNet", "channels": [4]}
    assert isinstance(build("trunk.make", former), ConvNet)
    [nested] = build("trunk.make", {"_target_": "torch.nn.ModuleList", "modules": [former]})
    assert isinstance(nested, ConvNet)


def test_the_examples_in_the_docstrings_are_correct() -> None:
    assert doctest.testmod(identity).failed == 0
