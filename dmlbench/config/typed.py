"""Make a configuration class from a mapping, with one clear sentence for every wrong key, type or missing value."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from dmlbench.errors import UserError, suggest

T = TypeVar("T")
_type_hints = functools.lru_cache(32)(typing.get_type_hints)  # evaluates the text of every annotation


def typed(configuration_class: type[T], group: str, values: Mapping[str, Any]) -> T:
    """Make an instance of a configuration class, refusing unknown keys and values of the wrong type.

    Args:
        configuration_class: A class of `schema`, or any dataclass with simple types.
        group: Name of its keys on the command line, such as `protocol`.
        values: Composed values. A whole float is accepted for an int, and an int for a float.

    Raises:
        UserError: A key is unknown (similar names are suggested) or missing, or a value has the wrong type.
    """
    hints = _type_hints(configuration_class)  # type: ignore[arg-type]  # classes are hashable
    for key in values:
        if key not in hints:
            raise UserError(f"{group}.{key} is not known{suggest(key, hints)}")
    for field in dataclasses.fields(configuration_class):  # type: ignore[arg-type]  # T is a dataclass
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and field.name not in values:
            raise UserError(f"{group}.{field.name} is missing; it needs {_describe(hints[field.name])}")
    return configuration_class(**{key: _convert(f"{group}.{key}", hints[key], value) for key, value in values.items()})


_TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    dict: "a mapping",
}


def _describe(hint: Any) -> str:
    """Describe what a type hint accepts."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_describe(choice) for choice in arguments)
    if origin is tuple:
        items = {str: "texts", dict: "mappings"}.get(typing.get_origin(arguments[0]) or arguments[0], "numbers")
        return f"a list of {'' if arguments[-1] is ... else f'{len(arguments)} '}{items}"
    return _TYPE_NAMES[origin or hint]


def _convert(key: str, hint: Any, value: Any) -> Any:
    converted = _try_convert(hint, value)
    if converted is not _MISMATCH:
        return converted
    similar = suggest(value, typing.get_args(hint)) if typing.get_origin(hint) is Literal and isinstance(value, str) else ""
    raise UserError(
        f"{key} is {as_typed(value)}, but {_describe(hint)} is needed{similar if similar.startswith('; did') else ''}"
    )


def as_typed(value: Any) -> str:
    """Return a value as it is written in YAML and on the command line.

    Args:
        value: A composed value.

    >>> as_typed(None), as_typed(True), as_typed("a")
    ('null', 'true', "'a'")
    """
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else repr(value)


_MISMATCH = object()


def _try_convert(hint: Any, value: Any) -> Any:
    """Return the value as its type hint requires, or `_MISMATCH`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value if value in arguments and isinstance(value, str) else _MISMATCH
    if origin in (types.UnionType, typing.Union):
        return next((found for choice in arguments if (found := _try_convert(choice, value)) is not _MISMATCH), _MISMATCH)
    if origin is tuple:
        return _try_convert_tuple(arguments, value)
    if origin is dict:
        return dict(value) if isinstance(value, Mapping) else _MISMATCH
    if isinstance(value, bool) or hint is bool:
        return value if isinstance(value, bool) and hint is bool else _MISMATCH
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is float and isinstance(value, int):
        return float(value)
    return value if isinstance(value, hint) else _MISMATCH


def _try_convert_tuple(arguments: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return _MISMATCH
    if arguments[-1] is ...:
        arguments = (arguments[0],) * len(value)
    items = [_try_convert(kind, item) for kind, item in zip(arguments, value, strict=False)]
    return tuple(items) if len(value) == len(arguments) and _MISMATCH not in items else _MISMATCH
