"""Modules whose import does nothing but bind names, so that each definition depends only on the names that it refers to.

Any other statement, such as a call, may change anything in the module: a registry, a global variable, an attribute of a class.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
# Decorators that change nothing but the definition below them.
_DECORATORS = frozenset(
    (
        *("staticmethod", "classmethod", "property", "abc.abstractmethod", "dataclasses.dataclass"),
        *("functools.cache", "functools.lru_cache", "functools.cached_property", "functools.total_ordering", "functools.wraps"),
        *("typing.final", "typing.overload", "contextlib.contextmanager", "torch.no_grad", "torch.inference_mode"),
    )
)
_OF_PROPERTIES = frozenset({"setter", "getter", "deleter"})
# Methods that Python calls while it executes the definition of another class.
_HOOKS = frozenset({"__init_subclass__", "__set_name__", "__class_getitem__", "__prepare__", "__mro_entries__"})
_EXPRESSIONS = (
    *(ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Starred, ast.Tuple, ast.List, ast.Set, ast.Dict),
    *(ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.JoinedStr, ast.FormattedValue),
    *(ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


def is_plain(tree: ast.Module, name: str) -> bool:
    """Return whether a module consists of docstrings, imports, definitions and assignments of constants only.

    Definitions may have no decorators except well-known ones, and classes no keywords. Constants include arithmetic with
    names. A module that imports itself, or has a method that is called when another class is defined, is not plain.

    Args:
        tree: Syntax tree of the module.
        name: Name of the module.
    """
    own_name, origins = name.rpartition(".")[2], _origins(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, IMPORTS) and own_name in _imported_names(node):
            return False
        if isinstance(node, DEFINITIONS) and node.name in _HOOKS:
            return False
    return all(_is_plain_statement(statement, origins) for statement in tree.body)


def is_inert(statement: ast.stmt) -> bool:
    """Return whether a statement does nothing on import: a docstring, `pass`, or `if __name__ == "__main__"`.

    Args:
        statement: Statement of a module or class.
    """
    if isinstance(statement, ast.If):
        tested = statement.test
        is_main = isinstance(tested, ast.Compare) and isinstance(tested.left, ast.Name) and tested.left.id == "__name__"
        return is_main and not statement.orelse
    return isinstance(statement, ast.Pass) or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))


def bound_names(statement: ast.stmt) -> frozenset[str]:
    """Return the names that a statement of a plain module binds; `*` for those of another module.

    Args:
        statement: Statement of the module.
    """
    if isinstance(statement, DEFINITIONS):
        return frozenset({statement.name})
    if isinstance(statement, IMPORTS):
        return frozenset(alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return frozenset(node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
    return frozenset()


def _is_plain_statement(statement: ast.stmt, origins: Mapping[str, str]) -> bool:
    if isinstance(statement, IMPORTS) or is_inert(statement):
        return True
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        values = [statement.value, *([statement.annotation] if isinstance(statement, ast.AnnAssign) else [])]
        return all(map(_is_name, targets)) and _are_plain(values)
    if not isinstance(statement, DEFINITIONS) or not all(_is_known(one, origins) for one in statement.decorator_list):
        return False
    if isinstance(statement, ast.ClassDef):
        body = all(_is_plain_statement(inner, origins) for inner in statement.body)
        return body and not statement.keywords and _are_plain(statement.bases)
    arguments = statement.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    annotations = [one.annotation for one in every if one is not None]
    return _are_plain([*arguments.defaults, *arguments.kw_defaults, *annotations, statement.returns])


def _is_name(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) or (isinstance(target, ast.Tuple) and all(map(_is_name, target.elts)))


def _are_plain(expressions: Iterable[ast.expr | None]) -> bool:
    return all(isinstance(node, _EXPRESSIONS) for one in expressions if one is not None for node in ast.walk(one))


def _is_known(decorator: ast.expr, origins: Mapping[str, str]) -> bool:
    arguments: list[ast.expr] = []
    if isinstance(decorator, ast.Call):
        arguments = [*decorator.args, *(keyword.value for keyword in decorator.keywords)]
        decorator = decorator.func
    if isinstance(decorator, ast.Attribute) and isinstance(decorator.value, ast.Name) and decorator.attr in _OF_PROPERTIES:
        return decorator.value.id not in origins  # a property of the same class
    root, _, rest = ast.unparse(decorator).partition(".")
    name = origins.get(root, root) + (f".{rest}" if rest else "")
    return name in _DECORATORS and _are_plain(arguments)


def _origins(statements: Sequence[ast.stmt]) -> dict[str, str]:
    """Each name that the module binds, to the full name of what it imports; to nothing known for names that it defines."""
    found: dict[str, str] = {}
    for statement in statements:
        for name in bound_names(statement):
            found[name] = "" if name in found else _imported(statement, name)
    return found


def _imported(statement: ast.stmt, name: str) -> str:
    if isinstance(statement, IMPORTS):
        for alias in statement.names:
            if (alias.asname or alias.name.partition(".")[0]) == name:
                full = alias.name if alias.asname else name
                return f"{statement.module}.{alias.name}" if isinstance(statement, ast.ImportFrom) else full
    return ""


def _imported_names(node: ast.Import | ast.ImportFrom) -> set[str]:
    names = {alias.name for alias in node.names} | ({node.module or ""} if isinstance(node, ast.ImportFrom) else set())
    return {name.rpartition(".")[2] for name in names}
