"""`dmlbench evaluate`: saved runs are evaluated again, and files of external embeddings are evaluated, as additional rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

from dmlbench.cli import run
from dmlbench.evaluation.evaluator import EvaluationConfig
from dmlbench.results.columns import SCHEMA_VERSION
from dmlbench.results.row import EXTERNAL
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.runs.recorded_plan import recorded_plan
from dmlbench.runs.reevaluate import RunRequest, embed_again
from dmlbench.tables.table import compare

TINY = [
    "loss=softtriple",
    "dataset=digits",
    "dataset.make.images_per_class=6",
    "dataset.train_images=150",
    "dataset.query_images=150",
    "dataset.gallery_images=150",
    "protocol.epochs=1",
    "protocol.batch_size=24",
    "protocol.embedding_dim=8",
    "protocol.head_layers=[12]",
    "loss.samples_per_class=3",
    "trunk.make.channels=[4,8]",
]


def train(folder: Path, *overrides: str) -> Path:
    assert run(["train", *TINY, *overrides, f"paths.data={folder}/data", f"paths.runs={folder}/runs"]) == 0
    return folder / "runs"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train one run; return the directory of runs."""
    return train(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def trained_folds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train one run with two models, one per fold; return the directory of runs."""
    overrides = ("protocol.fold=all", "protocol.folds=2", "protocol.batch_size=12")
    return train(tmp_path_factory.mktemp("folds"), *overrides)


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """Copy the trained run to `runs` in the current directory."""
    shutil.copytree(trained, tmp_path / "runs")
    return Path("runs")


@pytest.fixture
def external() -> Path:
    """Write a file of embeddings."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 20
    rows = rng.standard_normal((20, 16))[labels] + 0.9 * rng.standard_normal((200, 16))
    np.savez("external.npz", embeddings=rows.astype(np.float32), labels=labels)
    return Path("external.npz")


def arrays_of(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as archive:
        return dict(archive)


def parent_and_child(runs: Path) -> tuple[dict, dict]:
    """Read the row of the trained run and the row of its only re-evaluation."""
    found = [dict(read_row(path).columns) for path in find_rows(runs)]
    [parent] = [row for row in found if "parent" not in row]
    [child] = [row for row in found if "parent" in row]
    return parent, child


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run `dmlbench evaluate`, which must print one line of error and write no row; return the line."""
    before = {path: path.read_bytes() for path in Path().rglob("row.json")}
    assert run(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    assert before == {path: path.read_bytes() for path in Path().rglob("row.json")}
    return error


# Saved runs


def test_an_evaluation_with_the_same_settings_gives_the_same_numbers(runs: Path) -> None:
    assert run(["evaluate", str(runs)]) == 0
    parent, child = parent_and_child(runs)
    numbers = [
        name for name in parent if isinstance(parent[name], float) and not name.endswith(("_seconds", "_gib", "per_second"))
    ]
    assert {"map_at_r", "nmi", "macro_recall_at_1", "effective_rank"} <= set(numbers)
    assert {name: child[name] for name in numbers} == {name: parent[name] for name in numbers}


def test_the_new_row_names_its_parent_and_is_in_a_table_of_its_own(runs: Path) -> None:
    assert run(["evaluate", str(runs), "ks=1,3,20"]) == 0
    parent, child = parent_and_child(runs)
    assert child["parent"] == parent["run_id"] != child["run_id"]
    assert {"recall_at_3", "recall_at_20"} <= child.keys()
    assert {f"{name}_at_{k}" for name in ("precision", "retrieved") for k in (1, 3, 20)} <= child.keys()  # R is 5
    assert "recall_at_2" not in child
    assert len(compare([read_row(path) for path in find_rows(runs)])) == 2


def test_an_evaluation_of_a_run_of_schema_1_has_the_overrides_of_its_file(runs: Path) -> None:
    [path] = find_rows(runs)
    columns = {**json.loads(path.read_text()), "schema_version": 1}
    del columns["overrides"]
    path.write_text(json.dumps(columns))
    path.with_name("words.json").write_text('["protocol.epochs=1"]')
    assert run(["evaluate", str(runs)]) == 0
    assert parent_and_child(runs)[1]["overrides"] == '["protocol.epochs=1"]'
    assert parent_and_child(runs)[1]["schema_version"] == SCHEMA_VERSION


def test_a_run_may_be_named_by_a_selector_a_directory_or_its_row(runs: Path) -> None:
    [path] = find_rows(runs)
    run_id = path.parent.name
    for k, selector in enumerate(["digits", "digits/softtriple", "softtriple", run_id, str(path.parent), str(path)], 1):
        assert run(["evaluate", selector, "--ks", str(k)]) == 0
    rows = [read_row(path) for path in find_rows(runs)]
    assert {row["evaluation_recall_at"] for row in rows if row.get("parent") == run_id} == {f"[{k}]" for k in range(1, 7)}


def test_options_and_their_old_form_give_the_same_row(runs: Path) -> None:
    assert run(["evaluate", str(runs), "--ks", "1,5", "--distance", "cosine"]) == 0
    assert run(["evaluate", str(runs), "ks=1,5", "distance=cosine"]) == 0
    assert parent_and_child(runs)[1]["evaluation_distance"] == "cosine"


def test_rows_of_an_evaluation_are_not_evaluated_again(runs: Path) -> None:
    assert run(["evaluate", str(runs), "ks=1"]) == 0
    assert run(["evaluate", str(runs), "ks=1"]) == 0
    assert len(list(find_rows(runs))) == 2


@pytest.mark.parametrize(
    "options",
    [
        ["--rerank", "k_reciprocal", "--rerank.k1", "5", "--rerank.k2", "2"],
        ["--whiten", "3"],
        ["--beta", "0.5"],
        ["--layer", "pooled"],
        ["--layer", "fully_connected"],
        ["--distance", "euclidean"],
        ["--clusters", "2"],
    ],
    ids=" ".join,
)
def test_the_row_records_how_it_was_evaluated(runs: Path, options: list[str]) -> None:
    assert run(["evaluate", str(runs), *options]) == 0
    parent, child = parent_and_child(runs)
    name, value = options[0].removeprefix("--"), options[1]
    assert str(child[f"evaluation_{name}"]) == value
    if name == "clusters":
        assert child["n_clusters"] == 2 * parent["n_clusters"]
    assert child["embedding_dim"] == {"pooled": 8, "fully_connected": 12}.get(value, 8)
    assert child["n_queries"] == parent["n_queries"]


def test_the_saved_layer_is_embedded_again_bit_for_bit_with_training_images_for_whitening(runs: Path) -> None:
    [path] = find_rows(runs)
    folder, config = path.parent, EvaluationConfig(ks=(1,), whiten=3)
    ([found], device) = embed_again([folder], read_row(path), RunRequest(config), config)
    assert device == read_row(path)["device"]
    saved = load_file(folder / "embeddings.safetensors")
    assert found.evaluated.ids.equal(saved["ids"])
    assert found.evaluated.rows[:].equal(saved["embeddings"])
    _, split = recorded_plan(read_row(path))
    assert found.training.ids.tolist() == split.ids("train").tolist()


def test_a_run_with_one_model_per_fold_is_evaluated_separately_and_concatenated(trained_folds: Path) -> None:
    shutil.copytree(trained_folds, "runs")
    assert run(["evaluate", "runs"]) == 0
    parent, child = parent_and_child(Path("runs"))
    for name in ("map_at_r", "separated_recall_at_1", "concatenated_map_at_r", "concatenated_nmi"):
        assert child[name] == parent[name], name


def test_metrics_of_a_row_are_means_of_the_saved_scores_of_queries(trained: Path) -> None:
    [path] = find_rows(trained)
    row, scores = read_row(path), load_file(path.parent / "per_query.safetensors")
    assert len(scores["ids"]) == row["n_queries"] == len(scores["labels"])
    for name in row.metrics:
        if name in scores:
            assert scores[name].mean().item() == pytest.approx(row[name], abs=1e-12)
    assert {"recall_at_1", "map_at_r", "mean_reciprocal_rank"} <= scores.keys()
    by_class = [scores["map_at_r"][scores["labels"] == label].mean() for label in scores["labels"].unique()]
    assert torch.stack(by_class).mean().item() == pytest.approx(row["macro_map_at_r"], abs=1e-9)


def test_scores_of_queries_have_the_names_of_metrics_with_one_model_per_fold(trained_folds: Path) -> None:
    [path] = find_rows(trained_folds)
    row, scores = read_row(path), load_file(path.parent / "per_query.safetensors")
    for name in ("recall_at_1", "map_at_r", "concatenated_recall_at_1", "concatenated_map_at_r"):
        assert scores[name].mean().item() == pytest.approx(row[name], abs=1e-12), name


def test_a_pickle_in_place_of_the_model_is_not_loaded(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [file] = runs.rglob("model.pt")
    file.write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    assert "model.pt cannot be evaluated: the content is not what" in error_of(capsys, str(runs), "--layer", "pooled")
    [row] = runs.rglob("row.json")
    row.write_text(json.dumps({**json.loads(row.read_text()), "model_sha256": None}))  # as in rows of earlier versions
    assert "model.pt does not contain the model of this run" in error_of(capsys, str(runs), "--layer", "pooled")
    assert not Path("executed").exists()


def test_missing_embeddings_are_refused_by_name(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [file] = runs.rglob("embeddings.safetensors")
    file.unlink()
    assert "embeddings.safetensors does not exist" in error_of(capsys, str(runs))


def test_a_run_of_a_gpu_is_embedded_without_one_only_if_the_user_says_so(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    [file] = runs.rglob("row.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "device": "NVIDIA H200"}))
    assert run(["evaluate", "runs", "--layer", "pooled"]) == 2
    assert "it was computed on NVIDIA H200, and this machine has no CUDA; add device=cpu" in capsys.readouterr().err
    assert run(["evaluate", "runs", "--layer", "pooled", "device=cpu"]) == 0


def test_other_numbers_of_clusters_give_other_rows(runs: Path) -> None:
    assert run(["evaluate", str(runs), "--clusters", "1"]) == 0
    assert run(["evaluate", str(runs), "--clusters", "2"]) == 0
    assert len(list(find_rows(runs))) == 3


def test_a_run_cannot_be_renamed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [path] = find_rows(runs)
    for selector in (str(runs), str(path)):
        assert "--name is for files of embeddings" in error_of(capsys, selector, "--name", "Mine")


# Files of external embeddings


def test_an_external_row_is_named_after_its_method_and_is_never_bold(external: Path) -> None:
    assert run(["evaluate", str(external), "--name", "Their method & more", "--dataset", "cub", "--runs", "other"]) == 0
    [path] = find_rows(Path("other"))
    row = read_row(path)
    assert (row["protocol"], row["loss_label"], row["dataset"]) == (EXTERNAL, "Their method & more", "cub")
    assert path.parts[:3] == ("other", "cub", "their_method_more")
    [table] = compare([row])
    assert not table.bold
    assert "External embeddings" in table.caption


def test_external_rows_share_a_table_only_if_labels_and_roles_are_equal(external: Path) -> None:
    found = arrays_of(external)
    np.savez("other.npz", embeddings=found["embeddings"] * 2, labels=found["labels"])
    np.savez("less.npz", embeddings=found["embeddings"][1:], labels=found["labels"][1:])
    assert [run(["evaluate", file, "--dataset", "cub"]) for file in ("external.npz", "other.npz", "less.npz")] == [0, 0, 0]
    tables = compare([read_row(path) for path in find_rows(Path("runs"))])
    assert sorted(len(table.rows) for table in tables) == [1, 2]


def test_another_file_under_the_same_name_does_not_overwrite_the_row(
    external: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(external), "--name", "A"]) == 0
    found = arrays_of(external)
    np.savez(external, embeddings=found["embeddings"][::-1], labels=found["labels"])
    capsys.readouterr()
    error = error_of(capsys, str(external), "--name", "A")
    assert "contains the row of other embeddings called 'A'; use --seed 1" in error
    assert run(["evaluate", str(external), "--name", "A", "--seed", "1"]) == 0
    assert len(list(find_rows(Path("runs")))) == 2


def test_external_embeddings_are_normalised_unless_another_distance_is_given(external: Path) -> None:
    found = arrays_of(external)
    lengths = np.arange(1, 201, dtype=np.float32)[:, None]
    np.savez("long.npz", embeddings=found["embeddings"] * lengths, labels=found["labels"])
    for arguments in (
        [str(external)],
        ["long.npz"],
        ["long.npz", "distance=inner_product"],
        ["long.npz", "distance=euclidean"],
    ):
        assert run(["evaluate", *arguments, "--dataset", "x", "--clusters", "0"]) == 0
    scores = {(row["loss"], row["evaluation_distance"]): row["map_at_r"] for row in map(read_row, find_rows(Path("runs")))}
    assert scores["long", "cosine"] == pytest.approx(scores["external", "cosine"], abs=1e-6)
    assert len(set(scores.values())) >= 3


def test_rows_that_stay_in_their_file_give_the_same_metrics(external: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(arrays_of(external), "external.safetensors")
    assert run(["evaluate", "external.safetensors", "--clusters", "0"]) == 0
    monkeypatch.setattr("dmlbench.evaluation.embedding_files._MAX_BYTES_IN_MEMORY", 0)
    assert run(["evaluate", "external.safetensors", "--clusters", "0", "--name", "in its file"]) == 0
    one, other = (read_row(path).metrics for path in find_rows(Path("runs")))
    assert one == other


def save(**changes: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    arrays = {"embeddings": rng.standard_normal((40, 4)).astype(np.float32), "labels": np.arange(40) % 4} | changes
    np.savez("bad.npz", **arrays)


def test_embeddings_that_are_not_finite_are_refused_with_their_rows(capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    rows[3], rows[7, 1] = np.nan, np.inf
    save(embeddings=rows)
    for options in ([], ["rerank=k_reciprocal"], ["whiten=2"], ["distance=euclidean", "clusters=0"]):
        assert "2 of 40 embeddings are NaN or infinite (rows 3, 7)" in error_of(capsys, "bad.npz", *options)
    is_training = np.arange(40) < 30
    save(embeddings=rows, is_query=~is_training, is_gallery=~is_training)
    assert "2 of 40 embeddings are NaN or infinite (rows 3, 7)" in error_of(capsys, "bad.npz", "whiten=2")


def test_embeddings_in_which_nothing_can_be_retrieved_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    save(labels=np.arange(39) % 4)
    assert "labels have the shape (39,), but there are 40 embeddings" in error_of(capsys, "bad.npz")
    save(labels=np.zeros(40, dtype=int))
    assert "all 40 embeddings are of class 0; retrieval needs two classes" in error_of(capsys, "bad.npz")
    save(labels=np.arange(40))
    assert "none of the 40 queries has another image of its class" in error_of(capsys, "bad.npz")
    save()
    assert "ks=41: bad.npz has a gallery of 40 items" in error_of(capsys, "bad.npz", "ks=1,41")
    error = error_of(capsys, "bad.npz", "ks=40")
    assert "ks=40: bad.npz has a gallery of 40 items, including the query itself; k can be at most 39" in error


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ks=0"], "--ks is '0', but '0' is not a whole number of at least 1"),
        (["--ks", "a"], "--ks is 'a', but 'a' is not a whole number of at least 1"),
        (["clustres=2"], "does not know 'clustres=2'; did you mean '--clusters 2'"),
        (["--kss", "1"], "does not know '--kss'; did you mean '--ks'"),
        (["rerank=yes"], "--rerank yes is not known; known: k_reciprocal, none"),
        (["--rerank.k1", "5"], "--rerank.k1 needs --rerank k_reciprocal"),
        (["--rerank", "k_reciprocal", "--rerank.k1", "2"], "rerank.k1 is 2 and rerank.k2 is 6; they need 1 <= k2 <= k1"),
        (["--whiten", "3"], "whiten=3 needs training embeddings, but there are none"),
        (["--layer", "pooled"], "--layer pooled is for runs"),
        (["--layer", "conv5"], "--layer conv5 is not known; known: embedding, fully_connected, pooled"),
        (["--distance", "l1"], "--distance l1 is not known; known: cosine, euclidean, inner_product"),
        (["--clusters", "11"], "11 clusters per class are 220 clusters of 200 items; use from 1 to 10 per class"),
        (["--name"], "--name needs a value"),
        (["--name", "Untrained"], "--name Untrained is the name of the untrained trunk"),
        (["nothing.npz"], "nothing.npz does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_with_an_impossible_value_is_refused_in_one_sentence(
    external: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(capsys, str(external), *arguments)
    assert sentence in error


def test_a_directory_without_runs_and_a_command_without_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert "empty contains no finished run" in error_of(capsys, "empty")
    assert "needs runs or a file of embeddings" in error_of(capsys)
