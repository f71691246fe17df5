"""Print which cases an implementation passes: `python tests/conformance [module:function]`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping

from adapters import KNOWN
from cases import Evaluate, cases


def table(implementations: Mapping[str, Evaluate]) -> str:
    """Return a Markdown table with one line per case and one column per implementation.

    Args:
        implementations: Name to function.
    """
    lines = [["case", "what must hold", *implementations]]
    passed = dict.fromkeys(implementations, 0)
    n = 0
    for case in cases():
        outcomes = {name: case.passes(evaluate) for name, evaluate in implementations.items()}
        lines.append([case.name, case.requirement, *("yes" if outcome else "**no**" for outcome in outcomes.values())])
        n += 1
        for name, outcome in outcomes.items():
            passed[name] += outcome
    lines.append(["passed", "", *(f"{count} of {n}" for count in passed.values())])
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([rows[0], "|" + " --- |" * len(lines[0]), *rows[1:]]) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    chosen: dict[str, Evaluate] = dict(KNOWN)
    if len(sys.argv) > 1:
        module, _, function = sys.argv[1].partition(":")
        chosen = {sys.argv[1]: getattr(importlib.import_module(module), function or "evaluate")}
    print(table(chosen), end="")
