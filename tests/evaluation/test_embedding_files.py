"""Files of embeddings: what is read of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
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


def written(place: Path, arrays: dict[str, np.ndarray], kind: str) -> Path:
    file = place / f"theirs.{kind}"
    if kind == "npz":
        np.savez(file, **arrays)
    elif kind == "safetensors":
        save_file(arrays, file)
    else:
        np.save(file, arrays["embeddings"])
        rest = [name for name in arrays if name != "embeddings"]
        lines = [",".join(rest), *(",".join(str(int(arrays[name][i])) for name in rest) for i in range(len(arrays["labels"])))]
        file.with_suffix(".csv").write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("kind", ["npz", "safetensors", "npy"])
def test_every_kind_of_file_holds_the_same(tmp_path: Path, monkeypatch, arrays, kind: str, in_memory: bool):
    monkeypatch.setattr("dmlbench.evaluation.embedding_files._MOST_IN_MEMORY", 2**28 if in_memory else 0)
    found = load_embeddings(written(tmp_path, arrays, kind))
    assert isinstance(found.rows, FileRows) == (not in_memory and kind != "npz")
    assert found.rows[:].equal(torch.from_numpy(arrays["embeddings"]))
    for name in ("labels", "ids", "is_query", "is_gallery"):
        assert getattr(found, name).tolist() == arrays[name].tolist()


def test_a_ranking_is_the_same_from_a_file_as_from_memory(tmp_path: Path, monkeypatch, arrays):
    file = written(tmp_path, arrays, "safetensors")
    whole = load_embeddings(file).ranking(5)
    monkeypatch.setattr("dmlbench.evaluation.embedding_files._MOST_IN_MEMORY", 0)
    read = load_embeddings(file).ranking(5)
    for name in ("query_ids", "group_start", "group_size", "group_relevant", "best_above"):
        assert getattr(read, name).equal(getattr(whole, name))


@given(st.lists(st.integers(0, N - 1), max_size=40))
def test_any_rows_of_a_file_are_those_of_the_matrix(tmp_path_factory, places):
    values = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
    file = tmp_path_factory.getbasetemp() / "rows.bin"
    if not file.exists():
        file.write_bytes(b"header" + values.tobytes())
    rows = FileRows(file, 6, "<f4", (N, D))
    assert rows[torch.tensor(places, dtype=torch.int64)].equal(torch.from_numpy(values[places].reshape(-1, D)))
    assert rows[3:7].equal(torch.from_numpy(values[3:7]))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_other_number_types_are_read_as_float32(tmp_path: Path, arrays, dtype):
    arrays["embeddings"] = (arrays["embeddings"] * 8).astype(dtype)
    found = load_embeddings(written(tmp_path, arrays, "npz"))
    assert found.rows[:].equal(torch.from_numpy(arrays["embeddings"].astype(np.float32)))


def test_without_ids_and_roles_everyone_asks_everyone(tmp_path: Path, arrays):
    found = load_embeddings(written(tmp_path, {name: arrays[name] for name in ("embeddings", "labels")}, "npz"))
    assert found.ids.tolist() == list(range(N))
    assert found.is_query.all()
    assert found.is_gallery.all()


def test_with_queries_alone_the_others_are_the_gallery(tmp_path: Path, arrays):
    del arrays["is_gallery"]
    found = load_embeddings(written(tmp_path, arrays, "npz"))
    assert found.is_gallery.equal(~found.is_query)


def test_rows_of_no_role_are_training_rows(tmp_path: Path, arrays):
    arrays["is_gallery"] = (np.arange(N) >= 8) & (np.arange(N) < 20)
    found = load_embeddings(written(tmp_path, arrays, "npz"))
    assert found.training.ids.tolist() == arrays["ids"][20:].tolist()
    assert found.evaluated.ids.tolist() == arrays["ids"][:20].tolist()


def test_names_of_classes_will_do_as_labels(tmp_path: Path, arrays):
    arrays["labels"] = np.array([f"class {label}" for label in arrays["labels"]])
    assert load_embeddings(written(tmp_path, arrays, "npz")).labels.tolist() == (np.arange(N) % 5).tolist()


def test_what_is_saved_is_read_again(tmp_path: Path, arrays):
    parts = [torch.from_numpy(np.ascontiguousarray(values)) for values in arrays.values()]
    save_embeddings(tmp_path / "ours.safetensors", Embeddings(*parts))
    found = load_embeddings(tmp_path / "ours.safetensors")
    assert found.rows[:].equal(parts[0])
    assert found.is_gallery.equal(parts[4])
    assert [path.name for path in tmp_path.iterdir()] == ["ours.safetensors"]


WRONG = {
    "one label less": (lambda a: a | {"labels": a["labels"][1:]}, r"30 embeddings, but labels have the shape \(29,\)"),
    "labels that are floats": (lambda a: a | {"labels": a["labels"] / 2}, "labels are float64; they must be whole numbers"),
    "labels that are pickles": (lambda a: a | {"labels": np.array([{}] * N)}, "pickled Python objects, which are never loaded"),
    "no labels": (lambda a: {"embeddings": a["embeddings"], "label": a["labels"]}, "no 'labels'; did you mean 'label'"),
    "one dimension": (
        lambda a: a | {"embeddings": a["embeddings"][:, 0]},
        r"numbers \(N, D\), not float32 of the shape \(30,\)",
    ),
    "an id twice": (lambda a: a | {"ids": a["ids"] * 0 + 7}, "the id 7 stands more than once"),
    "no query": (lambda a: a | {"is_query": a["is_query"] & False}, "no row has is_query"),
    "a gallery without queries": (lambda a: {n: a[n] for n in a if n != "is_query"}, "has is_gallery and no is_query"),
    "a role that is no boolean": (lambda a: a | {"is_query": a["labels"]}, "is_query must be true or false"),
    "labels beyond int64": (lambda a: a | {"labels": a["labels"].astype(np.uint64) + 2**63}, "beyond int64"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path: Path, arrays, wrong: str):
    change, sentence = WRONG[wrong]
    with pytest.raises(UserError, match=sentence):
        load_embeddings(written(tmp_path, change(arrays), "npz"))


def torn(file: Path, n: int) -> Path:
    file.write_bytes(file.read_bytes()[:n])
    return file


@pytest.mark.parametrize(
    ("kind", "n"), [("npz", 300), ("safetensors", 4), ("safetensors", 60), ("safetensors", 700), ("npy", 5), ("npy", 300)]
)
def test_a_torn_file_is_refused_by_name(tmp_path: Path, arrays, kind: str, n: int):
    with pytest.raises(UserError, match=rf"theirs\.{kind} cannot be read as embeddings"):
        load_embeddings(torn(written(tmp_path, arrays, kind), n))


def test_a_pickle_in_a_npy_is_not_opened(tmp_path: Path):
    np.save(tmp_path / "theirs.npy", np.array([{}] * N), allow_pickle=True)
    (tmp_path / "theirs.csv").write_text("labels\n" + "1\n" * N)
    with pytest.raises(UserError, match="pickled Python objects, which are never loaded"):
        load_embeddings(tmp_path / "theirs.npy")


def test_a_header_that_lies_about_its_length_is_refused(tmp_path: Path):
    header = json.dumps({"embeddings": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"12345678")
    with pytest.raises(UserError, match="cut short"):
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


def test_damage_within_an_archive_and_a_header_deeper_than_any_are_refused(tmp_path: Path, arrays):
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    whole = bytearray((tmp_path / "x.npz").read_bytes())
    whole[90:200] = bytes(110)
    (tmp_path / "x.npz").write_bytes(bytes(whole))
    text = b"[" * 100_000
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    for name in ("x.npz", "x.safetensors"):
        with pytest.raises(UserError, match="cannot be read as embeddings"):
            load_embeddings(tmp_path / name)


def test_no_rows_and_no_columns_are_refused(tmp_path: Path, arrays):
    for shape in ((0, 4), (N, 0)):
        few = {"embeddings": np.zeros(shape, dtype=np.float32), "labels": arrays["labels"][: shape[0]]}
        with pytest.raises(UserError, match="there is nothing to compare"):
            load_embeddings(written(tmp_path, few, "npz"))


def test_an_empty_label_is_refused_and_one_called_NA_is_a_class(tmp_path: Path, arrays):
    file = written(tmp_path, arrays, "npy")
    names = ["NA", "null", "a"] * 10
    file.with_suffix(".csv").write_text("labels\n" + "\n".join(names) + "\n")
    assert len(load_embeddings(file).labels.unique()) == 3
    file.with_suffix(".csv").write_text("labels,x\n" + ",1\n".join(["", *names[1:]]) + ",1\n")
    with pytest.raises(UserError, match=r"1 labels are empty \(first: row 0\)"):
        load_embeddings(file)


def test_a_npy_needs_its_labels(tmp_path: Path, arrays):
    file = written(tmp_path, arrays, "npy")
    file.with_suffix(".csv").rename(tmp_path / "labels.csv")
    assert len(load_embeddings(file, tmp_path / "labels.csv")) == N
    with pytest.raises(UserError, match=r"theirs\.csv is no file"):
        load_embeddings(file)


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    (tmp_path / "theirs.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"no file of embeddings; those end in \.safetensors, \.npz, \.npy"):
        load_embeddings(tmp_path / "theirs.pt")
