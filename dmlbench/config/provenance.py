"""How a configuration was composed: the overrides that determine results, and the chosen files with their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType

from dmlbench.config.files import conf_dir

# Overrides that determine where or how a run is executed, not what it computes.
_EXECUTION = ("seed", "device", "workers", "retry", "sweep", "paths", "hydra")


def recorded_overrides(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that determine results, the last one of each key, sorted.

    Args:
        overrides: Hydra overrides.

    Returns:
        Overrides as `key=value`, and removed keys as `~key`.

    >>> recorded_overrides(["protocol.lr=1e-3", "seed=1", "+optimizer.amsgrad=true", "protocol.lr=0.1"])
    ['optimizer.amsgrad=true', 'protocol.lr=0.1']
    """
    found = {}
    for one in OverridesParser.create().parse_overrides(list(overrides)):
        key = one.key_or_group
        if key.partition(".")[0].partition("/")[0] not in _EXECUTION:
            found[key] = f"~{key}" if one.type == OverrideType.DEL else f"{key}={_value_text(one)}"
    return [found[key] for key in sorted(found)]


def _value_text(override: Override) -> str:
    text = override.get_value_element_as_str()
    return text.lower() if isinstance(override.value(), bool) else text  # Hydra prints True, but YAML has true


def file_digests(choices: Mapping[str, str], config_dir: Path | None) -> dict[str, str]:
    """Return the chosen configuration files, each with its SHA-256.

    Args:
        choices: Chosen file of each group, as Hydra reports them.
        config_dir: Directory of the user's own configuration files.

    Returns:
        File as `group/name` to the hex digits of its SHA-256, sorted. Groups of Hydra itself are left out.
    """
    found = {}
    names = {group.partition("@")[0]: name for group, name in choices.items() if not group.startswith("hydra")}
    for group, name in sorted(names.items()):
        for directory in (conf_dir(), *([config_dir] if config_dir else [])):
            file = directory / group / f"{name}.yaml"
            if file.is_file():
                found[f"{group}/{name}"] = hashlib.sha256(file.read_bytes()).hexdigest()
                break
    return found
