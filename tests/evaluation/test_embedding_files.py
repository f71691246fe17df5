"""Files of embeddings: every format is read the same, and files that are corrupt or inconsistent are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from dmlbench.errors import UserError
from dmlbench.evaluation.embedding_files import Embeddings, FileRows, load_embeddings, save_embeddings

N, D = 30, 4


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "embeddings": rng.standard_normal((N, D)).astype(np.float32),
        "labels": np.arange(N) % 5,
        "ids": rng.permutation(N) + 100,
        "is_query": np.arange(N) < 10,
        "is_gallery": np.arange(N) >= 8,
    }


def write(folder: Path, arrays: dict[str, np.ndarray], kind: str) -> Path:
    file = folder / f"external.{kind}"
    if kind == "npz":
        np.savez(file, **arrays)
    elif kind == "safetensors":
        save_file(arrays, file)
    else:
        np.save(file, arrays["embeddings"])
        others = {name: values.astype(int) for name, values in arrays.items() if name != "embeddings"}
        pd.DataFrame(others).to_csv(file.with_suffix(".csv"), index=False)
    return file


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("kind", ["npz", "safetensors", "npy"])
def test_every_format_gives_the_same_embeddings(tmp_path: Path, monkeypatch, arrays, kind: str, in_memory: bool):
    monkeypatch.setattr("dmlbench.evaluation.embedding_files._MAX_BYTES_IN_MEMORY", 2**28 if in_memory else 0)
    found = load_embeddings(write(tmp_path, arrays, kind))
    assert isinstance(found.rows, FileRows) == (not in_memory and kind != "npz")
    assert found.rows[:].equal(torch.from_numpy(arrays["embeddings"]))
    for name in ("labels", "ids", "is_query", "is_gallery"):
        assert getattr(found, name).tolist() == arrays[name].tolist()


def test_a_ranking_of_rows_in_a_file_equals_that_of_rows_in_memory(tmp_path: Path, monkeypatch, arrays):
    file = write(tmp_path, arrays, "safetensors")
    whole = load_embeddings(file).ranking(5)
    monkeypatch.setattr("dmlbench.evaluation.embedding_files._MAX_BYTES_IN_MEMORY", 0)
    read = load_embeddings(file).ranking(5)
    for name in ("query_ids", "group_start", "group_size", "group_relevant", "best_above"):
        assert getattr(read, name).equal(getattr(whole, name))


@given(st.lists(st.integers(0, N - 1), max_size=40))
def test_any_indices_of_a_file_read_the_same_rows_as_of_the_matrix(tmp_path_factory, indices):
    values = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
    file = tmp_path_factory.getbasetemp() / "rows.bin"
    if not file.exists():
        file.write_bytes(b"header" + values.tobytes())
    rows = FileRows(file, 6, "<f4", (N, D))
    assert rows[torch.tensor(indices, dtype=torch.int64)].equal(torch.from_numpy(values[indices].reshape(-1, D)))
    assert rows[3:7].equal(torch.from_numpy(values[3:7]))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_other_dtypes_are_converted_to_float32(tmp_path: Path, arrays, dtype):
    arrays["embeddings"] = (arrays["embeddings"] * 8).astype(dtype)
    found = load_embeddings(write(tmp_path, arrays, "npz"))
    assert found.rows[:].equal(torch.from_numpy(arrays["embeddings"].astype(np.float32)))


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: rows * 1e200, r"30 of 30 rows \(first: 0\) contain numbers above 3\.4e38.*rescale the rows"),
        (lambda rows: rows * 1e-200, r"30 of 30 rows \(first: 0\) contain only numbers below 1\.4e-45.*rescale the rows"),
        (
            lambda rows: np.where(np.arange(N)[:, None] == 7, rows * 1e-200, rows),
            r"1 of 30 rows \(first: 7\) contain only numbers below",
        ),
    ],
)
def test_rows_beyond_single_precision_are_refused(tmp_path: Path, monkeypatch, arrays, change, sentence: str, in_memory: bool):
    monkeypatch.setattr("dmlbench.evaluation.embedding_files._MAX_BYTES_IN_MEMORY", 2**28 if in_memory else 0)
    arrays["embeddings"] = change(arrays["embeddings"].astype(np.float64))
    with pytest.raises(UserError, match=sentence):
        load_embeddings(write(tmp_path, arrays, "safetensors")).in_memory()


@pytest.mark.parametrize("change", [lambda rows: rows + 1e9, lambda rows: (rows * 9).astype(np.int64) + 10**12])
def test_rows_that_differ_less_than_single_precision_can_represent_are_refused(tmp_path: Path, arrays, change):
    arrays["embeddings"] = change(arrays["embeddings"].astype(np.float64))
    with pytest.raises(UserError, match=r"all rows are equal when they are rounded to 7 digits.*subtract what"):
        load_embeddings(write(tmp_path, arrays, "npz"))


def test_rows_of_zeros_nan_and_infinity_are_kept_for_the_evaluation_to_refuse(tmp_path: Path, arrays):
    arrays["embeddings"] = arrays["embeddings"].astype(np.float64)
    arrays["embeddings"][:3] = [[0.0], [np.nan], [-np.inf]]
    found = load_embeddings(write(tmp_path, arrays, "npz")).rows[:3]
    assert torch.equal(torch.nan_to_num(found, nan=7, neginf=8), torch.tensor([[0.0], [7], [8]]).expand(3, D))


def test_without_ids_and_roles_items_are_numbered_and_have_both_roles(tmp_path: Path, arrays):
    found = load_embeddings(write(tmp_path, {name: arrays[name] for name in ("embeddings", "labels")}, "npz"))
    assert found.ids.tolist() == list(range(N))
    assert found.is_query.all()
    assert found.is_gallery.all()


def test_without_is_gallery_all_items_that_are_not_queries_are_the_gallery(tmp_path: Path, arrays):
    del arrays["is_gallery"]
    found = load_embeddings(write(tmp_path, arrays, "npz"))
    assert found.is_gallery.equal(~found.is_query)


def test_items_without_a_role_are_training_items(tmp_path: Path, arrays):
    arrays["is_gallery"] = (np.arange(N) >= 8) & (np.arange(N) < 20)
    found = load_embeddings(write(tmp_path, arrays, "npz"))
    assert found.training.ids.tolist() == arrays["ids"][20:].tolist()
    assert found.evaluated.ids.tolist() == arrays["ids"][:20].tolist()


def test_labels_may_be_names_of_classes(tmp_path: Path, arrays):
    arrays["labels"] = np.array([f"class {label}" for label in arrays["labels"]])
    assert load_embeddings(write(tmp_path, arrays, "npz")).labels.tolist() == (np.arange(N) % 5).tolist()


def test_saved_embeddings_are_read_again_and_no_other_file_is_left(tmp_path: Path, arrays):
    rows, labels, ids, is_query, is_gallery = (torch.from_numpy(np.ascontiguousarray(values)) for values in arrays.values())
    for roles in ((is_query, is_gallery), (is_query, is_query)):
        save_embeddings(tmp_path / "saved.safetensors", Embeddings(rows, labels, ids, *roles))
        found = load_embeddings(tmp_path / "saved.safetensors")
        assert found.rows[:].equal(rows)
        assert (found.is_query.equal(roles[0]), found.is_gallery.equal(roles[1])) == (True, True)
    assert [path.name for path in tmp_path.iterdir()] == ["saved.safetensors"]


INCONSISTENT = {
    "one label less": (
        lambda a: a | {"labels": a["labels"][1:]},
        r"labels have the shape \(29,\), but there are 30 embeddings; use one value each",
    ),
    "labels that are floats": (
        lambda a: a | {"labels": a["labels"] / 2},
        "labels have the dtype float64; they must be integers",
    ),
    "labels that are pickles": (lambda a: a | {"labels": np.array([{}] * N)}, "pickled Python objects, which are never loaded"),
    "no labels": (lambda a: {"embeddings": a["embeddings"], "label": a["labels"]}, "has no 'labels'; did you mean 'label'"),
    "one axis": (
        lambda a: a | {"embeddings": a["embeddings"][:, 0]},
        r"embeddings have the dtype float32 and the shape \(30,\); they must be numbers of the shape \(N, D\)",
    ),
    "an id twice": (lambda a: a | {"ids": a["ids"] * 0 + 7}, "ids must be unique, but 7 occurs more than once"),
    "no query": (lambda a: a | {"is_query": a["is_query"] & False}, "is_query is true for no item$"),
    "no gallery": (
        lambda a: {n: a[n] for n in a if n != "is_gallery"} | {"is_query": a["is_query"] | True},
        "is_gallery is true for no item; without is_gallery, the gallery consists of all items that are not queries",
    ),
    "a gallery without queries": (lambda a: {n: a[n] for n in a if n != "is_query"}, "has is_gallery but no is_query"),
    "a role that is not boolean": (lambda a: a | {"is_query": a["labels"]}, "is_query must be true or false"),
    "labels beyond int64": (lambda a: a | {"labels": a["labels"].astype(np.uint64) + 2**63}, "which exceeds int64"),
}


@pytest.mark.parametrize("change", INCONSISTENT)
def test_inconsistent_contents_are_refused_with_the_reason(tmp_path: Path, arrays, change: str):
    make, sentence = INCONSISTENT[change]
    with pytest.raises(UserError, match=sentence):
        load_embeddings(write(tmp_path, make(arrays), "npz"))


def truncated(file: Path, n: int) -> Path:
    file.write_bytes(file.read_bytes()[:n])
    return file


@pytest.mark.parametrize(
    ("kind", "n"), [("npz", 300), ("safetensors", 4), ("safetensors", 60), ("safetensors", 700), ("npy", 5), ("npy", 300)]
)
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, arrays, kind: str, n: int):
    with pytest.raises(UserError, match=rf"external\.{kind} cannot be read as embeddings"):
        load_embeddings(truncated(write(tmp_path, arrays, kind), n))


def test_pickled_objects_in_an_npy_file_are_not_loaded(tmp_path: Path):
    np.save(tmp_path / "external.npy", np.array([{}] * N), allow_pickle=True)
    (tmp_path / "external.csv").write_text("labels\n" + "1\n" * N)
    with pytest.raises(UserError, match="pickled Python objects, which are never loaded"):
        load_embeddings(tmp_path / "external.npy")


def test_a_header_with_a_shape_beyond_the_end_of_the_file_is_refused(tmp_path: Path):
    header = json.dumps({"embeddings": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"12345678")
    with pytest.raises(UserError, match="'embeddings' is truncated"):
        load_embeddings(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "header",
    [
        [],
        "text",
        {"embeddings": 3},
        {"embeddings": {"dtype": "F32", "shape": [2, 2], "data_offsets": [-16, 0]}},
        {"embeddings": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}},
        {"embeddings": {"dtype": "F32", "shape": "22", "data_offsets": [0, 16]}},
        {"embeddings": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}},
        {"embeddings": {"dtype": ["F32"], "shape": [2, 2], "data_offsets": None}},
    ],
)
def test_a_forged_header_is_refused(tmp_path: Path, header):
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    with pytest.raises(UserError, match=r"x\.safetensors cannot be read as embeddings"):
        load_embeddings(tmp_path / "x.safetensors")


def test_a_corrupt_archive_and_a_deeply_nested_header_are_refused(tmp_path: Path, arrays):
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    whole = bytearray((tmp_path / "x.npz").read_bytes())
    whole[90:200] = bytes(110)
    (tmp_path / "x.npz").write_bytes(bytes(whole))
    text = b"[" * 100_000
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    for name in ("x.npz", "x.safetensors"):
        with pytest.raises(UserError, match="cannot be read as embeddings"):
            load_embeddings(tmp_path / name)


def test_a_matrix_without_rows_or_columns_is_refused(tmp_path: Path, arrays):
    for shape in ((0, 4), (N, 0)):
        few = {"embeddings": np.zeros(shape, dtype=np.float32), "labels": arrays["labels"][: shape[0]]}
        with pytest.raises(UserError, match="so there is nothing to compare"):
            load_embeddings(write(tmp_path, few, "npz"))


def test_an_empty_label_is_refused_and_the_label_NA_is_a_class(tmp_path: Path, arrays):
    file = write(tmp_path, arrays, "npy")
    names = ["NA", "null", "a"] * 10
    file.with_suffix(".csv").write_text("labels\n" + "\n".join(names) + "\n")
    assert len(load_embeddings(file).labels.unique()) == 3
    file.with_suffix(".csv").write_text("labels,x\n" + ",1\n".join(["", *names[1:]]) + ",1\n")
    with pytest.raises(UserError, match=r"1 labels are empty \(first: row 0\)"):
        load_embeddings(file)


def test_an_npy_file_needs_a_csv_file_with_labels(tmp_path: Path, arrays):
    file = write(tmp_path, arrays, "npy")
    file.with_suffix(".csv").rename(tmp_path / "labels.csv")
    assert len(load_embeddings(file, tmp_path / "labels.csv")) == N
    with pytest.raises(UserError, match=r"external\.csv does not exist; an \.npy file needs a CSV file with a column 'labels'"):
        load_embeddings(file)


def test_a_file_with_another_suffix_is_refused(tmp_path: Path):
    (tmp_path / "external.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"not a file of embeddings; its name must end in \.safetensors, \.npz, \.npy"):
        load_embeddings(tmp_path / "external.pt")
