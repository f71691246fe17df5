"""The Python interface: `evaluate`, `load_results`, `compare_table` and `Split`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rows_factory import COST, make_row, make_study
from safetensors.torch import load_file

import dmlbench
from dmlbench.cli import run
from dmlbench.data.split import ROLES
from dmlbench.errors import UserError
from dmlbench.results import run_files
from dmlbench.results.metric_specs import parse_metric
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row, read_rows, write_row
from dmlbench.tables.formats.cells import is_bold
from dmlbench.tables.table import compare

N, CLASSES = 60, 6
TINY = (
    *("dataset=synthetic", "dataset.make.classes=8", "dataset.make.images_per_class=6", "dataset.make.image_px=16"),
    *("protocol.epochs=1", "protocol.batch_size=12", "protocol.image_px=16", "protocol.embedding_dim=8"),
)


# The exported names


def test_the_package_exports_exactly_these_names() -> None:
    assert dmlbench.__all__ == ["Split", "__version__", "compare_table", "evaluate", "load_results"]
    assert dir(dmlbench) == dmlbench.__all__
    assert all(hasattr(dmlbench, name) for name in dmlbench.__all__)
    with pytest.raises(AttributeError, match="module 'dmlbench' has no attribute 'rank'"):
        dmlbench.rank  # noqa: B018


def test_importing_the_package_imports_no_large_library() -> None:
    program = "import sys, dmlbench; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"torch", "numpy", "pandas", "scipy", "sklearn", "hydra", "omegaconf"}.isdisjoint(done.stdout.split())


def test_a_split_of_own_data_has_one_line_per_image_with_a_label_and_roles(tmp_path: Path) -> None:
    frame = pd.DataFrame({
        "path": ["a.png", "b.png", "c.png"],
        "label": [0, 1, 1],
        "class_name": ["wren", "robin", "robin"],
        **{role: [role == "train", role in ("query", "gallery"), role == "gallery"] for role in ROLES},
    })  # fmt: skip
    split = dmlbench.Split(frame, tmp_path)
    assert split.ids("query").tolist() == [1]
    assert split.labels("gallery").tolist() == [1, 1]
    assert split.paths() == [tmp_path / name for name in frame.path]
    with pytest.raises(ValueError, match="labels of a split must be 0-based"):
        dmlbench.Split(frame.assign(label=[1, 2, 2]), tmp_path)


# evaluate


def items(n: int = N, dim: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make embeddings, float32 `(n, dim)`, and labels, int64 `(n,)`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    centres = np.random.default_rng(99).standard_normal((CLASSES, dim))
    return (centres[labels] + rng.standard_normal((n, dim))).astype(np.float32), labels


def test_arrays_tensors_and_lists_give_the_same_metrics() -> None:
    rows, labels = items()
    expected = dmlbench.evaluate(rows, labels)
    tensor = torch.from_numpy(rows)
    for embeddings, classes in (
        (rows.astype(np.float64), labels.astype(np.uint8)),
        (np.asfortranarray(rows), labels.tolist()),
        (tensor, torch.from_numpy(labels)),
        (tensor.double().requires_grad_(), torch.from_numpy(labels).int()),
        (rows.tolist(), pd.Series(labels)),
        (pd.DataFrame(rows), tuple(labels)),
    ):
        assert dmlbench.evaluate(embeddings, classes) == expected
    assert rows.tobytes() == items()[0].tobytes()


def test_bfloat16_tensors_are_converted_without_loss() -> None:
    rows, labels = items()
    short = torch.from_numpy(rows).bfloat16()
    assert dmlbench.evaluate(short, labels) == dmlbench.evaluate(short.float(), labels)


def test_texts_are_labels_like_integers() -> None:
    rows, labels = items()
    expected = dmlbench.evaluate(rows, labels)
    names = [f"class {label}" for label in labels]
    for classes in (names, np.array(names), np.array(names, dtype=object), pd.Series(names), pd.Categorical(names)):
        assert dmlbench.evaluate(rows, classes) == expected


def test_metrics_have_the_names_of_columns_and_are_fractions() -> None:
    found = dmlbench.evaluate(*items(), ks=(1, 5))
    assert {"recall_at_1", "recall_at_5", "precision_at_5", "map_at_r", "nmi", "effective_rank", "macro_map_at_r"} <= set(found)
    assert (found["n_queries"], found["n_gallery"], found["n_clusters"]) == (N, N, CLASSES)
    retrieval = [value for name, value in found.items() if (metric := parse_metric(name)) and metric.spec.kind == "retrieval"]
    assert len(retrieval) == 18
    assert all(isinstance(value, float) and 0 < value < 1 for value in retrieval)


def test_a_separate_gallery_is_searched_and_nothing_is_left_out_of_it() -> None:
    rows, labels = items()
    itself = dmlbench.evaluate(rows, labels, gallery=rows, gallery_labels=labels)
    assert itself["recall_at_1"] == 1
    assert itself["n_gallery"] == N
    others, other_labels = items(30, seed=1)
    found = dmlbench.evaluate(rows, labels, gallery=torch.from_numpy(others), gallery_labels=other_labels.tolist())
    assert (found["n_queries"], found["n_gallery"]) == (N, 30)
    texts = [[f"c{label}" for label in each] for each in (labels, other_labels)]
    assert found == dmlbench.evaluate(rows, texts[0], gallery=others, gallery_labels=texts[1])
    nearest = (unit(rows) @ unit(others).T).argmax(1)
    assert found["recall_at_1"] == pytest.approx((other_labels[nearest] == labels).mean(), abs=1e-12)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_distance_and_the_number_of_clusters_are_those_given() -> None:
    rows, labels = items()
    longer = rows * np.arange(1, N + 1, dtype=np.float32)[:, None]
    cosine = dmlbench.evaluate(rows, labels)["map_at_r"]
    assert dmlbench.evaluate(longer, labels)["map_at_r"] == pytest.approx(cosine, abs=1e-9)
    found = {
        distance: dmlbench.evaluate(longer, labels, distance=distance)["map_at_r"]
        for distance in ("inner_product", "euclidean")
    }
    assert len({cosine, *found.values()}) == 3
    assert "nmi" not in dmlbench.evaluate(rows, labels, clusters_per_class=0)
    assert dmlbench.evaluate(rows, labels, clusters_per_class=2)["n_clusters"] == 2 * CLASSES


def test_values_of_k_are_ordered_and_may_come_from_any_iterable() -> None:
    rows, labels = items()
    found = dmlbench.evaluate(rows, labels, ks=np.array([5, 1, 5]))
    assert [name for name in found if name.startswith("recall_at_")] == ["recall_at_1", "recall_at_5"]
    assert found == dmlbench.evaluate(rows, labels, ks=(k for k in (1, 5)))
    default = dmlbench.evaluate(rows[:6], [0, 0, 0, 1, 1, 1])
    assert [name for name in default if name.startswith("recall_at_")] == [f"recall_at_{k}" for k in (1, 2, 4, 8)]


def test_the_metrics_equal_those_of_the_command_for_the_same_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows, labels = items()
    is_query = np.arange(N) < 20
    np.savez("one_set.npz", embeddings=rows, labels=labels)
    np.savez("with_gallery.npz", embeddings=rows, labels=labels, is_query=is_query)
    found = {
        "one_set": dmlbench.evaluate(rows, labels),
        "with_gallery": dmlbench.evaluate(
            rows[is_query], labels[is_query], gallery=rows[~is_query], gallery_labels=labels[~is_query]
        ),
    }
    for name, metrics in found.items():
        assert run(["evaluate", f"{name}.npz"]) == 0
        [path] = find_rows(Path("runs") / name)
        row = read_row(path).columns
        assert {column: row[column] for column in metrics} == metrics
        assert {column for column in row if parse_metric(column)} == {column for column in metrics if parse_metric(column)}


ROWS, LABELS = items(12)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "one axis": (
        {"embeddings": ROWS[:, 0]},
        r"embeddings has shape \(12,\) and type float32; it needs numbers of shape \(N, D\)",
    ),
    "no rows": ({"embeddings": ROWS[:0], "labels": []}, r"embeddings has shape \(0, 8\)"),
    "ragged lists": ({"embeddings": [[1.0, 2.0], [3.0]], "labels": [0, 0]}, "embeddings cannot be converted to an array"),
    "texts as embeddings": ({"embeddings": [["a"]] * 12}, r"embeddings has shape \(12, 1\) and type <U1"),
    "complex embeddings": ({"embeddings": torch.ones(12, 2, dtype=torch.complex64)}, "and type complex64; it needs numbers"),
    "a label less": ({"labels": LABELS[1:]}, "embeddings has 12 rows, but labels has 11 values; use one label per row"),
    "labels that are floats": (
        {"labels": LABELS / 2},
        r"labels has shape \(12,\) and type float64; it needs integers or texts",
    ),
    "labels that are missing": ({"labels": [None] * 12}, "labels has .* type object; it needs integers or texts"),
    "labels in a matrix": ({"labels": LABELS[:, None]}, r"labels has shape \(12, 1\)"),
    "labels beyond int64": ({"labels": LABELS.astype(np.uint64) + 2**63}, "labels contains 9223372036854775813, which exceeds"),
    "one class": ({"labels": [3] * 12}, "all 12 embeddings are of class 3; retrieval needs two classes"),
    "no pair": ({"labels": range(12)}, "none of the 12 queries has another image of its class in the gallery"),
    "NaN": (
        {"embeddings": np.where(np.eye(12, 8) > 0, np.nan, ROWS)},
        r"embeddings: 8 of 12 rows are NaN or infinite .*first: 0",
    ),
    "float32 overflow": (
        {"embeddings": ROWS.astype(float) * 1e300},
        r"embeddings: 12 of 12 rows \(first: 0\) contain numbers above 3.4e38",
    ),
    "a gallery without labels": ({"gallery": ROWS}, "gallery and gallery_labels have to be given together"),
    "labels without a gallery": ({"gallery_labels": LABELS}, "gallery and gallery_labels have to be given together"),
    "another dimension": (
        {"gallery": ROWS[:, :3], "gallery_labels": LABELS},
        "embeddings have 8 dimensions, but gallery has 3",
    ),
    "a gallery label less": ({"gallery": ROWS, "gallery_labels": LABELS[1:]}, "gallery has 12 rows, but gallery_labels has 11"),
    "NaN in the gallery": (
        {"gallery": np.full((2, 8), np.nan), "gallery_labels": [0, 1]},
        "gallery: 2 of 2 rows are NaN or infinite",
    ),
    "texts and integers": (
        {"gallery": ROWS, "gallery_labels": list(map(str, LABELS))},
        "labels has type int64, but gallery_labels has type <U1",
    ),
    "an unknown distance": ({"distance": "euclidian"}, "distance is 'euclidian'; did you mean 'euclidean'?"),
    "k of zero": ({"ks": (1, 0)}, r"ks is \(1, 0\); it needs one or more integers of at least 1"),
    "k that is a float": ({"ks": [1.5]}, r"ks is \[1\.5\]; it needs"),
    "no k": ({"ks": ()}, r"ks is \(\); it needs"),
    "k as a text": ({"ks": "1,2"}, "ks is '1,2'; it needs"),
    "k that is not in a list": ({"ks": 5}, "ks is 5; it needs"),
    "k beyond the gallery": ({"ks": (1, 13)}, "ks=13: the gallery has 12 items; k can be at most that"),
    "k of the whole gallery": ({"ks": (12,)}, "ks=12: the gallery has 12 items, including the query itself"),
    "negative clusters": ({"clusters_per_class": -1}, "clusters_per_class is -1; it needs an integer of at least 0"),
    "half a cluster": ({"clusters_per_class": 0.5}, "clusters_per_class is 0.5; it needs an integer of at least 0"),
    "too many clusters": ({"clusters_per_class": 3}, "3 clusters per class are 18 clusters of 12 items; use from 1 to 2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_refused_in_one_sentence(case: str) -> None:
    changed, sentence = WRONG[case]
    arguments = {"embeddings": ROWS, "labels": LABELS} | changed
    with pytest.raises(UserError, match=sentence) as error:
        dmlbench.evaluate(**arguments)
    assert "\n" not in str(error.value)


# load_results


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the rows of a study, and one run without a row; return their directory."""
    folder = tmp_path_factory.mktemp("study")
    for row in make_study(**COST):
        write_row(folder / str(row["loss"]) / str(row.seed), row)
    pending = make_row(loss="softtriple", loss_make_la=20, recall_at_1=None)
    write_row(folder / "softtriple" / "0", pending, run_files.PENDING_ROW)
    return folder


def test_a_frame_has_one_line_per_row_and_the_path_of_its_run(study: Path) -> None:
    frame = dmlbench.load_results(study)
    rows, _ = read_rows(study)
    assert len(frame) == len(rows) == 13
    assert frame.path.tolist() == [str(row.folder) for row in rows]
    for name in ("run_id", "loss", "seed", "map_at_r"):
        assert frame[name].tolist() == [row[name] for row in rows]


def test_metrics_of_a_frame_are_fractions_and_costs_have_the_units_of_rows(study: Path) -> None:
    frame = dmlbench.load_results(study).query("status == 'ok'")
    assert frame.map_at_r.between(0, 1).all()
    assert frame.map_at_r.max() == max(row["map_at_r"] for row in make_study())
    assert set(frame.train_seconds) == {COST["train_seconds"]}


def test_columns_of_a_frame_have_nullable_dtypes(study: Path) -> None:
    frame = dmlbench.load_results(study)
    expected = {
        "run_id": "string",
        "path": "string",
        "seed": "Int64",
        "n_queries": "Int64",
        "map_at_r": "Float64",
        "train_seconds": "Float64",
        "protocol_lr": "Float64",
        "protocol_freeze_batch_norm": "boolean",
    }
    assert {name: str(frame[name].dtype) for name in expected} == expected


def test_the_dtype_of_a_metric_does_not_depend_on_its_values(tmp_path: Path) -> None:
    perfect = make_row(1.0, map_at_r=1, recall_at_1=None, train_seconds=None)
    write_row(tmp_path, perfect)
    frame = dmlbench.load_results(tmp_path)
    names = ("r_precision", "map_at_r", "recall_at_1", "train_seconds")
    assert {str(frame[name].dtype) for name in names} == {"Float64"}
    assert frame.recall_at_1.isna().all()


def test_columns_with_values_of_several_types_keep_them(tmp_path: Path) -> None:
    write_row(tmp_path / "a", make_row(selected_epoch=3, loss_make_big=2**70))
    write_row(tmp_path / "b", make_row(selected_epoch="[3, 4]", seed=1))
    frame = dmlbench.load_results(tmp_path)
    assert frame.selected_epoch.tolist() == [3, "[3, 4]"]
    assert frame.loss_make_big[0] == 2**70


def test_a_run_without_a_row_has_the_status_missing_and_no_metrics(study: Path) -> None:
    frame = dmlbench.load_results(study)
    [line] = frame[frame.status == "missing"].to_dict("records")
    assert line["loss"] == "softtriple"
    assert pd.isna(line["recall_at_1"])


def test_several_directories_and_files_may_be_given_and_runs_is_the_default(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = dmlbench.load_results(study / "triplet", str(study / "arcface" / "0" / "row.json"))
    assert sorted(frame.loss) == ["arcface", "triplet", "triplet", "triplet"]
    monkeypatch.chdir(tmp_path)
    write_row(Path("runs"), make_row())
    assert len(dmlbench.load_results()) == 1


def test_a_directory_without_rows_gives_an_empty_frame_with_the_required_columns(tmp_path: Path) -> None:
    frame = dmlbench.load_results(tmp_path)
    assert len(frame) == 0
    assert {"run_id", "status", "loss", "seed", "path"} <= set(frame.columns)
    with pytest.raises(UserError, match="no finished run"):
        dmlbench.compare_table(frame)


def test_files_that_are_not_rows_are_skipped_with_a_warning(tmp_path: Path) -> None:
    write_row(tmp_path / "good", make_row())
    for name in "abcde":
        (tmp_path / name).mkdir()
        (tmp_path / name / "row.json").write_text("{")
    with pytest.warns(UserWarning, match=r"skipped 5 files that are not rows, first \S+a/row\.json: ") as warned:
        assert len(dmlbench.load_results(tmp_path)) == 1
    assert len(warned) == 1
    assert warned[0].filename == __file__


def test_a_path_that_does_not_exist_and_a_named_file_that_is_not_a_row_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent does not exist; name a directory that contains runs"):
        dmlbench.load_results(tmp_path / "absent")
    (tmp_path / "row.json").write_text("[]")
    with pytest.raises(UserError, match=r"row\.json is not a row of dmlbench: it is not a JSON object"):
        dmlbench.load_results(tmp_path / "row.json")


# compare_table


def assert_equals_tables(frame: pd.DataFrame, rows: Sequence[Row], **options: Any) -> None:
    """Compare every line of a frame with the row of a table that the command would print."""
    tables = compare(rows, options.get("vary", "loss"), metrics=options.get("metrics", ()), tested=options.get("tested", True))
    expected = [(number, table, row) for number, table in enumerate(tables, 1) for row in table.rows]
    lines = frame.to_dict("records")
    assert len(lines) == len(expected)
    for line, (number, table, row) in zip(lines, expected, strict=True):
        assert (line["table"], line["method"], line["n"]) == (number, row.label, row.n)
        assert line["notes"] == "; ".join(row.notes)
        for metric in table.columns:
            cell = row.cells.get(metric)
            assert line[f"{metric}_best"] == is_bold(table, row, metric)
            assert (None if pd.isna(line[metric]) else line[metric]) == (cell and cell.mean)
            half_width = line[f"{metric}_half_width"]
            assert (None if pd.isna(half_width) else half_width) == (cell and cell.half_width)


def test_numbers_and_bold_flags_equal_those_of_the_printed_table(study: Path) -> None:
    rows, _ = read_rows(study)
    frame = dmlbench.load_results(study)
    for options in ({}, {"metrics": ("map_at_r", "precision_at_1")}, {"tested": False}):
        assert_equals_tables(dmlbench.compare_table(frame, **options), rows, **options)
    compared = dmlbench.compare_table(frame, tested=False).set_index("method")
    assert compared.map_at_r_best.to_dict() == {
        "Untrained trunk": False,
        "Contrastive": False,
        "Triplet": False,
        "SoftTriple": False,
        "ArcFace": True,
    }


def test_columns_of_a_compared_frame_are_in_order_and_typed(study: Path) -> None:
    compared = dmlbench.compare_table(dmlbench.load_results(study), metrics="map_at_r")
    assert {name: str(dtype) for name, dtype in compared.dtypes.items()} == {
        "table": "Int64",
        "dataset": "string",
        "trunk": "string",
        "protocol": "string",
        "method": "string",
        "n": "Int64",
        "map_at_r": "Float64",
        "map_at_r_half_width": "Float64",
        "map_at_r_best": "boolean",
        "notes": "string",
    }
    assert list(compared)[:6] == ["table", "dataset", "trunk", "protocol", "method", "n"]
    assert list(compared)[-1] == "notes"


def test_half_widths_of_one_seed_are_missing_numbers(study: Path) -> None:
    frame = dmlbench.load_results(study)
    compared = dmlbench.compare_table(frame[(frame.seed == 0) & (frame.status == "ok")])
    assert compared.map_at_r_half_width.isna().all()
    assert str(compared.map_at_r_half_width.dtype) == "Float64"
    assert compared.n.tolist() == [1, 1, 1, 1]


def test_a_filtered_frame_is_compared_like_its_rows(study: Path) -> None:
    frame = dmlbench.load_results(study)
    some = frame[frame.loss.isin(["contrastive", "triplet"]) & (frame.seed > 0)]
    rows = [row for row in read_rows(study)[0] if row["loss"] in ("contrastive", "triplet") and row.seed > 0]
    compared = dmlbench.compare_table(some)
    assert_equals_tables(compared, rows)
    assert compared.n.tolist() == [2, 2]


def test_rows_that_may_not_be_compared_are_in_different_tables(tmp_path: Path) -> None:
    rows = [*make_study(), *make_study(dataset="cub", dataset_label="CUB", nmi=0.25)]
    for number, row in enumerate(rows):
        write_row(tmp_path / str(number), row)
    compared = dmlbench.compare_table(dmlbench.load_results(tmp_path), metrics=("map_at_r", "nmi"))
    assert compared.groupby("table").dataset.unique().map(list).to_dict() == {1: ["cub"], 2: ["digits"]}
    assert compared.nmi.isna().tolist() == [False] * 4 + [True] * 4
    assert_equals_tables(compared, [read_row(path) for path in find_rows(tmp_path)], metrics=("map_at_r", "nmi"))


def test_another_axis_may_vary(tmp_path: Path) -> None:
    for number, margin in enumerate((0.1, 0.5, 1)):
        write_row(tmp_path / str(number), make_row(0.1 * number, loss_make_neg_margin=margin))
    compared = dmlbench.compare_table(dmlbench.load_results(tmp_path), vary="loss.make.neg_margin")
    assert compared.table.tolist() == [1, 1, 1]
    assert compared.map_at_r.tolist() == [0.0, 0.1, 0.2]


def test_an_unknown_axis_or_metric_and_a_frame_of_something_else_are_refused(study: Path) -> None:
    frame = dmlbench.load_results(study)
    for options, sentence in (({"vary": "los"}, "did you mean 'loss'"), ({"metrics": "map_at_s"}, "did you mean 'map_at_r'")):
        with pytest.raises(UserError, match=re.escape(sentence)):
            dmlbench.compare_table(frame, **options)
    with pytest.raises(UserError, match=r"^vary='nonsense' is not an axis of these rows"):
        dmlbench.compare_table(frame, vary="nonsense")
    with pytest.raises(UserError, match=r"^metrics='nonsense': no row has this metric"):
        dmlbench.compare_table(frame, metrics="nonsense")
    with pytest.raises(UserError, match="a row needs the column"):
        dmlbench.compare_table(frame.drop(columns="run_id"))


# A real run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train one method with two seeds; return the directory of runs."""
    folder = tmp_path_factory.mktemp("trained")
    for seed in (0, 1):
        overrides = (*TINY, "loss=contrastive", f"seed={seed}", f"paths.data={folder}/data", f"paths.runs={folder}/runs")
        assert run(["train", *overrides]) == 0
    return folder / "runs"


def test_evaluate_gives_the_metrics_of_a_run_from_its_embeddings(trained: Path) -> None:
    for path in find_rows(trained):
        row, saved = read_row(path), load_file(path.parent / run_files.EMBEDDINGS)
        found = dmlbench.evaluate(saved["embeddings"], saved["labels"], distance="inner_product", ks=(1, 2, 4, 8))
        assert {name: row.get(name) for name in found} == found
        assert {name for name in row.columns if parse_metric(name)} == {name for name in found if parse_metric(name)}


def test_the_table_of_runs_equals_the_printed_one_and_uses_the_scores_of_their_queries(trained: Path) -> None:
    frame = dmlbench.load_results(trained)
    rows, _ = read_rows(trained)
    compared = dmlbench.compare_table(frame)
    assert_equals_tables(compared, rows)
    [line] = compared.to_dict("records")
    assert line["n"] == 2
    assert line["map_at_r"] == pytest.approx(np.mean([row["map_at_r"] for row in rows]), abs=1e-12)
