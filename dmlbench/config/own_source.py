"""Digests of the user's own code. An edited constructor makes a new run; the rest of its file does not."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from dmlbench.config.plain_module import DEFINITIONS, bound_names, is_plain

# Names through which code can refer to anything in its module.
_DYNAMIC = frozenset(
    (
        *("globals", "locals", "vars", "eval", "exec", "__import__", "__dict__", "modules", "import_module", "importlib"),
        *("__subclasses__", "__globals__", "f_globals", "_getframe", "currentframe", "getmodule"),
    )
)


def digest_of(name: str, target: Callable[..., Any]) -> str | None:
    """Return the SHA-256 of what defines a class, function or other callable in the user's own files.

    These are the module of its dotted name and the module in which it was defined. From a plain module (see `plain_module`)
    this is its definition, and everything in the same file that this refers to, directly or through other definitions.
    From any other module it is the whole file. Comments, docstrings and formatting do not matter. Files that these modules
    import are not covered.

    Args:
        name: Dotted name under which a configuration refers to it.
        target: What the name refers to.

    Returns:
        Hex digits; None if it is in dmlbench, an installed package or the standard library.
    """
    module, attribute = _imported_from(name)
    names: dict[ModuleType, set[str]] = {}  # module to the names of which the digest consists
    if module is not None:
        names.setdefault(module, set()).add(attribute)
    home = sys.modules.get(str(getattr(target, "__module__", None)))
    if home is not None:
        names.setdefault(home, set()).add(str(getattr(target, "__qualname__", "")).partition(".")[0])
    digests = [_digest(one, wanted) for one, wanted in names.items() if _own_file(one) is not None]
    return hashlib.sha256("".join(digests).encode()).hexdigest() if digests else None


def _imported_from(name: str) -> tuple[ModuleType | None, str]:
    """The imported module of a dotted name, and the attribute of the module with which the rest begins."""
    path, _, attribute = name.rpartition(".")
    while path and path not in sys.modules:
        path, _, attribute = path.rpartition(".")
    return sys.modules.get(path), attribute


def _own_file(module: ModuleType) -> Path | None:
    """The file of a module; None if it is in dmlbench, an installed package or the standard library."""
    file = Path(getattr(module, "__file__", None) or "")
    if file.suffix != ".py":
        return None
    file = file.resolve()
    return None if any(file.is_relative_to(path) for path in _installed()) else file


@cache
def _installed() -> list[Path]:
    """Directories of dmlbench, of installed packages and of the standard library."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return [*(Path(sysconfig.get_path(name)).resolve() for name in names), Path(__file__).resolve().parents[1]]


def _digest(module: ModuleType, names: Collection[str]) -> str:
    file = _own_file(module)
    assert file is not None
    # Kept with the module, because editing the file while the process runs does not change the code that runs.
    text: bytes = vars(module).setdefault("__dmlbench_source__", file.read_bytes())
    try:
        tree = ast.parse(text)
        statements = _needed(tree.body, names) if is_plain(tree, module.__name__) else tree.body
        return hashlib.sha256("\n".join(map(_canonical, statements)).encode()).hexdigest()
    except (SyntaxError, ValueError, RecursionError):  # which the interpreter that imported it did not have
        return hashlib.sha256(text).hexdigest()


def _needed(statements: Sequence[ast.stmt], names: Collection[str]) -> Sequence[ast.stmt]:
    """The statements of a plain module on which some of its names depend, in their order; all if that cannot be known."""
    binds = [bound_names(statement) for statement in statements]
    refers = [_references(statement) for statement in statements]
    if not all(any(name in bound for bound in binds) for name in names):
        return statements
    needed = {index for index, bound in enumerate(binds) if bound & {*names, "*"}}
    pending = list(needed)
    while pending:
        references = refers[pending.pop()]
        if references & _DYNAMIC:
            return statements
        found = {index for index, bound in enumerate(binds) if bound & references} - needed
        needed |= found
        pending += found
    return [statements[index] for index in sorted(needed)]


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
        elif isinstance(node, DEFINITIONS):
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
