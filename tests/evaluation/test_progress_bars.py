"""The bars of long evaluations appear on a terminal only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import dmlbench.evaluation

MODULES = sorted(Path(dmlbench.evaluation.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_bar_is_left_to_tqdm_to_disable_when_the_output_is_not_a_terminal(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tqdm":
            disable = next(keyword.value for keyword in node.keywords if keyword.arg == "disable")
            assert ast.unparse(disable) in ("None", "None if progress else True")
