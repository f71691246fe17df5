"""The search space of a method: what is refused, and what the shipped losses declare."""

from __future__ import annotations

import doctest
from collections.abc import Mapping
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from dmlbench.config.compose import compose, plain, resolve
from dmlbench.config.files import entries
from dmlbench.config.schema import Method
from dmlbench.errors import UserError
from dmlbench.results.row import BASELINES
from dmlbench.tuning import space as space_module
from dmlbench.tuning.space import Choices, Range, format_values, initial_values, overrides, parse_space


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        ({"make.margin": {"low": 1, "high": 0}}, "loss.search.make.margin: low is 1 and high is 0; low must be below high"),
        ({"make.margin": {"low": 0, "high": 1, "log": True}}, "low is 0; in a logarithmic range it must be above 0"),
        ({"make.margin": {"low": 0, "hihg": 1}}, "loss.search.make.margin.hihg is not known; did you mean 'high'"),
        ({"make.margin": {"low": 0}}, "loss.search.make.margin.high is missing"),
        ({"make.margin": {"low": "a", "high": 1}}, "loss.search.make.margin.low is 'a', but a number is needed"),
        ({"make.margin": 3}, "loss.search.make.margin is 3; it needs low and high, or choices"),
        ({"make.margin": {}}, "it needs low and high, or choices"),
        ({"make.margin": {"choices": [1]}}, "`choices` needs a list of two or more values, and no other key"),
        ({"make.margin": {"choices": [1, 2], "low": 0}}, "`choices` needs a list of two or more values, and no other key"),
        ({"make.margin": {"choices": [1, [2]]}}, "each value must be text, a number, true, false or null"),
        ({"make.margin": {"low": 0, "high": 1, "step": 2}}, "step is 2; it must be above 0 and at most high - low"),
        ({"make.margin": {"low": 1, "high": 9, "step": 2, "log": True}}, "a logarithmic range has no step, or step 1"),
        ({"make.margn": {"low": 0, "high": 1}}, "loss/x has no hyper-parameter loss.make.margn; did you mean 'make.margin'"),
        ({"make._target_": {"choices": ["a", "b"]}}, "loss/x has no hyper-parameter loss.make._target_"),
        (
            {"make.margin": {"low": 0.3, "high": 1}},
            "loss.make.margin is 0.2, outside its search space 0.3 to 1; the first trial uses this value",
        ),
        (
            {"make.margin": {"low": 0, "high": 1, "step": 0.5}},
            "loss.make.margin is 0.2, outside its search space 0 to 1 by 0.5",
        ),
        ({"weight_decay": {"low": 0, "high": 1}}, "loss.weight_decay is null, outside"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_in_one_sentence(search: Mapping[str, Any], sentence: str) -> None:
    method = Method("x", "X", "pair", make={"_target_": "a.B", "margin": 0.2}, search=dict(search))
    with pytest.raises(UserError) as caught:
        initial_values(parse_space(method.search), method)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_method_that_trains_nothing_cannot_be_tuned() -> None:
    with pytest.raises(UserError, match=r"^loss/x trains nothing, so it cannot be tuned; remove `search` from its file$"):
        initial_values({}, Method("x", "X", "none"))


def test_the_command_line_can_change_one_end_of_a_range() -> None:
    cfg = compose(["loss=triplet", "+loss.search.make.margin={high: 0.4}"]).cfg
    [margin] = parse_space(plain(cfg, "loss")["search"]).values()
    assert str(margin) == "0 to 0.4"


@pytest.mark.parametrize("loss", [name for name, _ in entries("loss")])
def test_the_search_space_of_every_shipped_loss_contains_its_hyper_parameters(loss: str) -> None:
    method = resolve(compose([f"loss={loss}"]), {"train_classes": 50}).method
    if loss in BASELINES:
        assert not method.search
    else:
        assert initial_values(parse_space(method.search), method)


def test_the_overrides_of_hyper_parameters_are_parsed_to_the_same_values() -> None:
    values = {"a": 0.1234, "b": 1e-05, "c": -3, "d": True, "e": None, "f": "it's", "g": "a b=c", "h": 1e16, "i": "3"}
    parsed = OverridesParser.create().parse_overrides(overrides(values))
    assert [one.value() if not hasattr(one.value(), "text") else one.value().text for one in parsed] == list(values.values())
    assert [type(one.value()) for one in parsed][:4] == [float, float, int, bool]


def test_ranges_choices_and_values_are_printed_briefly() -> None:
    assert str(Range(1e-05, 1, log=True)) == "1e-05 to 1 (log)"
    assert str(Choices(("x", None, True, 0.5))) == "x|null|true|0.5"
    assert format_values({"make.margin": 0.20000000000000001, "make.kind": "a"}) == "make.margin=0.2, make.kind=a"


def test_the_examples_in_the_docstrings_are_correct() -> None:
    assert doctest.testmod(space_module).failed == 0
