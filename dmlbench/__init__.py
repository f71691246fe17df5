"""Compare deep metric learning methods under one fixed protocol.

The Python interface, which is imported on first use:

    evaluate(embeddings, labels, ...)     all metrics of embeddings, as a dictionary
    load_results("runs")                  all result rows, as a pandas DataFrame
    compare_table(frame, vary="loss")     fair comparison tables of such rows, as a DataFrame
    Split                                 what a data set returns
"""

from __future__ import annotations

# This module is imported while `python -m dmlbench` still searches the current directory first, so it imports nothing itself.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dmlbench.api import compare_table, evaluate, load_results
    from dmlbench.data.split import Split

__version__ = "0.1.0"
__all__ = ["Split", "__version__", "compare_table", "evaluate", "load_results"]

_HOMES = {
    "Split": "dmlbench.data.split",
    "compare_table": "dmlbench.api",
    "evaluate": "dmlbench.api",
    "load_results": "dmlbench.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dmlbench' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
