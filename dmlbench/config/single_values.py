"""Overrides that set one value of the chosen files, so that the files need not be composed again for another value."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType

from dmlbench.config.protocol_dataset import BROUGHT

# Hydra's own values, which configurations do not contain, and values that composing copies to another key.
_NOT_SINGLE = ("hydra.", *(f"protocol.{name}" for name in BROUGHT))


def single_values(overrides: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Return the overrides that replace one value each, independently of their order and of the other overrides.

    These are `key=value` with text, a number, true, false or null, if no key inside or around this key is set too.

    Args:
        overrides: Hydra overrides, one value each.

    Returns:
        Override to its key and value.

    >>> single_values(["loss=triplet", "protocol.lr=0.1", "+loss.make.new=1", "protocol.head_layers=[8]"])
    {'protocol.lr=0.1': ('protocol.lr', 0.1)}
    """
    parsed = {one: _parse(one) for one in overrides}
    keys = [one.key_or_group for one in parsed.values() if "." in one.key_or_group]
    return {
        text: (one.key_or_group, one.value())
        for text, one in parsed.items()
        if _sets_single_value(one) and not any(_overlap(one.key_or_group, key) for key in keys if key != one.key_or_group)
    }


@lru_cache(1024)
def _parse(override: str) -> Override:
    return OverridesParser.create().parse_overrides([override])[0]


def _sets_single_value(override: Override) -> bool:
    key = override.key_or_group
    is_key = key == "seed" or ("." in key and "@" not in key and not key.startswith(_NOT_SINGLE))
    return is_key and override.type == OverrideType.CHANGE and isinstance(override.value(), str | int | float | None)


def _overlap(key: str, other: str) -> bool:
    return f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.")
