"""The search space of a method: learning rates, and the `search` of its configuration file.

The ranges of the learning rates are declared here, once, and are the same for every method, so that no method is compared at
the rate that suits another one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dmlbench.config.schema import Method, Protocol, Scalar
from dmlbench.config.typed import typed
from dmlbench.errors import UserError, suggest

# Fields of a method.
TUNABLE = ("lr", "head_lr_scale", "samples_per_class", "lr_scale", "weight_decay", "make", "miner")
OF_PROTOCOL = ("lr", "head_lr_scale")  # fields that have the protocol's value unless the method has its own
FACTOR = 10.0  # by which the rates of trunk and head may be lower or higher than the protocol's
LOSS_LR_SCALE = {"low": 1.0, "high": 1000.0, "log": True}  # range of `lr_scale`, for methods with parameters of their own
DIGITS = 4  # significant digits of a proposed number, so that it is easy to read and to type


@dataclass(frozen=True)
class Range:
    """A closed interval of numbers.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Whether to sample on a logarithmic scale.
        step: Distance between values, from `low` on; None for a continuous range. The values are whole numbers if `low` and
            `step` are.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        return self.step is not None and float(self.step).is_integer() and float(self.low).is_integer()

    def contains(self, value: Scalar) -> bool:
        """Return whether a value is in the range.

        Args:
            value: Value of a hyper-parameter.

        >>> Range(2, 250, step=1).contains(10), Range(2, 250, step=1).contains(2.5), Range(0, 1).contains("a")
        (True, False, False)
        """
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        return self.step is None or abs((value - self.low) / self.step - round((value - self.low) / self.step)) < 1e-9

    def rounded(self, value: float) -> int | float:
        """Round a sampled number to whole numbers or to `DIGITS` significant digits, within the range.

        Args:
            value: Number that the sampler drew.

        >>> Range(0, 1).rounded(0.123456), Range(2, 250, step=1).rounded(7.0), Range(1, 1000).rounded(999.99)
        (0.1235, 7, 1000.0)
        """
        if self.whole:
            return int(value)
        return value if self.step is not None else min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def __str__(self) -> str:
        step = "" if self.step is None else f" by {self.step:g}"
        return f"{self.low:g} to {self.high:g}{step}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Choices:
    """A finite set of values.

    Args:
        choices: The values, each text, a number, a boolean or None.
    """

    choices: tuple[Scalar, ...]

    def contains(self, value: Scalar) -> bool:
        """Return whether a value is one of the choices.

        Args:
            value: Value of a hyper-parameter.
        """
        return value in self.choices

    def __str__(self) -> str:
        return "|".join(map(_format_value, self.choices))


Space = Mapping[str, Range | Choices]  # by the hyper-parameter's key below `loss`, such as `make.margin`


def search_space(method: Method, protocol: Protocol) -> Space:
    """Return the search space of a method: the learning rates, then what `search` in its file lists.

    Args:
        method: Method that is trained. Keys of its `search` change the ranges of the rates; null removes a key.
        protocol: Protocol, whose rates are in the middle of the ranges of `lr` and `head_lr_scale`.

    Returns:
        Ranges and choices, by key.

    Raises:
        UserError: A range or a list of choices is not valid, or the space is empty.
    """
    space = parse_space(method.search, rate_ranges(method, protocol))
    if not space:
        raise UserError(f"loss/{method.name}: every key of loss.search is null, so there is nothing to tune")
    return space


def rate_ranges(method: Method, protocol: Protocol) -> dict[str, dict[str, Any]]:
    """Return the ranges of the learning rates, which `search` may change.

    Args:
        method: Method. One with parameters of its own also has a range of `lr_scale`.
        protocol: Protocol. A rate of 0 has no range, because nothing is trained with it.

    Returns:
        Key of the rate to its range.
    """
    centres = {name: getattr(protocol, name) for name in OF_PROTOCOL}
    ranges = {
        name: {"low": float(f"{centre / FACTOR:.{DIGITS}g}"), "high": float(f"{centre * FACTOR:.{DIGITS}g}"), "log": True}
        for name, centre in centres.items()
        if centre > 0
    }
    has_parameters = method.kind == "classification" or method.lr_scale != 1
    return {**ranges, **({"lr_scale": dict(LOSS_LR_SCALE)} if has_parameters else {})}


def parse_space(search: Mapping[str, Any], declared: Mapping[str, Mapping[str, Any]] | None = None) -> Space:
    """Parse a search space.

    Args:
        search: Key to `{low, high, log, step}`, `{choices}` or None, which removes the key. `make: {margin: {...}}` is the same
            as `make.margin: {...}`. If both are given, they are merged and the later one wins, so that the command line can
            change a space.
        declared: Key to the same, for keys that `search` may change.

    Returns:
        Ranges and choices, by key.

    Raises:
        UserError: A range or a list of choices is not valid.
    """
    merged: dict[str, Mapping[str, Any] | None] = dict(declared or {})
    for key, spec in _leaves("", search):
        before = merged.get(key) or {}
        merged[key] = spec if spec is None or "choices" in spec else {**before, **spec}
    return {key: _parse(f"loss.search.{key}", spec) for key, spec in merged.items() if spec is not None}


def _leaves(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if value is None:
            yield key, None
        elif not isinstance(value, Mapping) or not value:
            raise UserError(f"loss.search.{key} is {value!r}; it needs low and high, or choices, or null to leave it out")
        elif any(isinstance(inner, Mapping) or inner is None for inner in value.values()):
            yield from _leaves(f"{key}.", value)
        else:
            yield key, value


def _parse(key: str, spec: Mapping[str, Any]) -> Range | Choices:
    if "choices" in spec:
        choices = spec["choices"]
        if set(spec) != {"choices"} or not isinstance(choices, list | tuple) or len(choices) < 2:
            raise UserError(f"{key} is {dict(spec)!r}; `choices` needs a list of two or more values, and no other key")
        if any(value is not None and not isinstance(value, str | int | float) for value in choices):
            raise UserError(f"{key}.choices is {choices!r}; each value must be text, a number, true, false or null")
        return Choices(tuple(choices))
    parsed = typed(Range, key, spec)
    if not parsed.low < parsed.high:
        raise UserError(f"{key}: low is {parsed.low:g} and high is {parsed.high:g}; low must be below high")
    if parsed.log and parsed.low <= 0:
        raise UserError(f"{key}: low is {parsed.low:g}; in a logarithmic range it must be above 0")
    if parsed.step is not None and not 0 < parsed.step <= parsed.high - parsed.low:
        raise UserError(f"{key}: step is {parsed.step:g}; it must be above 0 and at most high - low")
    if parsed.log and parsed.step not in (None, 1):
        raise UserError(f"{key}: step is {parsed.step:g}; a logarithmic range has no step, or step 1 for whole numbers")
    return parsed


def initial_values(space: Space, method: Method, protocol: Protocol) -> dict[str, Scalar]:
    """Return the configured hyper-parameters of a method, which the first trial of every search uses.

    Args:
        space: Search space of the method.
        method: Method whose values are looked up.
        protocol: Protocol with the rates of a method that has none of its own.

    Returns:
        Hyper-parameters of the search space, by key.

    Raises:
        UserError: The space has a key that the method does not have, or does not contain the configured value.
    """
    if method.make is None:
        raise UserError(f"loss/{method.name} trains nothing, so it cannot be tuned; remove `search` from its file")
    of_protocol = {name: getattr(protocol, name) for name in OF_PROTOCOL if getattr(method, name) is None}
    values = {**dict(_hyper_parameters(method)), **of_protocol}
    for key, allowed in space.items():
        if key not in values:
            raise UserError(f"loss.search.{key}: loss/{method.name} has no hyper-parameter loss.{key}{suggest(key, values)}")
        if not allowed.contains(values[key]):
            raise UserError(
                f"loss.{key} is {_format_value(values[key])}, outside its search space {allowed}; the first trial uses this "
                f"value, so choose one in the space, or change the space with '+loss.search.{key}={{...}}'"
            )
    return {key: values[key] for key in space}


def _hyper_parameters(method: Method) -> Iterator[tuple[str, Scalar]]:
    """The scalars of a method, by their key below `loss`."""

    def scalars(key: str, value: Any) -> Iterator[tuple[str, Scalar]]:
        if isinstance(value, Mapping):
            for name, item in value.items():
                if name != "_target_":
                    yield from scalars(f"{key}.{name}", item)
        elif value is None or isinstance(value, str | int | float):
            yield key, value

    for name in TUNABLE:
        yield from scalars(name, getattr(method, name))


def canonical(space: Space) -> dict[str, Any]:
    """Return a search space as plain values for JSON.

    Args:
        space: Search space.
    """
    return {key: dataclasses.asdict(allowed) for key, allowed in space.items()}


def overrides(values: Mapping[str, Scalar]) -> list[str]:
    r"""Return the overrides that set hyper-parameters.

    Args:
        values: Hyper-parameters, by their key below `loss`.

    >>> overrides({"make.margin": 0.25, "make.kind": "it's", "miner.all": True})
    ['loss.make.margin=0.25', "loss.make.kind='it\\'s'", 'loss.miner.all=true']
    """
    return [f"loss.{key}={_override_value(value)}" for key, value in values.items()]


def _override_value(value: Scalar) -> str:
    return "'" + value.replace("'", "\\'") + "'" if isinstance(value, str) else json.dumps(value)


def format_values(values: Mapping[str, Scalar]) -> str:
    """Format hyper-parameters for print, such as `make.margin=0.2, lr_scale=1`.

    Args:
        values: Hyper-parameters, by their key below `loss`.
    """
    return ", ".join(f"{key}={_format_value(value)}" for key, value in values.items())


def _format_value(value: Scalar) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
