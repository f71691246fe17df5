"""The formula of every shipped loss, from `formulas.yaml`, as MathML."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from markupsafe import Markup


@cache
def _file() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(files("dmlbench.web").joinpath("formulas.yaml").read_text(encoding="utf-8"))
    return values


def symbols() -> str:
    """Return the meaning of the symbols."""
    return str(_file()["symbols"])


def tex(loss: str) -> str | None:
    """Return the formula of a loss as TeX; None if there is none.

    Args:
        loss: Name of its configuration file.
    """
    name = _file()["same"].get(loss, loss)
    if name in _file()["formulas"]:
        return str(_file()["formulas"][name])
    plain = name.removesuffix("_local")
    fitting = (text for first, last, text in _file()["families"] if plain.startswith(first) and plain.endswith(last))
    return next(fitting, None)


@cache
def formula(loss: str) -> Markup | None:
    """Return the formula of a loss as MathML; None if there is none.

    Args:
        loss: Name of its configuration file.
    """
    from latex2mathml.converter import convert

    text = tex(loss)
    return None if text is None else Markup(convert(text, display="block"))
