"""`protocol=staysafe`: half of each class trains, and drawn queries are evaluated in two galleries."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import TINY, Photos, refused, rows_below
from photo_factory import write_photos
from safetensors.numpy import load_file

from dmlbench.cli import run
from dmlbench.results.row_files import find_rows, read_rows
from dmlbench.tables.formats import render
from dmlbench.tables.table import compare

N_QUERIES, CLASSES, PER_CLASS = 20, 6, 13  # seven training and six test images per class


def staysafe(root: Path, *overrides: str) -> list[str]:
    """Overrides of a tiny run under the protocol; those of `TINY` without its protocol."""
    queries = f"protocol.evaluation_queries={N_QUERIES}"
    return [
        "dataset=folder",
        f"dataset.root={root}",
        "protocol=staysafe",
        queries,
        *TINY[1:],
        "protocol.image_px=16",
        *overrides,
    ]


@pytest.fixture(scope="module")
def swept_staysafe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of a loss and of both baselines with two seeds; not to be changed."""
    directory = tmp_path_factory.mktemp("staysafe")
    root = write_photos(directory / "photos", CLASSES, PER_CLASS)
    overrides = staysafe(root, f"paths.runs={directory}/runs", f"paths.data={directory}/data")
    assert run(["sweep", "loss=contrastive", "seed=0,1", *overrides]) == 0
    return directory


@pytest.fixture
def runs_staysafe(swept_staysafe: Path, tmp_path: Path) -> Path:
    shutil.copytree(swept_staysafe / "runs", tmp_path / "runs")
    return Path("runs")


def precision_and_retrieved(folder: Path, k: int, full: bool) -> tuple[dict[int, float], dict[int, float]]:
    """Compute both metrics of each query in float64, by sorting all scores; ids to values."""
    saved = load_file(folder / "embeddings.safetensors")
    queries = set(load_file(folder / "per_query.safetensors")["ids"].tolist())
    rows, labels, ids = saved["embeddings"].astype(np.float64), saved["labels"], saved["ids"]
    kept = np.ones(len(ids), bool) if full else saved["is_gallery"]
    precision, retrieved = {}, {}
    for index in np.flatnonzero(np.isin(ids, list(queries))):
        others = np.flatnonzero(kept & (ids != ids[index]))
        nearest = others[np.argsort(-(rows[others] @ rows[index]), kind="stable")[:k]]
        hits = int((labels[nearest] == labels[index]).sum())
        precision[int(ids[index])] = hits / k
        retrieved[int(ids[index])] = hits / int((labels[others] == labels[index]).sum())
    return precision, retrieved


def test_both_galleries_have_the_metrics_of_a_brute_force_search(swept_staysafe: Path) -> None:
    for file in find_rows(swept_staysafe / "runs"):
        [row] = read_rows(file)[0]
        assert (row["n_gallery"], row["full_n_gallery"]) == (CLASSES * 6, CLASSES * PER_CLASS)
        for k in (5, 10, 20, 30):
            for prefix in ("", "full_"):
                precision, retrieved = precision_and_retrieved(file.parent, k, full=prefix == "full_")
                assert len(precision) == row["n_queries"] == N_QUERIES
                assert row[f"{prefix}precision_at_{k}"] == pytest.approx(np.mean(list(precision.values())), abs=1e-9)
                assert row[f"{prefix}retrieved_at_{k}"] == pytest.approx(np.mean(list(retrieved.values())), abs=1e-9)


def test_all_methods_and_seeds_have_the_same_queries_among_the_test_images(swept_staysafe: Path) -> None:
    folders = [file.parent for file in find_rows(swept_staysafe / "runs")]
    queries = [load_file(folder / "per_query.safetensors")["ids"].tolist() for folder in folders]
    assert len(queries) == 6
    assert all(one == queries[0] for one in queries)
    saved = load_file(folders[0] / "embeddings.safetensors")
    test_ids = saved["ids"][saved["is_query"]]
    assert len(test_ids) == CLASSES * 6
    assert set(queries[0]) < set(test_ids.tolist())
    assert queries[0] != sorted(test_ids.tolist())[:N_QUERIES]


def test_one_table_has_both_galleries_side_by_side_and_says_what_its_intervals_cover(swept_staysafe: Path) -> None:
    [table] = compare(read_rows(swept_staysafe / "runs")[0])
    names = [f"{kind}_at_{k}" for kind in ("precision", "retrieved") for k in (5, 10, 20, 30)]
    assert list(table.columns) == [*(f"full_{name}" for name in names), *names]
    text = " ".join(render([table], "markdown").split())
    assert f"photos: {N_QUERIES} queries, {CLASSES} test classes" in text
    assert f"Mean ± 95 % confidence interval over n = 2 seeds and {N_QUERIES} drawn queries, in %" in text
    assert f"full: the gallery contains training and test images ({CLASSES * PER_CLASS} items)" in text
    assert "Half of the images of each class were used for training, so no test class is unseen" in text
    assert "| P@5 full |" in text
    assert all(cell is not None and cell.half_width is not None for row in table.rows for cell in row.cells.values())


def test_with_a_held_out_fold_the_table_says_which_test_classes_are_unseen(swept_staysafe: Path) -> None:
    rows = [replace(row, columns={**row.columns, "protocol_fold": "0"}) for row in read_rows(swept_staysafe / "runs")[0]]
    text = " ".join(render(compare(rows), "markdown").split())
    assert "or for validation if the class was held out, so only test classes that were held out are unseen" in text


def test_a_saved_run_is_evaluated_again_with_its_queries_and_galleries_or_with_others(runs_staysafe: Path) -> None:
    [folder] = sorted((runs_staysafe / "photos" / "contrastive").glob("*-0"))
    [before] = rows_below(folder)
    for options in (["--ks", "5,30"], ["--queries", "0"], ["--queries", "5"]):
        assert run(["evaluate", str(folder), *options]) == 0
    again = {row.get("evaluation_queries"): row for row in rows_below(folder) if row.get("parent")}
    same, everything, fewer = again[None], again["all"], again[5]
    assert same["full_precision_at_30"] == before["full_precision_at_30"]
    assert (same["n_queries"], everything["n_queries"], fewer["n_queries"]) == (N_QUERIES, CLASSES * 6, 5)
    assert all("full_precision_at_5" in row for row in (same, everything, fewer))


def test_a_run_without_embedded_training_images_gets_a_full_gallery_from_its_model(
    photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    root = photos(CLASSES, PER_CLASS)
    train = ["train", "loss=contrastive", "dataset=folder", f"dataset.root={root}", *TINY, "dataset.split=half_per_class"]
    assert run(train) == 0
    assert run(["train", *staysafe(root, "loss=contrastive")]) == 0
    quick, *_ = [row for row in rows_below("runs") if row["protocol"] == "quick"]
    folder = f"runs/photos/contrastive/{quick['run_id']}"
    assert run(["evaluate", folder, "--queries", f"{N_QUERIES}", "--gallery", "full", "--ks", "5,10"]) == 0
    [again] = [row for row in rows_below(folder) if row.get("parent")]
    assert (again["n_queries"], again["full_n_gallery"], again["evaluation_gallery"]) == (
        N_QUERIES,
        CLASSES * PER_CLASS,
        "full",
    )
    [staysafe_row] = [row for row in rows_below("runs") if row["protocol"] == "staysafe"]
    assert again["split_digest"] == staysafe_row["split_digest"]
    queries = [load_file(next(Path("runs").rglob(f"{one}/per_query.safetensors")))["ids"].tolist() for one in
               (staysafe_row["run_id"], f"{quick['run_id']}/evaluate-*")]  # fmt: skip
    assert queries[0] == queries[1], "the draw depends on the split only"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["protocol.evaluation_queries=200"],
            "protocol.evaluation_queries is 200, but photos has 36 query images with another",
        ),
        (["protocol.evaluation_queries=0"], "protocol.evaluation_queries is 0; it must be at least 1, or null"),
        (["dataset.recall_at=[36]"], "dataset.recall_at is [36], but the gallery has 36 images"),
        (
            ["protocol.clusters_per_class=7"],
            "protocol.clusters_per_class is 7, but photos has 36 test images of 6 classes; use at",
        ),
    ],
)
def test_what_the_test_images_do_not_suffice_for_is_refused_before_training(
    photos: Photos, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    command = ["train", "loss=contrastive", *staysafe(photos(CLASSES, PER_CLASS)), *options]
    assert refused(capsys, *command).startswith(sentence)
    assert not Path("runs").exists()


def test_a_data_set_with_a_single_split_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refused(capsys, "train", "protocol=staysafe", "dataset=digits", "loss=contrastive")
    assert sentence.startswith(
        "protocol=staysafe needs a data set with dataset.split=half_per_class, but digits has a single split"
    )


def test_more_queries_than_a_file_has_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("few.npz", embeddings=np.eye(6, dtype=np.float32), labels=np.repeat([0, 1, 2], 2))
    sentence = refused(capsys, "evaluate", "few.npz", "--queries", "7")
    assert sentence.startswith("queries=7: few.npz has 6 queries with another image of their class in the gallery")
    sentence = refused(capsys, "evaluate", "few.npz", "--gallery", "full")
    assert sentence.startswith("few.npz: there are no training items, so a full gallery would be the same as the test gallery")


def test_the_command_line_overrides_the_split_and_the_values_of_k_of_the_protocol(photos: Photos) -> None:
    command = staysafe(photos(CLASSES, PER_CLASS), "dataset.split=zero_shot", "dataset.recall_at=[1,5]")
    assert run(["train", "loss=contrastive", *command]) == 0
    [row] = rows_below("runs")
    assert (row["split_rule"], row["split_recall_at"]) == ("zero_shot", "[1, 5]")
    assert row["full_n_gallery"] == CLASSES * PER_CLASS
    assert {"precision_at_5", "full_precision_at_1"} <= set(row)


def test_accuracy_at_k_is_another_name_of_precision_at_k(runs_staysafe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table", str(runs_staysafe), "--metrics", "accuracy_at_5", "--format", "csv"]) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "dmlbench: accuracy_at_5 is precision_at_5 here, printed as P@5: Number of relevant items among the first k, divided "
        "by k, even if R is below k\n"
    )
    assert "precision_at_5" in captured.out
    printed = []
    for metric in ("accuracy_at_5", "precision_at_5"):
        assert run(["compare", "photos/contrastive", "photos/untrained", "--metric", metric]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
