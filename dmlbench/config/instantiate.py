"""From a configuration's `_target_` to the object; the only caller of Hydra's instantiate.

Before anything is built its arguments are compared with what the constructor takes, so that a misspelt one is a sentence
and never dropped in silence: several constructors of pytorch-metric-learning pass `**kwargs` up through four classes.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_object, instantiate

from dmlbench.config.identity import current_target
from dmlbench.errors import UserError, suggest

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it would log what `locate` words and raises


def build(place: str, spec: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
    """Call what `spec` names.

    Args:
        place: where the spec stands, such as `loss.make`, for errors.
        spec: `_target_` and arguments, as plain Python; nested specs are built first.
        *args: further arguments, handed over as they are.
        **kwargs: likewise.

    Raises:
        UserError: the target cannot be imported, an argument is unknown or missing, or the constructor refuses a value.
    """
    check(place, spec, positional=len(args), given=set(kwargs))
    try:
        make = instantiate({**_with_current_targets(spec), "_partial_": True, "_convert_": "all"})
    except HydraException as error:
        raise UserError(f"{place}: {error.__cause__ or error}".splitlines()[0]) from error
    try:
        return make(*args, **kwargs)
    except UserError:
        raise
    except (TypeError, ValueError, AssertionError, LookupError) as error:
        raise UserError(f"{place}: {spec['_target_']} refuses its arguments: {error}") from error


def check(place: str, spec: Mapping[str, Any], positional: int = 0, given: set[str] | None = None) -> None:
    """Compare a spec, and the specs nested in it, with what their targets take; builds nothing.

    Args:
        place: where the spec stands.
        spec: `_target_` and arguments.
        positional: how many arguments the caller will hand over by position.
        given: names of those the caller will hand over by keyword.

    Raises:
        UserError: see `build`.
    """
    target = locate(place, spec)
    known = parameters(target)
    arguments = {name: value for name, value in spec.items() if not (name.startswith("_") and name.endswith("_"))}
    for name, value in arguments.items():
        if known is not None and name not in known:
            raise UserError(f"{place}.{name} is no argument of {spec['_target_']}{suggest(name, known)}")
        for inner, spec_within in _specs(f"{place}.{name}", value):
            check(inner, spec_within)
        if known is not None and (value is None or isinstance(value, str)) and _wants_number(known[name]):
            raise UserError(f"{place}.{name} is {value!r}, but {spec['_target_']} takes a number there")
    for position, (name, parameter) in enumerate(_own_parameters(target).items()):
        supplied = name in arguments or name in (given or ()) or position < positional
        if parameter.default is parameter.empty and not supplied:
            raise UserError(f"{place}.{name} is missing: {spec['_target_']} needs it")


def locate(place: str, spec: Mapping[str, Any]) -> Callable[..., Any]:
    """The class or function that a spec names.

    Raises:
        UserError: there is no `_target_`, or it cannot be imported.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("_target_"), str):
        raise UserError(f"{place} is {spec!r}; it needs a `_target_`, the dotted name of a class or function")
    try:
        target = get_object(current_target(spec["_target_"]))
    except Exception as error:  # an import may raise anything
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"{place}._target_ '{spec['_target_']}' cannot be imported: {reason}; "
            "it must lie in the current folder, in the --config-dir folder or in an installed package"
        ) from error
    if not callable(target):
        raise UserError(f"{place}._target_ '{spec['_target_']}' is no class or function")
    return target


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """The arguments that a constructor or function takes, following `**kwargs` up a class's ancestors.

    Returns:
        Name to parameter in order of position; None where anything is taken.
    """
    found: dict[str, inspect.Parameter] = {}
    for function in _constructors(target):
        try:
            own = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # some built-in callables tell nothing of themselves
            return None
        for parameter in own:
            if parameter.name != "self" and not _variadic(parameter):
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            return found
    return found if inspect.isclass(target) else None


def _with_current_targets(value: Any) -> Any:
    """A spec in which moved constructors have their current path."""
    if isinstance(value, Mapping):
        moved = {name: _with_current_targets(inner) for name, inner in value.items()}
        return {**moved, "_target_": current_target(value["_target_"])} if "_target_" in value else moved
    if isinstance(value, list | tuple):
        return [_with_current_targets(inner) for inner in value]
    return value


def _own_parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments of the first constructor alone: what it needs, nobody else supplies."""
    first = next(_constructors(target), None)
    if first is None or not inspect.isfunction(first):
        return {}
    own = inspect.signature(first).parameters
    return {name: parameter for name, parameter in own.items() if name != "self" and not _variadic(parameter)}


def _constructors(target: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    if not inspect.isclass(target):
        yield target
        return
    for ancestor in target.__mro__[:-1]:
        if "__init__" in vars(ancestor):
            yield vars(ancestor)["__init__"]


def _variadic(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def _wants_number(parameter: inspect.Parameter) -> bool:
    if parameter.annotation in (int, float, "int", "float"):
        return True
    return isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)


def source_sha256(place: str, *specs: Mapping[str, Any] | None) -> str | None:
    """The sha256 of the files that the specs' own targets lie in, so that editing one's own `mine.py` is a new run.

    Returns:
        Hex digits, or None where every target lies in dmlbench, an installed package or the standard library.
    """
    found = {file: digest for spec in specs if spec for file, digest in _own_sources(place, spec)}
    if not found:
        return None
    return hashlib.sha256("".join(found[file] for file in sorted(found)).encode()).hexdigest()


def _own_sources(place: str, spec: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    module = inspect.getmodule(locate(place, spec))
    file = Path(getattr(module, "__file__", None) or "")
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed.append(Path(__file__).resolve().parents[1])
    if file.suffix == ".py" and not any(file.resolve().is_relative_to(path) for path in installed):
        # Kept with the module: an edit while the process runs changes the file, but not the code that is run.
        digest = vars(module).setdefault("__dmlbench_sha256__", hashlib.sha256(file.read_bytes()).hexdigest())
        yield file.resolve(), digest
    for name, value in spec.items():
        for inner, spec_within in _specs(f"{place}.{name}", value):
            yield from _own_sources(inner, spec_within)


def _specs(place: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The specs at or within a value, through lists and mappings, each with its place; not those within a spec."""
    if isinstance(value, Mapping) and "_target_" in value:
        yield place, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _specs(f"{place}.{name}", inner)
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from _specs(f"{place}[{position}]", inner)
