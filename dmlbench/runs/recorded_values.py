"""Values that a row supplies to a trusted configuration: numbers and plain names, for keys that the configuration has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dmlbench.config.identity import current_target, flatten
from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError
from dmlbench.system.regular_files import parse_json

# Text that cannot be a path, a URL or an interpolation.
_PLAIN_NAME = re.compile(r"\w[\w.+ -]*")


def json_object(text: Scalar) -> dict[str, Any]:
    """Parse a column that contains a JSON object.

    Args:
        text: Value of the column; None if the row does not have it.

    Returns:
        The object; empty if there is none.
    """
    try:
        found = parse_json(text.encode()) if isinstance(text, str) else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def plain_value(column: str, value: Any) -> Any:
    """Return the value of a column, if it cannot refer to anything.

    Args:
        column: Name of the column, for errors.
        value: A scalar, or the JSON text of a list of scalars, which is parsed.

    Raises:
        UserError: It is text other than a plain name, or a list that contains anything else.
    """
    parsed = value
    if isinstance(value, str) and value.startswith("["):
        try:
            parsed = parse_json(value.encode())
        except ValueError:
            parsed = value
    if not _is_plain(parsed):
        raise UserError(
            f"{column} is {_shortened(value)}, which is not read from a run directory; if you trust it, type it as an option "
            "KEY=VALUE"
        )
    return parsed


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, str):
        return _PLAIN_NAME.fullmatch(value) is not None
    return value is None or isinstance(value, int | float)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def with_columns(prefix: str, trusted: Mapping[str, Any], columns: Mapping[str, Scalar]) -> dict[str, Any]:
    """Replace the arguments of a trusted constructor by those that a row records.

    Args:
        prefix: Start of the names of the columns, such as `trunk_make`.
        trusted: Constructor and arguments as configured here.
        columns: Columns of a row; others are ignored.

    Returns:
        The constructor with the recorded arguments. Arguments that are not recorded are left out.

    Raises:
        UserError: The columns name another constructor, or an argument that the configuration does not have, or a value is not
            accepted; see `plain_value`.
    """
    recorded = {name: _current(value) for name, value in columns.items() if name.startswith(f"{prefix}_")}
    made = _filled(prefix, trusted, recorded)
    found = {name: _current(value) for name, value in flatten(prefix, made)}
    for name, value in recorded.items():
        if name not in found or found[name] != value:
            expected = f"has {found[name]!r}" if name in found else "has no such argument"
            raise UserError(
                f"{name} is {_shortened(value)}, but the configuration {expected}; if you trust it, type it as an option "
                "KEY=VALUE, or +KEY=VALUE for a new key"
            )
    return made


def _current(value: Scalar) -> Scalar:
    return current_target(value) if isinstance(value, str) else value


def _filled(prefix: str, trusted: Any, recorded: Mapping[str, Scalar]) -> Any:
    if not isinstance(trusted, Mapping) or not trusted:
        same = prefix in dict(flatten(prefix, trusted)) and recorded[prefix] == _current(dict(flatten(prefix, trusted))[prefix])
        return trusted if same else plain_value(prefix, recorded[prefix])
    made = {}
    for key, value in trusted.items():
        name = f"{prefix}_{str(key).strip('_')}"
        if key == "_target_":
            made[key] = value  # never replaced: `with_columns` refuses a row that has another one
        elif value == {}:
            if recorded.get(name, "{}") == "{}":  # earlier versions did not record it; `with_columns` refuses other values
                made[key] = value
        elif name in recorded or (isinstance(value, Mapping) and any(one.startswith(f"{name}_") for one in recorded)):
            made[key] = _filled(name, value, recorded)
    return made


def local_path(name: str, value: Any, trusted: Any, roots: Sequence[Path]) -> Any:
    """Return a recorded path, if it is the configured one or lies below the user's own directories.

    Args:
        name: Key below `dataset`, for errors.
        value: Recorded path.
        trusted: Path as configured here.
        roots: Directories of the user.

    Raises:
        UserError: It lies elsewhere.
    """
    if value is None or value == trusted:
        return trusted
    if not isinstance(value, str) or "${" in value or value.startswith("~") or not value.isprintable():
        raise UserError(f"dataset_source has the {name} {value!r}, which is not a path; type dataset.{name}=PATH")
    resolved = Path(value).resolve()
    if not any(resolved.is_relative_to(root.resolve()) for root in roots):
        raise UserError(
            f"the {name} of its images is {value}, outside of the current directory and of paths.data; if you trust it, type "
            f"dataset.{name}={value}"
        )
    return value
