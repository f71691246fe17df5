"""Checks of the arguments of losses."""

from __future__ import annotations


def require_above_zero(**arguments: float) -> None:
    """Refuse a number that is 0 or negative.

    Args:
        **arguments: Name and value of each argument.

    Raises:
        ValueError: Names the argument and its value.
    """
    for name, value in arguments.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be above 0")


def require_at_least(minimum: int, **arguments: float) -> None:
    """Refuse a number below a minimum.

    Args:
        minimum: Smallest allowed value.
        **arguments: Name and value of each argument.

    Raises:
        ValueError: Names the argument and its value.
    """
    for name, value in arguments.items():
        if value < minimum:
            raise ValueError(f"{name} is {value}; it must be at least {minimum}")
