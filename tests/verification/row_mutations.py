"""Single changes of a run directory that `dmlbench verify` has to notice, and what may change without any harm."""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file, save_file

from dmlbench.results.columns import column
from dmlbench.results.metric_specs import parse_metric
from dmlbench.results.row import Row

ROW, SCORES = "row.json", "per_query.safetensors"
PWNED = "pwned"  # a file that exists if something in a run directory was executed
CODE = f"__import__('pathlib').Path('{PWNED}').touch()"
LOOK_ALIKES = str.maketrans("aceopxi", "\u0430\u0441\u0435\u043e\u0440\u0445\u0456")  # Cyrillic
# Columns of these roles are neither compared nor ranked by tables, and no file determines them.
_FREE_ROLES = ("cost", "provenance", "result")
# Labels of own data sets, losses and trunks, the name of the weights, and which files were chosen. Pages escape them.
_FREE_TEXTS = ("dataset_label", "trunk_label", "loss_label", "trunk_weights", "overrides")
# Counts that only the images determine. Tables note rows that differ in them.
_FREE_COUNTS = ("n_images", "n_train_classes", "n_train_images", "n_query_images", "n_gallery_images", "n_images_skipped")


class Mutation(NamedTuple):
    """A name, and a function that changes a run directory."""

    name: str
    apply: Callable[[Path], None]
    column: str = ""


class _Exploit:
    """Runs code if it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, (CODE,)


def column_mutations(columns: dict[str, Any]) -> Iterator[Mutation]:
    """Yield changes of each column of a row, and columns that are added."""
    for name, value in columns.items():
        for what, changed in _changed(value):
            yield Mutation(f"{name}: {what}", _set(name, changed), name)
        yield Mutation(f"{name}: removed", _remove(name), name)
    for name, value in (("recall_at_3", 1.0), ("macro_recall_at_16", 1.0), ("protocol_new", 1), ("loss_make_new", 1)):
        if name not in columns:
            yield Mutation(f"{name}: added", _set(name, value), name)


def _changed(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, bool):
        yield from (("inverted", not value), ("text", str(value)))
    elif isinstance(value, int):
        yield from (("one more", value + 1), ("ten times", value * 10 + 10), ("negative", -1 - value), ("text", str(value)))
    elif isinstance(value, float):
        yield from (("a little more", value + 0.004), ("almost one", 0.9999), ("not a number", math.nan), ("text", f"{value} "))
        yield from (("infinite", math.inf), ("negative", -value - 0.5))
    elif isinstance(value, str):
        yield from (("look-alike", value.translate(LOOK_ALIKES)), ("script", f"{value}<script>{CODE}</script>"))
        yield from (("YAML tag", f"!!python/object/apply:eval [{CODE!r}]"), ("invisible", f"{value}\u200b"), ("null", None))
    else:
        yield from (("a number", 1), ("a text", "x"))


def _set(name: str, value: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "row.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))

    return apply


def _remove(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "row.json"
        file.write_text(json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != name}))

    return apply


def is_harmless(mutation: Mutation, before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether a change may stay unnoticed: nothing that tables compare, group or rank by has changed."""
    name = mutation.column
    if before.get(name) == after.get(name) and type(before.get(name)) is type(after.get(name)):
        return True  # the text has no such letters, or an absent column is read as its value in older rows
    metric, role = parse_metric(name), column(name).role
    if role == "shared":
        return Row(before).shared == Row(after).shared  # such as the usual layer, which a row need not name
    if name.startswith("n_") and after.get(name) is not None and role == "provenance" and before["status"] == "ok":
        return name in _FREE_COUNTS or name in (
            "n_attributes",
            "n_models",
            "n_shared_groups",
            "n_duplicates_across_split",
            "n_resumed",
            "n_processes",
        )
    if metric is not None:
        return metric.spec.kind == "diagnostic" or after.get(name) is None  # a missing value is shown as missing
    return role in _FREE_ROLES or name in (*_FREE_TEXTS, "schema_version", "reason")


def is_seen_by_rescoring(name: str) -> bool:
    """Whether only the embeddings determine a column: clustering metrics, and the gallery of external embeddings."""
    metric = parse_metric(name)
    return name in ("n_excluded", "n_gallery") or (metric is not None and metric.spec.kind == "clustering")


def file_mutations(other: Path) -> Iterator[Mutation]:
    """Yield changes of the files beside a row; `other` is the directory of another run with as many queries."""
    for name in (SCORES, ROW):
        yield Mutation(f"{name}: of another run", _written(name, (other / name).read_bytes()))
        yield Mutation(f"{name}: truncated", _written(name, lambda content: content[: len(content) // 2]))
        yield Mutation(f"{name}: empty", _written(name, b""))
        yield Mutation(f"{name}: pickled code", _written(name, pickle.dumps(_Exploit())))
        yield Mutation(f"{name}: 1 GiB", lambda folder, name=name: os.truncate(folder / name, 2**30))
        yield Mutation(f"{name}: a link", _replaced(name, lambda file: file.symlink_to(other / file.name)))
        yield Mutation(f"{name}: a FIFO", _replaced(name, os.mkfifo))
        yield Mutation(f"{name}: a directory", _replaced(name, Path.mkdir))
    yield from _row_mutations()
    yield from _class_mutations(other)
    for metric in ("map_at_r", "recall_at_1", "precision_at_2", "retrieved_at_1", "mean_reciprocal_rank"):
        yield from _score_mutations(metric)
    yield from _tensor_mutations()


def _row_mutations() -> Iterator[Mutation]:
    yield Mutation(f"{ROW}: a key twice", _written(ROW, lambda text: text.replace(b"{", b'{"map_at_r": 0.99, ', 1)))
    yield Mutation(f"{ROW}: deeply nested", _written(ROW, b"[" * 100_000))
    yield Mutation(f"{ROW}: a list", _written(ROW, b"[1]"))
    yield Mutation(f"{ROW}: a YAML tag", _written(ROW, f"!!python/object/apply:eval [{CODE!r}]".encode()))
    yield Mutation(f"{ROW}: half a surrogate", _written(ROW, lambda text: text.replace(b'"ok"', b'"\\ud800"', 1)))


def _class_mutations(other: Path) -> Iterator[Mutation]:
    many = json.dumps({str(i): "x" for i in range(5000)}).encode()
    yield Mutation("classes.json: a class less", _written("classes.json", _without_a_class))
    yield Mutation("classes.json: a list", _written("classes.json", b"[]"))
    yield Mutation("classes.json: many classes", _written("classes.json", many))
    yield Mutation("classes.json: a link", _replaced("classes.json", lambda file: file.symlink_to(other / ROW)))


def _score_mutations(metric: str) -> Iterator[Mutation]:
    for value in (math.nan, 2.0, -1.0, 0.123):
        yield Mutation(
            f"{metric} of a query: {value}", _rewritten(lambda old, value=value: {metric: _first(old[metric], value)})
        )
    yield Mutation(f"{metric} of no query", _rewritten(lambda old: {metric: None} if old[metric].size else {}))
    yield Mutation(f"{metric} of queries shuffled", _rewritten(lambda old: {metric: np.roll(old[metric], 3)}))


def _tensor_mutations() -> Iterator[Mutation]:
    yield Mutation("scores: integers", _rewritten(lambda old: {"map_at_r": old["map_at_r"].astype("i4")}))
    yield Mutation("scores: two axes", _rewritten(lambda old: {"map_at_r": old["map_at_r"][None].copy()}))
    yield Mutation("scores: no labels", _rewritten(lambda old: {"labels": None}))
    yield Mutation("scores: other labels", _rewritten(lambda old: {"labels": np.roll(old["labels"], 2)}))
    yield Mutation("scores: labels are floats", _rewritten(lambda old: {"labels": old["labels"] + 0.5}))
    yield Mutation("scores: an id twice", _rewritten(lambda old: {"ids": _first(old["ids"], old["ids"][1])}))
    yield Mutation("scores: a query less", _rewritten(lambda old: {name: each[1:].copy() for name, each in old.items()}))
    yield Mutation(
        "scores: a query twice", _rewritten(lambda old: {name: np.append(each, each[0]) for name, each in old.items()})
    )


def _first(values: np.ndarray, value: float) -> np.ndarray:
    changed = values.copy()
    changed[0] = value
    return changed


def _rewritten(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray | None]]) -> Callable[[Path], None]:
    """Replace arrays of the file of scores; None removes one."""

    def apply(folder: Path) -> None:
        tensors = load_file(folder / SCORES)
        changed = {**tensors, **change(tensors)}
        save_file({name: values for name, values in changed.items() if values is not None}, folder / SCORES)

    return apply


def _written(name: str, content: bytes | Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(content(before) if callable(content) else content)

    return apply


def _replaced(name: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return apply


def _without_a_class(content: bytes) -> bytes:
    names = json.loads(content)
    names.pop(next(iter(names)))
    return json.dumps(names).encode()
