"""Public docstrings: a summary sentence, and `Args` that name exactly the parameters."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "dmlbench"
PACKAGES = sorted({path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py")})
Documented = ast.FunctionDef | ast.ClassDef


def public(body: list[ast.stmt]) -> Iterator[Documented]:
    """The public classes and functions of a module, and the public methods of these classes."""
    for node in body:
        if isinstance(node, Documented) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def parameters(node: Documented) -> list[str]:
    """The parameters of a function or a constructor; of a dataclass its public fields."""
    if isinstance(node, ast.ClassDef):
        own = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        if own:
            return parameters(own[0])
        if not any("dataclass" in ast.unparse(one) for one in node.decorator_list):
            return []
        fields = [one.target.id for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
        return [name for name in fields if not name.startswith("_")]
    if any("overload" in ast.unparse(one) for one in node.decorator_list):
        return []
    arguments = node.args
    each = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [one.arg for one in each if one is not None and one.arg not in ("self", "cls")]


def documented(docstring: str) -> list[str]:
    section = re.search(r"^Args:\n((?:    .*\n|\n)*)", docstring + "\n", re.MULTILINE)
    return re.findall(r"^    \*{0,2}(\w+):", section[1], re.MULTILINE) if section else []


@pytest.mark.parametrize("package", PACKAGES)
def test_args_name_the_parameters_in_their_order(package: str) -> None:
    paths = [PACKAGE / package] if package.endswith(".py") else sorted((PACKAGE / package).rglob("*.py"))
    wrong = {}
    for path in paths:
        for node in public(ast.parse(path.read_text(encoding="utf-8")).body):
            text, wanted = ast.get_docstring(node) or "", parameters(node)
            is_command = package == "cli" and wanted == ["arguments"]  # `main(arguments)` of a command
            if not text.splitlines()[:1] or not re.match(r"[A-Z`0-9].*[.:]$", text.splitlines()[0]):
                wrong[f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}"] = "its first line is no sentence"
            elif documented(text) != wanted and not is_command:
                wrong[f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}"] = f"{documented(text)}, not {wanted}"
    assert not wrong, "\n".join(f"{place}: {problem}" for place, problem in wrong.items())
