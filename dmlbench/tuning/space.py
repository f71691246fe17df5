"""What may be tuned of a method: the `search` of its file, checked against the method."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dmlbench.config.schema import Method, Scalar
from dmlbench.config.typed import typed
from dmlbench.errors import UserError, suggest

TUNABLE = ("samples_per_class", "lr_scale", "weight_decay", "make", "miner")  # fields of a method
DIGITS = 4  # significant ones of a number that is drawn: enough, and it can be read and typed


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both among them.

    Args:
        low, high: the ends.
        log: draw on a logarithmic scale.
        step: only `low`, `low + step`, ...; with a whole `low` and `step`, whole numbers.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.step is not None and float(self.step).is_integer() and float(self.low).is_integer()

    def holds(self, value: Scalar) -> bool:
        """Whether a value is one of it.

        >>> Range(2, 250, step=1).holds(10), Range(2, 250, step=1).holds(2.5), Range(0, 1).holds("a")
        (True, False, False)
        """
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        return self.step is None or abs((value - self.low) / self.step - round((value - self.low) / self.step)) < 1e-9

    def rounded(self, value: float) -> int | float:
        """A drawn number as it is used and written down.

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
    """One of a few values.

    Args:
        choices: each a text, a number, a boolean or null.
    """

    choices: tuple[Scalar, ...]

    def holds(self, value: Scalar) -> bool:
        """Whether a value is one of them."""
        return value in self.choices

    def __str__(self) -> str:
        return "|".join(map(_said, self.choices))


Space = Mapping[str, Range | Choices]  # by the value's key below `loss`, such as `make.margin`


def parse_space(search: Mapping[str, Any]) -> Space:
    """A method's search space.

    Args:
        search: key to `{low, high, log, step}` or `{choices}`; `make: {margin: {...}}` is the same as `make.margin: {...}`,
            and, where both are there, goes on top of it: so the command line can change a space.

    Raises:
        UserError: a range or a list of choices is none.
    """
    merged: dict[str, dict[str, Any]] = {}
    for key, spec in _leaves("", search):
        merged[key] = {**merged.get(key, {}), **spec}
    return {key: _parsed(f"loss.search.{key}", spec) for key, spec in merged.items()}


def _leaves(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if not isinstance(value, Mapping) or not value:
            raise UserError(f"loss.search.{key} is {value!r}; it needs low and high, or choices")
        if any(isinstance(inner, Mapping) for inner in value.values()):
            yield from _leaves(f"{key}.", value)
        else:
            yield key, value


def _parsed(place: str, spec: Mapping[str, Any]) -> Range | Choices:
    if "choices" in spec:
        choices = spec["choices"]
        if set(spec) != {"choices"} or not isinstance(choices, list | tuple) or len(choices) < 2:
            raise UserError(f"{place} is {dict(spec)!r}; `choices` is a list of two values or more, and stands alone")
        if any(value is not None and not isinstance(value, str | int | float) for value in choices):
            raise UserError(f"{place}.choices is {choices!r}; each has to be a text, a number, true, false or null")
        return Choices(tuple(choices))
    found = typed(Range, place, spec)
    if not found.low < found.high:
        raise UserError(f"{place}: low is {found.low:g} and high is {found.high:g}; low must be below high")
    if found.log and found.low <= 0:
        raise UserError(f"{place}: low is {found.low:g}; a logarithmic range begins above 0")
    if found.step is not None and not 0 < found.step <= found.high - found.low:
        raise UserError(f"{place}: step is {found.step:g}; it must be above 0 and at most high - low")
    if found.log and found.step not in (None, 1):
        raise UserError(f"{place}: step is {found.step:g}; a logarithmic range has none, or 1 for whole numbers")
    return found


def initial_values(space: Space, method: Method) -> dict[str, Scalar]:
    """The method's own values, which every search tries first.

    Raises:
        UserError: the space names what the method has not, or leaves the method's own value out.
    """
    if method.make is None:
        raise UserError(f"loss/{method.name} trains nothing, so that nothing can be tuned; leave its `search` out")
    own = dict(_values(method))
    for key, allowed in space.items():
        if key not in own:
            raise UserError(f"loss.search.{key}: loss/{method.name} has no value loss.{key}{suggest(key, own)}")
        if not allowed.holds(own[key]):
            raise UserError(
                f"loss.{key} is {_said(own[key])}, outside its search space {allowed}; the first trial is the method's own "
                f"values: give one inside, or change the space with '+loss.search.{key}={{...}}'"
            )
    return {key: own[key] for key in space}


def _values(method: Method) -> Iterator[tuple[str, Scalar]]:
    """A method's scalars by their keys below `loss`."""

    def inner(prefix: str, value: Any) -> Iterator[tuple[str, Scalar]]:
        if isinstance(value, Mapping):
            for name, within in value.items():
                if name != "_target_":
                    yield from inner(f"{prefix}.{name}", within)
        elif value is None or isinstance(value, str | int | float):
            yield prefix, value

    for name in TUNABLE:
        yield from inner(name, getattr(method, name))


def canonical(space: Space) -> dict[str, Any]:
    """The space as plain JSON, the same for the same space."""
    return {key: dataclasses.asdict(allowed) for key, allowed in space.items()}


def overrides(values: Mapping[str, Scalar]) -> list[str]:
    r"""The words that give a method these values.

    >>> overrides({"make.margin": 0.25, "make.kind": "it's", "miner.all": True})
    ['loss.make.margin=0.25', "loss.make.kind='it\\'s'", 'loss.miner.all=true']
    """
    return [f"loss.{key}={_word(value)}" for key, value in values.items()]


def _word(value: Scalar) -> str:
    return "'" + value.replace("'", "\\'") + "'" if isinstance(value, str) else json.dumps(value)


def said(values: Mapping[str, Scalar]) -> str:
    """Values for a line of print."""
    return ", ".join(f"{key}={_said(value)}" for key, value in values.items())


def _said(value: Scalar) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
