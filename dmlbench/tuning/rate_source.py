"""The column `lr_from`: where the learning rates of a run are from, and whether they were searched as for other methods."""

from __future__ import annotations

from dmlbench.config.schema import Method, Protocol
from dmlbench.tuning.space import OF_PROTOCOL, Choices, Range, Space, parse_space, rate_ranges


def rate_source(method: Method, protocol: Protocol, tuned: bool) -> str:
    """Return the column `lr_from`. Rows that differ in it are not compared.

    Args:
        method: Method, with its search space.
        protocol: Protocol, around whose rates the common ranges are.
        tuned: Whether the row is part of a comparison of tuned methods. A method without training has no rates, and belongs to
            the comparison in which rates are searched as its own `search` says.

    Returns:
        `protocol` or `method`: whose rates trunk and head have. Of a tuned method, followed by each rate that was not searched
        in the common range, as in `method: lr not searched`.

    Raises:
        UserError: A range of the search space is not valid.
    """
    if not tuned:
        return "protocol" if all(getattr(method, name) is None for name in OF_PROTOCOL) else "method"
    differences = _differences(method, protocol)
    source = "method"
    if all(differences.get(name, "").endswith(" of the protocol") for name in OF_PROTOCOL):
        source, differences = "protocol", {key: text for key, text in differences.items() if key not in OF_PROTOCOL}
    return f"{source}: {', '.join(differences.values())}" if differences else source


def _differences(method: Method, protocol: Protocol) -> dict[str, str]:
    """What differs from the common search, by the key of each rate."""
    ranges = rate_ranges(method, protocol)
    common, space = parse_space({}, ranges), parse_space(method.search, ranges)
    return {key: _description(key, space, method) for key in common if space.get(key) != common[key]}


def _description(key: str, space: Space, method: Method) -> str:
    match space.get(key):
        case Range() as values:
            return f"{key} searched from {values}"
        case Choices() as values:
            return f"{key} searched in {values}"
        case None:
            return f"{key} of the protocol" if getattr(method, key) is None else f"{key} not searched"
