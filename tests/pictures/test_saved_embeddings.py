"""Reading the embeddings of a run without torch: mapped, and refused if they are not what a run wrote."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rows_factory import make_row

from dmlbench.errors import UserError
from dmlbench.evaluation.embedding_files import Embeddings, save_embeddings, save_tensors
from dmlbench.pictures.saved_embeddings import map_embeddings, model_directories, read_saved, unit_rows
from dmlbench.results.row import Row
from dmlbench.system.regular_files import sha256

ROWS = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32))
LABELS, IDS, ROLE = torch.tensor([0, 0, 1, 1, 2, 2]), torch.arange(6) + 10, torch.arange(6) < 5
NAME = "embeddings.safetensors"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_embeddings(tmp_path / NAME, Embeddings(ROWS, LABELS, IDS, ROLE, ~ROLE | ROLE))
    return tmp_path / NAME


def row_of(file: Path, **columns: object) -> Row:
    return Row(make_row(**columns).columns, file.parent)


def test_a_file_is_mapped_and_equals_what_the_run_saved(file: Path) -> None:
    found = map_embeddings(file)
    assert isinstance(found.rows, np.memmap)
    assert np.array_equal(found.rows, ROWS.numpy())
    assert found.labels.tolist() == LABELS.tolist()
    assert found.ids.tolist() == IDS.tolist()
    assert found.is_query.tolist() == ROLE.tolist()
    assert found.is_gallery.all()
    assert found.max_norm == pytest.approx(float(ROWS.norm(dim=1).max()))
    assert found.index[12] == 2


def test_embeddings_that_were_replaced_are_refused(file: Path) -> None:
    assert len(read_saved(row_of(file, embeddings_sha256=sha256(file)))) == 6
    assert len(read_saved(row_of(file))) == 6  # rows of earlier versions do not record the digest
    with pytest.raises(UserError, match=r"cannot be drawn: the content is not what the run wrote"):
        read_saved(row_of(file, embeddings_sha256="0" * 64))


def test_the_first_model_of_several_folds_is_read(file: Path) -> None:
    files = [file.parent / f"fold{fold}" / NAME for fold in range(2)]
    for fold, each in enumerate(files):
        each.parent.mkdir()
        save_embeddings(each, Embeddings(ROWS + fold, LABELS, IDS, ROLE, ROLE))
    found = read_saved(row_of(file, n_models=2, embeddings_sha256=sha256(*files)))
    assert np.array_equal(found.rows, ROWS.numpy())
    assert model_directories(row_of(file, n_models=2)) == [each.parent for each in files]
    assert model_directories(row_of(file)) == [file.parent]  # which has the scores of its queries too
    files[1].unlink()
    (file.parent / "fold2").symlink_to(file.parent)  # not followed
    with pytest.raises(UserError, match=r"fold1/embeddings.safetensors does not exist"):
        read_saved(row_of(file, n_models=2))


def test_rows_without_embeddings_are_refused_with_what_to_do(file: Path) -> None:
    for columns, message in (
        (
            {"status": "failed", "reason": "the loss is nan"},
            r"has no embeddings to draw because the run failed: the loss is nan$",
        ),
        ({"parent": "a-b-0"}, r"is an evaluation without embeddings; name its run, "),
        ({"protocol": "external"}, r"name that file: dmlbench show FILE --pictures OUT.png$"),
    ):
        with pytest.raises(UserError, match=message):
            read_saved(row_of(file, **columns))
    file.unlink()
    with pytest.raises(UserError, match=r"embeddings.safetensors does not exist, so there is nothing to draw"):
        read_saved(row_of(file))


TENSORS = {"embeddings": ROWS, "labels": LABELS, "ids": IDS, "is_query": ROLE, "is_gallery": ROLE.clone()}
WRONG = {
    "a missing tensor": {"labels": None},
    "another dtype": {"embeddings": ROWS.double()},
    "another shape": {"labels": LABELS[:5]},
    "another number of axes": {"ids": IDS[:, None]},
    "equal ids": {"ids": IDS * 0},
    "no query": {"is_query": ROLE & False},
    "no embedding": {name: values[:0] for name, values in TENSORS.items()},
}


@pytest.mark.parametrize("changed", WRONG.values(), ids=WRONG.keys())
def test_a_file_with_other_contents_is_refused(file: Path, changed: dict[str, torch.Tensor | None]) -> None:
    save_tensors(file, {name: values for name, values in {**TENSORS, **changed}.items() if values is not None})
    with pytest.raises(UserError, match=r"embeddings.safetensors cannot be read as the embeddings of a run: "):
        map_embeddings(file)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b'{"embeddings": 3}',
        b'{"embeddings": {"dtype": "F32", "shape": [99999999999, 99999999999], "data_offsets": [0, 4]}}',
        b'{"embeddings": {"dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8]}}',
        b'{"embeddings": {"dtype": "F32", "shape": [1, true], "data_offsets": [0, 4]}}',
    ],
)
def test_a_hostile_header_is_refused(file: Path, header: bytes) -> None:
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"1234" if header else b"")
    with pytest.raises(UserError, match=r"cannot be read as the embeddings of a run: "):
        map_embeddings(file)


def test_a_link_and_a_truncated_file_are_refused(file: Path) -> None:
    link = file.with_name("link.safetensors")
    link.symlink_to(file)
    with pytest.raises(OSError, match="it is a link"):
        map_embeddings(link)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"'\w+' is truncated$"):
        map_embeddings(file)


def test_unit_rows_have_length_one_and_zeros_stay_zeros() -> None:
    found = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [1e30, 0.0]], dtype=np.float32))
    assert found.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0], [1, 0]]


def test_choosing_searching_and_projecting_import_no_torch() -> None:
    modules = ("saved_embeddings", "queries", "neighbours", "projection", "thumbnails", "run_pictures")
    code = "; ".join([*(f"import dmlbench.pictures.{name}" for name in modules), "import sys"])
    heavy = "print(*(name for name in ('torch', 'hydra', 'matplotlib', 'pandas') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", f"{code}; {heavy}"], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
