"""The search space of a method: what is refused, and what the shipped losses declare."""

from __future__ import annotations

import doctest
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from dmlbench.cli.overrides import check_overrides
from dmlbench.config.compose import Composed, Settings, compose, plain, resolve
from dmlbench.config.files import conf_dir, entries
from dmlbench.config.schema import Method, Protocol
from dmlbench.errors import UserError
from dmlbench.results.row import BASELINES
from dmlbench.tuning import space as space_module
from dmlbench.tuning.space import Choices, Range, format_values, initial_values, overrides, parse_space, search_space

CLASSIFICATION_LOSSES = [
    name for name, _ in entries("loss") if "kind: classification" in (conf_dir() / "loss" / f"{name}.yaml").read_text()
]
PROTOCOL = Protocol("x", 1, 1, 4, 8, 16, lr=1e-3, head_lr_scale=2.0)


@cache
def composed(*overrides: str) -> Composed:
    return compose(overrides)


def settings_of(loss: str, protocol: str) -> Settings:
    """What `loss=` and `protocol=` compose to, on a data set of 50 training classes; each of both is composed once."""
    one, other = composed(f"loss={loss}"), composed(f"protocol={protocol}")
    combined = one.with_values({})
    combined.cfg.protocol = other.cfg.protocol
    return resolve(replace(combined, choices={**one.choices, "protocol": protocol}), {"train_classes": 50})


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        ({"make.margin": {"low": 1, "high": 0}}, "loss.search.make.margin: low is 1 and high is 0; low must be below high"),
        ({"make.margin": {"low": 0, "high": 1, "log": True}}, "low is 0; in a logarithmic range it must be above 0"),
        ({"make.margin": {"low": 0, "hihg": 1}}, "loss.search.make.margin.hihg is not known; did you mean 'high'"),
        ({"make.margin": {"low": 0}}, "loss.search.make.margin.high is missing"),
        ({"make.margin": {"low": "a", "high": 1}}, "loss.search.make.margin.low is 'a', but a number is needed"),
        ({"make.margin": 3}, "loss.search.make.margin is 3; it needs low and high, or choices, or null to leave it out"),
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
        ({"lr": {"low": 0.1}}, "loss.search.lr: low is 0.1 and high is 0.01; low must be below high"),
        ({"lr": {"low": 0.005}}, "loss.lr is 0.001, outside its search space 0.005 to 0.01 (log)"),
        ({"lr": {"choices": [0.01, 0.1]}}, "loss.lr is 0.001, outside its search space 0.01|0.1"),
        ({"lr": None, "head_lr_scale": None}, "loss/x: every key of loss.search is null, so there is nothing to tune"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_in_one_sentence(search: Mapping[str, Any], sentence: str) -> None:
    method = Method("x", "X", "pair", make={"_target_": "a.B", "margin": 0.2}, search=dict(search))
    with pytest.raises(UserError) as caught:
        initial_values(search_space(method, PROTOCOL), method, PROTOCOL)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_method_that_trains_nothing_cannot_be_tuned() -> None:
    with pytest.raises(UserError, match=r"^loss/x trains nothing, so it cannot be tuned; remove `search` from its file$"):
        initial_values({}, Method("x", "X", "none"), PROTOCOL)


def test_the_command_line_can_change_one_end_of_a_range() -> None:
    cfg = compose(["loss=triplet", "+loss.search.make.margin={high: 0.4}"]).cfg
    [margin] = parse_space(plain(cfg, "loss")["search"]).values()
    assert str(margin) == "0 to 0.4"


# The gradient of these depends on no hyper-parameter; the margin of the soft form adds a constant.
WITHOUT_HYPER_PARAMETERS = ("attributes_only", "batch_all_ratio", "batch_all_soft", "conventional_ratio", "conventional_soft")


@pytest.mark.parametrize("loss", [name for name, _ in entries("loss")])
def test_the_search_space_of_every_shipped_loss_contains_its_hyper_parameters(loss: str) -> None:
    settings = settings_of(loss, "quick")
    method, protocol = settings.method, settings.protocol
    if loss in BASELINES:
        assert not method.search
        return
    values = initial_values(search_space(method, protocol), method, protocol)
    rates = {"lr", "head_lr_scale"}
    assert set(values) == rates if loss in WITHOUT_HYPER_PARAMETERS else set(values) > rates


@pytest.mark.parametrize("protocol", ["quick", "standard"])
def test_every_method_is_searched_over_the_same_learning_rates_around_those_of_the_protocol(protocol: str) -> None:
    found: dict[str, set[str]] = {}
    with_proxies = set()
    for loss, _ in entries("loss"):
        settings = settings_of(loss, protocol)
        if settings.method.make is None:
            continue
        space = search_space(settings.method, settings.protocol)
        for key in ("lr", "head_lr_scale", "lr_scale"):
            found.setdefault(key, set()).update([str(space[key])] if key in space else [])
        if "lr_scale" in space:
            with_proxies.add(loss)
        assert list(space)[:2] == ["lr", "head_lr_scale"]
    lr, scale = settings.protocol.lr, settings.protocol.head_lr_scale
    assert found == {
        "lr": {f"{lr / 10:g} to {lr * 10:g} (log)"},
        "head_lr_scale": {f"{scale / 10:g} to {scale * 10:g} (log)"},
        "lr_scale": {"1 to 1000 (log)"},
    }
    assert with_proxies == {*CLASSIFICATION_LOSSES, "margin", "margin_per_class"}


@pytest.mark.parametrize(
    ("overrides", "ranges"),
    [
        (["+loss.search.lr={high: 0.1}"], {"lr": "0.0001 to 0.1 (log)"}),
        (["loss.search.lr.high=0.1"], {"lr": "0.0001 to 0.1 (log)"}),
        (["loss.search.lr={choices: [1e-3, 1e-2]}"], {"lr": "0.001|0.01"}),
        (["~loss.search.lr", "loss.lr=3e-5"], {"lr": None, "head_lr_scale": "0.1 to 10 (log)"}),
        (["+loss.search.head_lr_scale=null"], {"lr": "0.0001 to 0.01 (log)", "head_lr_scale": None}),
        (["loss.search.make.margin=null"], {"make.margin": None}),
    ],
)
def test_overrides_change_and_remove_the_range_of_a_learning_rate(overrides: list[str], ranges: dict[str, str | None]) -> None:
    checked = check_overrides(["loss=triplet", "protocol=quick", *overrides], None)
    settings = resolve(compose(checked), {"train_classes": 50})
    space = search_space(settings.method, settings.protocol)
    assert {key: str(space[key]) if key in space else None for key in ranges} == ranges
    assert initial_values(space, settings.method, settings.protocol).keys() == space.keys()


def test_the_first_trial_has_the_rates_of_the_method_or_else_of_the_protocol() -> None:
    make = {"_target_": "a.B"}
    space = search_space(Method("x", "X", "pair", make=make), PROTOCOL)
    assert initial_values(space, Method("x", "X", "pair", make=make), PROTOCOL) == {"lr": 1e-3, "head_lr_scale": 2.0}
    own = Method("x", "X", "pair", make=make, lr=3e-4, head_lr_scale=1.0)
    assert initial_values(space, own, PROTOCOL) == {"lr": 3e-4, "head_lr_scale": 1.0}


def test_a_rate_of_0_has_no_range() -> None:
    protocol = Protocol("x", 1, 1, 4, 8, 16, lr=1e-3, head_lr_scale=0.0)
    assert list(search_space(Method("x", "X", "pair", make={"_target_": "a.B"}), protocol)) == ["lr"]


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
