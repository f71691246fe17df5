"""Overrides of single values are applied to composed files as Hydra applies them."""

from __future__ import annotations

import doctest

import pytest
from hydra.errors import HydraException
from omegaconf import open_dict

from dmlbench.config import single_values as single_values_module
from dmlbench.config.compose import chosen_files, compose, compose_with_hydra, resolve


@pytest.mark.parametrize(
    "overrides",
    [
        [
            "loss=triplet",
            "protocol.lr=1e-3",
            "loss.lr=null",
            "seed=3",
            "protocol.flip=true",
            "loss.label='a b'",
            "paths.runs=r",
        ],
        ["loss=arcface", "loss.make.scale=3", "loss.lr=${lr_times:0.1}", "protocol.head_layers=[8]", "device=cpu"],
        ["loss=multi_similarity", "loss.miner=null", "+loss.make.new=1"],
        ["loss=multi_similarity", "loss.miner.epsilon=1", "loss.miner=null"],
        ["loss=triplet", "loss.miner=null", "loss.make={margin: 3}"],
        ["dataset=synthetic", "protocol.split=random", "dataset.split_seed=2"],
        ["dataset=synthetic", "protocol.split=random", "dataset.split=random_classes"],
        ["protocol=staysafe", "dataset=cub", "dataset.split=null"],
        ["protocol.lr=1", "protocol.lr=2", "protocol.lr=1"],
        ["~loss.make.alpha", "protocol.epochs=3"],
        ["optimizer=sgd", "optimizer.momentum=0.5", "optimizer.nesterov=null"],
    ],
    ids=" ".join,
)
def test_the_configuration_is_that_of_hydra(overrides: list[str]) -> None:
    expected = compose_with_hydra(overrides)
    choices = dict(expected.hydra.runtime.choices)
    with open_dict(expected):
        del expected["hydra"]
    found = compose(overrides)
    assert found.cfg == expected
    assert str(found.cfg) == str(expected)  # null and a missing value are equal, and so are 1 and true
    assert found.choices == {str(group): str(name) for group, name in choices.items()}
    assert found.overrides == tuple(overrides)


def test_the_files_of_a_configuration_can_be_given_and_are_not_changed() -> None:
    first = compose(["loss=triplet", "protocol.lr=0.5"])
    assert first.files is not None
    assert first.files.overrides == chosen_files(["loss=triplet", "protocol.lr=2", "seed=1"]) == ("loss=triplet",)
    second = compose(["loss=triplet", "protocol.lr=2", "seed=1"], files=first.files)
    assert (first.cfg.protocol.lr, second.cfg.protocol.lr, second.cfg.seed) == (0.5, 2, 1)
    assert first.files.cfg == second.files.cfg == compose(["loss=triplet"]).cfg  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("protocol.zebra=1", r"Could not override 'protocol\.zebra'\.\nTo append to your config use \+protocol\.zebra=1"),
        ("zebra.stripes=1", r"Could not override 'zebra\.stripes'"),
        ("protocol.lr=1,2", "sweep"),
        ("protocol.lr=[", "no viable alternative at input"),
    ],
)
def test_an_override_that_hydra_refuses_is_refused_with_its_error(override: str, sentence: str) -> None:
    errors = []
    for refuse in (compose, compose_with_hydra):
        with pytest.raises(HydraException, match=sentence) as caught:
            refuse(["loss=triplet", override])
        errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]


def test_a_value_that_refers_to_hydra_is_composed_with_all_overrides() -> None:
    composed = compose(["seed=3", "loss=triplet", "loss.label=${hydra:overrides.task.0}"])
    assert resolve(composed).method.label == "seed=3"


def test_the_examples_in_the_docstrings_are_correct() -> None:
    assert doctest.testmod(single_values_module).failed == 0
