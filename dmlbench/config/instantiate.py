"""Build the objects that configurations describe with `_target_`. The only module that calls Hydra's `instantiate`.

All arguments are compared with the parameters of the constructor first. A misspelt argument is therefore refused instead of
being ignored: several constructors of pytorch-metric-learning pass `**kwargs` through four classes.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_object, instantiate

from dmlbench.config.identity import current_target
from dmlbench.config.own_source import digest_of
from dmlbench.config.typed import as_typed
from dmlbench.errors import UserError, suggest

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs the errors that `locate` raises


def build(key: str, spec: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
    """Call the constructor of a spec with its arguments.

    Args:
        key: Key of the spec in the configuration, such as `loss.make`, for errors.
        spec: `_target_` and arguments, as plain Python values. Nested specs are built first.
        *args: Further positional arguments, passed unchanged.
        **kwargs: Further keyword arguments, passed unchanged.

    Returns:
        What the constructor returns.

    Raises:
        UserError: The target cannot be imported, an argument is unknown or missing, or the constructor refuses a value.
    """
    check(key, spec, positional=len(args), given=set(kwargs))
    try:
        make = instantiate({**_with_current_targets(spec), "_partial_": True, "_convert_": "all"})
    except HydraException as error:
        raise UserError(f"{key}: {error.__cause__ or error}".splitlines()[0]) from error
    try:
        return make(*args, **kwargs)
    except UserError:
        raise
    except (TypeError, ValueError, AssertionError, LookupError) as error:
        raise UserError(f"{key}: {spec['_target_']} refuses its arguments: {error}") from error


def check(key: str, spec: Mapping[str, Any], positional: int = 0, given: set[str] | None = None) -> None:
    """Compare a spec, and the specs nested in it, with the parameters of their targets. Nothing is built.

    Args:
        key: Key of the spec in the configuration.
        spec: `_target_` and arguments.
        positional: Number of arguments that the caller will pass by position.
        given: Names of arguments that the caller will pass by keyword.

    Raises:
        UserError: A target cannot be imported, or an argument is unknown or missing, or neither the number nor the truth value
            that is needed. Hydra reads `no` and `off` as text, which Python would take as true.
    """
    target = locate(key, spec)
    known = parameters(target)
    arguments = {name: value for name, value in spec.items() if not (name.startswith("_") and name.endswith("_"))}
    for name, value in arguments.items():
        if known is not None and name not in known:
            raise UserError(f"{key}.{name} is not an argument of {spec['_target_']}{suggest(name, known)}")
        for nested_key, nested in _nested_specs(f"{key}.{name}", value):
            check(nested_key, nested)
        needed = None if known is None else _needed_instead(known[name], value)
        if needed is not None:
            raise UserError(f"{key}.{name} is {as_typed(value)}, but {spec['_target_']} needs {needed}")
    for position, (name, parameter) in enumerate(_own_parameters(target).items()):
        supplied = name in arguments or name in (given or ()) or position < positional
        if parameter.default is parameter.empty and not supplied:
            raise UserError(f"{key}.{name} is missing; {spec['_target_']} needs it")


def locate(key: str, spec: Mapping[str, Any]) -> Callable[..., Any]:
    """Import the class or function that a spec names.

    Args:
        key: Key of the spec in the configuration.
        spec: `_target_` and arguments.

    Raises:
        UserError: There is no `_target_`, or it cannot be imported.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("_target_"), str):
        raise UserError(f"{key} is {spec!r}; it needs a `_target_`, the dotted name of a class or function")
    try:
        target = get_object(current_target(spec["_target_"]))
    except Exception as error:  # an import may raise anything
        if unknown := _unknown_name(spec["_target_"]):
            raise UserError(f"{key}._target_ '{spec['_target_']}' is not known: {unknown}") from error
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"{key}._target_ '{spec['_target_']}' cannot be imported: {reason}; it must be in the current directory, in the "
            "--config-dir directory or in an installed package"
        ) from error
    if not callable(target):
        raise UserError(f"{key}._target_ '{spec['_target_']}' is not a class or function")
    return target


def _unknown_name(target: str) -> str | None:
    """Say what a module has instead of the last part of a dotted name; None if the module cannot be imported."""
    path, _, name = target.rpartition(".")
    module = sys.modules.get(path)  # imported in the attempt to import the name
    if module is None or hasattr(module, name):
        return None
    return f"{path} has no '{name}'{suggest(name, [one for one in dir(module) if not one.startswith('_')])}"


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """Return the parameters of a class or function. A class with `**kwargs` also has the parameters of its base classes.

    Args:
        target: Class or function.

    Returns:
        Name to parameter, in order of position; None if any argument is accepted.
    """
    found: dict[str, inspect.Parameter] = {}
    for function in _constructors(target):
        try:
            own = _without_instance(target, function)
        except (TypeError, ValueError):  # some built-in callables have no signature
            return None
        for parameter in own:
            if not _variadic(parameter):
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            return found
    return found if inspect.isclass(target) else None


def _with_current_targets(value: Any) -> Any:
    """A copy of a spec in which moved constructors have their current path."""
    if isinstance(value, Mapping):
        copy = {name: _with_current_targets(item) for name, item in value.items()}
        return {**copy, "_target_": current_target(value["_target_"])} if "_target_" in value else copy
    if isinstance(value, list | tuple):
        return [_with_current_targets(item) for item in value]
    return value


def _own_parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of the most derived constructor alone: no other class supplies those without a default."""
    first = next(_constructors(target), None)
    if first is None or not inspect.isfunction(first):
        return {}
    return {one.name: one for one in _without_instance(target, first) if not _variadic(one)}


def _without_instance(target: Callable[..., Any], function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a target's constructor, without the first of an `__init__`, whatever its name."""
    own = list(inspect.signature(function).parameters.values())
    has_instance = inspect.isclass(target) and own and own[0].kind is not inspect.Parameter.VAR_POSITIONAL
    return own[1:] if has_instance else own


def _constructors(target: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    if not inspect.isclass(target):
        yield target
        return
    for ancestor in target.__mro__[:-1]:
        if "__init__" in vars(ancestor):
            yield vars(ancestor)["__init__"]


def _variadic(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def _needed_instead(parameter: inspect.Parameter, value: Any) -> str | None:
    """What a parameter needs instead of a value; None if nothing is known against the value."""
    is_text = isinstance(value, str)
    if (is_text or value is None) and _is_number(parameter):
        return "a number"
    if (is_text or value is None) and _is_boolean(parameter):
        return "true or false"
    if isinstance(value, float) and value % 1 and parameter.annotation in (int, "int"):
        return "a whole number"
    return "a number or null" if is_text and parameter.annotation in ("int | None", "float | None") else None


def _is_number(parameter: inspect.Parameter) -> bool:
    if parameter.annotation in (int, float, "int", "float"):
        return True
    return isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)


def _is_boolean(parameter: inspect.Parameter) -> bool:
    return parameter.annotation in (bool, "bool") or isinstance(parameter.default, bool)


def source_sha256(key: str, *specs: Mapping[str, Any] | None) -> str | None:
    """Return the SHA-256 of the user's own code that specs refer to, so that editing it makes a new run.

    Args:
        key: Key of the specs in the configuration.
        *specs: `_target_` and arguments; None is skipped.

    Returns:
        Hex digits over what `own_source.digest_of` covers; None if every target is in dmlbench, an installed package or the
        standard library.
    """
    digests = sorted({digest for spec in specs if spec for digest in _own_digests(key, spec)})
    return hashlib.sha256("".join(digests).encode()).hexdigest() if digests else None


def _own_digests(key: str, spec: Mapping[str, Any]) -> Iterator[str]:
    """The digests of the user's own constructors of a spec and of the specs nested in it."""
    target = locate(key, spec)
    digest = digest_of(spec["_target_"], target)
    if digest is not None:
        yield digest
    for name, value in spec.items():
        for nested_key, nested in _nested_specs(f"{key}.{name}", value):
            yield from _own_digests(nested_key, nested)


def _nested_specs(key: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The specs in a value, through lists and mappings, each with its key. Specs inside other specs are left out."""
    if isinstance(value, Mapping) and "_target_" in value:
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _nested_specs(f"{key}.{name}", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _nested_specs(f"{key}[{index}]", item)
