"""Translation of the errors of Hydra and OmegaConf into one sentence: the value, the key, and what would have worked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from dmlbench.cli.unknown_keys import describe_unknown_key
from dmlbench.config.compose import TOP_KEYS
from dmlbench.config.files import GROUPS, entries
from dmlbench.errors import UserError, suggest

# What composing a configuration raises: ValueError for `loss=3`, OSError for a directory that cannot be created.
COMPOSE_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError)


def translate_error(error: Exception, overrides: Sequence[str], config_dir: Path | None = None) -> UserError:
    """Translate an error of composing a configuration.

    Args:
        error: One of `COMPOSE_ERRORS`.
        overrides: What was composed.
        config_dir: Directory of the user's own configuration files.

    Returns:
        An error for the user; if the error is not known, with its own text on one line.
    """
    text = str(error)
    for translate in _TRANSLATIONS:
        if sentence := translate(error, text, overrides):
            without_own_files = translate is _no_such_file and config_dir is None
            return UserError(sentence + (_own_file_hint(sentence) if without_own_files else ""))
    key = re.search(r"Could not override '([^']+)'", text)
    if key and isinstance(error.__cause__, ConfigKeyError | AttributeError):
        return UserError(describe_unknown_key(key[1], overrides, config_dir))
    where = getattr(error, "full_key", None) or ("the overrides do not compose" if type(error) is ValueError else None)
    return UserError((f"{where}: " if where else "") + re.sub(r"\s+", " ", text.partition("\n    full_key")[0]).strip())


def _no_such_file(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    found = re.search(r"Could not find '([\w/]+)/([^'/]*)'", text)
    if found:
        group, name = found.groups()
        options = re.findall(r"^\t([\w-]+)$", text.partition("Config search path")[0], re.MULTILINE)
        return f"{group}={name} is not known{suggest(name, options)}"
    if "Config group override must be a string" in text:
        value = r"[-+]?(?:[\d.]+(?:e[-+]?\d+)?|nan|inf)|null|true|false"
        number = re.compile(rf"({'|'.join(GROUPS.values())})=(?:{value})", re.IGNORECASE)
        choice = next((found for one in overrides if (found := number.fullmatch(one))), None)
        return f"{choice[0]} is not known{suggest('', [name for name, _ in entries(choice[1])])}" if choice else None
    return None


def _own_file_hint(sentence: str) -> str:
    """Return how to use a configuration file of the user, if the unknown name may be one."""
    found = re.match(r"([\w/]+)=([\w-]+) is not known", sentence)
    if found:
        for directory in sorted(one for one in Path().iterdir() if one.is_dir()):
            file = directory / found[1] / f"{found[2]}.yaml"
            if file.is_file():
                return f"; {file} is not read without --config-dir {directory}"
    return "" if "; did you mean" in sentence else "; your own files need --config-dir DIR"


def _missing_value(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    found = re.search(r"[Mm]issing mandatory value: (\S+)", text)
    key = found[1] if isinstance(error, MissingMandatoryValue) and found else None
    return f"{key} is missing; set it with {key}=..." if key else None


def _several_values(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    found = re.search(r"Ambiguous value for argument '([^']*)'", text)
    if not found:
        return None
    instead = "`dmlbench sweep` and `dmlbench train -m` run all of them; quote a value that contains a comma"
    return f"'{found[1]}' names several values; {instead}"


def _not_parsed(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    if type(error).__name__ != "OverrideParseException":
        return None
    override = getattr(error, "override", None) or next((one for one in overrides if one in text), "")
    quote = "quote a value with spaces or brackets: 'KEY=\"VALUE\"'"
    if "=" in override:
        return f"'{override}' cannot be parsed; write KEY=VALUE, and {quote}"
    group = next((group for group in GROUPS.values() if override in [name for name, _ in entries(group)]), None)
    if group is not None:
        return f"'{override}' is not KEY=VALUE; did you mean '{group}={override}'?"
    if override in TOP_KEYS or re.fullmatch(r"\w+(\.\w+)+", override):
        return f"{override} needs a value: {override}=..."
    return f"'{override}' is not KEY=VALUE, such as loss=triplet; {quote}"


def _not_enumerable(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    if "Can only enumerate" not in text:
        return None
    override = next((one for one in overrides if "interval(" in one), "")
    return f"'{override}' does not list values; write KEY=VALUE,VALUE or KEY=range(START,STOP)"


def _invalid_yaml(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return None
    mark = error.problem_mark
    return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1} is not valid YAML: {error.problem}"


def _not_writable(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    if not isinstance(error, OSError) or not error.filename:
        return None
    return f"{error.filename} cannot be used: {error.strerror}"


def _nothing_to_remove(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    found = re.search(r"Could not delete from config\. '?([\w./]+)'? does not exist", text)
    return f"{found[1]} is not known, so ~{found[1]} cannot remove it" if found else None


def _already_there(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    found = re.search(r"Could not append to config\. An item is already at '([\w.]+)'", text)
    if not found:
        return None
    return f"{found[1]} has a value already; leave out the +, or use ++{found[1]}=... if not every file of a sweep has it"


_TRANSLATIONS = (
    _no_such_file,
    _missing_value,
    _several_values,
    _not_parsed,
    _not_enumerable,
    _invalid_yaml,
    _not_writable,
    _nothing_to_remove,
    _already_there,
)
