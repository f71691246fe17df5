"""Recompute the digests of a row from its columns."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from functools import lru_cache

from dmlbench.config.identity import digest
from dmlbench.config.schema import Scalar
from dmlbench.results import columns as registry
from dmlbench.results.columns import column
from dmlbench.results.row import ADDED, EXTERNAL, Row
from dmlbench.verification.verdict import Finding

_MAX_KINDS = 4096  # for which digests are remembered
# By the identity of a kind, which is kept, because hashing it takes longer than everything else.
_digests: dict[tuple[int, Scalar], tuple[Hashable, frozenset[str], frozenset[str]]] = {}


def identity_findings(row: Row) -> Iterator[Finding]:
    """Yield columns that identify a row and contradict the columns that they were computed from.

    Args:
        row: Row.
    """
    fingerprints, methods = _recomputed(row)
    for name, found in (("fingerprint", fingerprints), ("method_digest", methods)):
        if row[name] not in found:
            of = "shared columns" if name == "fingerprint" else "columns of the method"
            yield Finding(name, f"{name} is {_short(row[name])}, but the {of} have the digest {min(found)}")
    run_id = registry.run_id(str(row["fingerprint"]), str(row["method_digest"]), row.seed)
    if row["run_id"] != run_id:
        yield Finding("run_id", f"run_id is {_short(row['run_id'])}, but fingerprint, method and seed make it {run_id}")
    if row["protocol"] == EXTERNAL:
        yield from _external(row)
    else:
        yield from _parent(row)


def _recomputed(row: Row) -> tuple[frozenset[str], frozenset[str]]:
    """Return the accepted fingerprints and method digests, computed once for all rows of the same kind."""
    kind = row.kind
    key = (id(kind), row.get("loss_label") if row["protocol"] == EXTERNAL else None)
    found = _digests.get(key)
    if found is None:
        if len(_digests) >= _MAX_KINDS:
            _digests.clear()
        # Evaluations of schemas 1 and 2 include the settings that equal those of training runs.
        everything = {name: value for name, value in row.columns.items() if column(name).role == "shared"}
        fingerprints = {registry.fingerprint(row.shared), registry.fingerprint(everything)}
        found = _digests[key] = kind, frozenset(fingerprints), frozenset((_method_digest(row),))
    return found[1:]


def _method_digest(row: Row) -> str:
    if row["protocol"] == EXTERNAL:
        return digest({"name": row.get("loss_label")})[:8]
    is_added = row.get("preset") == ADDED  # its digest covers the column `loss` too
    return registry.method_digest({name: value for name, value in row.method.items() if is_added or name != "loss"})


def _external(row: Row) -> Iterator[Finding]:
    """External rows have labels that equal the names in their digests, and no hyper-parameters."""
    if others := row.method.keys() - {"loss"}:
        yield Finding("method", f"external embeddings have the hyper-parameter {min(others)[:80]}")
    name = str(row.get("loss_label"))
    if row["loss"] != (re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_") or "unnamed"):
        yield Finding("loss", f"loss is {_short(row['loss'])}, which is not the name '{name[:80]}'")
    for label in ("dataset", "trunk"):
        if row.get(f"{label}_label") != row[label]:
            yield Finding(
                f"{label}_label", f"{label}_label is {_short(row.get(f'{label}_label'))}, but {label} is {row[label]}"
            )


def _parent(row: Row) -> Iterator[Finding]:
    parent = row.get("parent")
    evaluated = _is_evaluation(tuple(row.columns))
    if (parent is not None) != evaluated:
        what = "no parent, but settings of an evaluation" if evaluated else "a parent, but no settings of an evaluation"
        yield Finding("parent", f"the row has {what}")
    elif parent is not None and not str(parent).endswith(f"-{row['method_digest']}-{row.seed}"):
        yield Finding("parent", f"parent is {_short(parent)}, which has another method or seed")


@lru_cache(256)
def _is_evaluation(columns: tuple[str, ...]) -> bool:
    return any(name.startswith("evaluation_") for name in columns)


def _short(value: Scalar) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
