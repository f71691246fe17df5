"""Digests of the user's own code. An edited constructor makes a new run; the rest of its file does not."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

# Names through which code can refer to anything in its module.
_DYNAMIC = frozenset({"globals", "locals", "vars", "eval", "exec", "__import__", "__dict__", "modules", "import_module"})
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)


def own_file(target: Callable[..., Any]) -> Path | None:
    """Return the user's own file in which a class or function is defined.

    Args:
        target: Class or function.

    Returns:
        The file; None if it is in dmlbench, an installed package or the standard library.
    """
    file = Path(getattr(inspect.getmodule(target), "__file__", None) or "")
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed.append(Path(__file__).resolve().parents[1])
    if file.suffix != ".py" or any(file.resolve().is_relative_to(path) for path in installed):
        return None
    return file.resolve()


def digest_of(target: Callable[..., Any]) -> str:
    """Return the SHA-256 of what defines a class or function in its own file.

    That is its definition, and everything in the same file that this refers to, directly or through other definitions.
    Comments, docstrings, formatting and all other definitions do not matter. Files that it imports are not covered.

    Args:
        target: Class or function in a file of the user.
    """
    module = inspect.getmodule(target)
    file = own_file(target)
    assert file is not None
    # Kept with the module, because editing the file while the process runs does not change the code that runs.
    text: bytes = vars(module).setdefault("__dmlbench_source__", file.read_bytes())
    name = getattr(target, "__qualname__", "").partition(".")[0]
    try:
        statements = _needed(ast.parse(text).body, name)
    except (SyntaxError, ValueError, RecursionError):  # which the interpreter that imported it did not have
        return hashlib.sha256(text).hexdigest()
    return hashlib.sha256("\n".join(map(_canonical, statements)).encode()).hexdigest()


def _needed(statements: Sequence[ast.stmt], name: str) -> list[ast.stmt]:
    """The statements of a module on which one of its names depends, in their order; all of them if that cannot be known."""
    binds = [_bound(statement) for statement in statements]
    refers = [_references(statement) for statement in statements]
    # Statements such as `if` and calls may change anything; a definition or an import changes only its names.
    needed = {index for index, statement in enumerate(statements) if not binds[index] and not _is_inert(statement)}
    needed |= {index for index, names in enumerate(binds) if name in names or "*" in names}
    if not any(name in names for names in binds):
        return list(statements)
    pending = list(needed)
    while pending:
        references = refers[pending.pop()]
        if references & _DYNAMIC:
            return list(statements)
        found = {index for index, names in enumerate(binds) if names & references} - needed
        needed |= found
        pending += found
    return [statements[index] for index in sorted(needed)]


def _bound(statement: ast.stmt) -> frozenset[str]:
    """The names that a definition, an import or an assignment binds or changes; none for other statements."""
    if isinstance(statement, _DEFINITIONS):
        return frozenset({statement.name})
    if isinstance(statement, _IMPORTS):
        return frozenset(alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    if isinstance(statement, _ASSIGNMENTS):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        # `Loss.margin = 2` changes `Loss`.
        return frozenset(node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
    return frozenset()


def _is_inert(statement: ast.stmt) -> bool:
    """Whether a statement does nothing on import: a docstring, `pass`, or `if __name__ == "__main__"`."""
    if isinstance(statement, ast.If):
        tested = statement.test
        is_main = isinstance(tested, ast.Compare) and isinstance(tested.left, ast.Name) and tested.left.id == "__name__"
        return is_main and not statement.orelse
    return isinstance(statement, ast.Pass) or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))


def _references(statement: ast.stmt) -> frozenset[str]:
    nodes = list(ast.walk(statement))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return frozenset(names | {node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr in _DYNAMIC})


def _canonical(node: Any) -> str:
    """Text of a syntax tree without positions, docstrings and empty fields, which is equal for all versions of Python."""
    if isinstance(node, ast.AST):
        fields = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
        if isinstance(node, ast.Constant):
            fields = {"value": repr(node.value)}
        elif isinstance(node, _DEFINITIONS):
            fields["body"] = list(_without_docstring(node.body))
        inner = ",".join(f"{name}={_canonical(value)}" for name, value in sorted(fields.items()) if name not in _IGNORED)
        return f"{type(node).__name__}({inner})"
    if isinstance(node, list):
        return "[" + ",".join(map(_canonical, node)) + "]"
    return repr(node)


_IGNORED = ("ctx", "kind", "type_comment")


def _without_docstring(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        value = statement.value if isinstance(statement, ast.Expr) else None
        if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
            yield statement
