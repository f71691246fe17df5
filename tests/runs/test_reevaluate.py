"""`dmlbench evaluate`: a saved run scored again, and anyone's embeddings, as rows of their own."""

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
from dmlbench.results.row import EXTERNAL
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.tables.table import compare

TINY = [
    "loss=softtriple",
    "dataset.make.images_per_class=3",
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and one run under runs/."""
    place = tmp_path_factory.mktemp("trained")
    assert run(["train", *TINY, f"paths.data={place}/data", f"paths.runs={place}/runs"]) == 0
    return place


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("folds")
    words = [*TINY, "protocol.fold=all", "protocol.folds=2", "protocol.batch_size=12"]
    assert run(["train", *words, f"paths.data={place}/data", f"paths.runs={place}/runs"]) == 0
    return place


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return Path("runs")


@pytest.fixture
def theirs() -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 20
    rows = rng.standard_normal((20, 16))[labels] + 0.9 * rng.standard_normal((200, 16))
    np.savez("theirs.npz", embeddings=rows.astype(np.float32), labels=labels)
    return Path("theirs.npz")


def parent_and_child(runs: Path) -> tuple[dict, dict]:
    found = [dict(read_row(path).columns) for path in find_rows(runs)]
    [parent] = [row for row in found if "parent" not in row]
    [child] = [row for row in found if "parent" in row]
    return parent, child


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    before = {path: path.read_bytes() for path in Path().rglob("row.json")}
    assert run(["evaluate", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    assert before == {path: path.read_bytes() for path in Path().rglob("row.json")}
    return error


# A saved run


def test_scoring_again_without_any_change_gives_the_same_numbers(runs: Path) -> None:
    assert run(["evaluate", str(runs)]) == 0
    parent, child = parent_and_child(runs)
    numbers = [
        name for name in parent if isinstance(parent[name], float) and not name.endswith(("_seconds", "_gib", "per_second"))
    ]
    assert {"map_at_r", "nmi", "macro_recall_at_1", "effective_rank"} <= set(numbers)
    assert {name: child[name] for name in numbers} == {name: parent[name] for name in numbers}


def test_the_row_names_its_parent_and_stands_in_a_table_of_its_own(runs: Path) -> None:
    assert run(["evaluate", str(runs), "ks=1,3,20"]) == 0
    parent, child = parent_and_child(runs)
    assert child["parent"] == parent["run_id"] != child["run_id"]
    assert {"recall_at_3", "recall_at_20"} <= child.keys()
    assert "recall_at_2" not in child
    assert len(compare([read_row(path) for path in find_rows(runs)])) == 2


def test_it_is_not_scored_again_for_what_was_itself_scored_again(runs: Path) -> None:
    assert run(["evaluate", str(runs), "ks=1"]) == 0
    assert run(["evaluate", str(runs), "ks=1"]) == 0
    assert len(list(find_rows(runs))) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["rerank=k_reciprocal", "rerank.k1=5", "rerank.k2=2"],
        ["whiten=3"],
        ["beta=0.5"],
        ["layer=pooled"],
        ["layer=fully_connected"],
        ["distance=euclidean"],
        ["clusters=2"],
    ],
)
def test_each_way_to_score_is_recorded(runs: Path, trained: Path, words: list[str]) -> None:
    assert run(["evaluate", str(runs), *words]) == 0
    parent, child = parent_and_child(runs)
    name, value = words[0].split("=")
    if name == "clusters":
        assert child["n_clusters"] == 2 * parent["n_clusters"]
    else:
        assert str(child[f"evaluation_{name}"]) == value
    assert child["embedding_dim"] == {"layer=pooled": 8, "layer=fully_connected": 12}.get(words[0], 8)
    assert child["n_queries"] == parent["n_queries"]


def test_the_layer_that_was_saved_is_embedded_again_bit_for_bit(runs: Path) -> None:
    """Whitening to all dimensions needs the model again, and the training images with it."""
    from dmlbench.launch import compose, prepare

    from dmlbench.runs.reevaluate import _again, request_of

    [path] = find_rows(runs)
    request = request_of({"whiten": "3"}, None, None, False, None)
    [found] = _again(path.parent, [path.parent], read_row(path), request, request.how)
    saved = load_file(path.parent / "embeddings.safetensors")
    assert found.evaluated.ids.equal(saved["ids"])
    assert found.evaluated.rows[:].equal(saved["embeddings"])
    split = prepare(*compose(json.loads((path.parent / "words.json").read_text())))[1]
    assert found.training.ids.tolist() == split.ids("train").tolist()


def test_a_run_with_a_model_a_fold_is_scored_apart_and_joined(folds: Path, tmp_path: Path) -> None:
    shutil.copytree(folds / "runs", "runs")
    assert run(["evaluate", "runs"]) == 0
    parent, child = parent_and_child(Path("runs"))
    for name in ("map_at_r", "separated_recall_at_1", "concatenated_map_at_r", "concatenated_nmi"):
        assert child[name] == parent[name], name


def test_the_mean_of_the_scores_a_query_is_the_rows(runs: Path) -> None:
    [path] = find_rows(runs)
    row, scores = read_row(path), load_file(path.parent / "per_query.safetensors")
    assert len(scores["ids"]) == row["n_queries"] == len(scores["labels"])
    for name in row.metrics:
        if name in scores:
            assert scores[name].mean().item() == pytest.approx(row[name], abs=1e-12)
    assert {"recall_at_1", "map_at_r", "mean_reciprocal_rank"} <= scores.keys()
    by_class = [scores["map_at_r"][scores["labels"] == label].mean() for label in scores["labels"].unique()]
    assert torch.stack(by_class).mean().item() == pytest.approx(row["macro_map_at_r"], abs=1e-9)


def test_words_that_would_build_anything_else_are_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [file] = runs.rglob("words.json")
    words = json.loads(file.read_text())
    file.write_text(json.dumps([*words, "trunk.make._target_=os.system"]))
    assert "names `os.system`, which no configuration builds" in refused(capsys, str(runs), "layer=pooled")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("dataset.make=\"${oc.decode:'{_target_: pandas.read_pickle, filepath_or_buffer: evil}'}\"", "holds an interpolation"),
        ("dataset.make.more={_target_:pandas.read_pickle,filepath_or_buffer:evil}", "does not have 'more'"),
        ("+dataset.make.more={_target_:pandas.read_pickle,filepath_or_buffer:evil}", "names `pandas.read_pickle`"),
        ("~loss", "leaves out loss"),
    ],
)
def test_no_other_way_of_writing_them_builds_anything_either(runs: Path, word, sentence, capsys) -> None:
    [file] = runs.rglob("words.json")
    file.write_text(json.dumps([*json.loads(file.read_text()), word]))
    said = refused(capsys, str(runs), "layer=pooled")
    assert sentence in said or "more" in said
    assert not Path("pwned").exists()


def test_words_that_no_longer_make_the_run_are_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [file] = runs.rglob("words.json")
    file.write_text(json.dumps([*json.loads(file.read_text()), "protocol.lr=0.5"]))
    assert "configurations, data or own code have changed" in refused(capsys, str(runs), "layer=pooled")
    file.write_text("{")
    assert "does not hold the words" in refused(capsys, str(runs), "layer=pooled")


def test_a_model_that_is_no_model_is_never_unpickled(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [file] = runs.rglob("model.pt")
    file.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    assert "model.pt" in refused(capsys, str(runs), "layer=pooled")
    assert not Path("pwned").exists()


def test_the_file_of_a_row_stands_for_its_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [path] = find_rows(runs)
    assert run(["evaluate", str(path), "ks=1"]) == 0
    assert parent_and_child(runs)[1]["evaluation_distance"] == "inner_product"
    assert "--name is for a file of embeddings" in refused(capsys, str(path), "--name", "Mine")


def test_other_numbers_of_clusters_are_another_row(runs: Path) -> None:
    assert run(["evaluate", str(runs), "clusters=1"]) == 0
    assert run(["evaluate", str(runs), "clusters=2"]) == 0
    assert len(list(find_rows(runs))) == 3


def test_with_a_model_a_fold_the_scores_of_each_query_go_by_the_rows_names(folds: Path) -> None:
    [path] = find_rows(folds / "runs")
    row, scores = read_row(path), load_file(path.parent / "per_query.safetensors")
    for name in ("recall_at_1", "map_at_r", "concatenated_recall_at_1", "concatenated_map_at_r"):
        assert scores[name].mean().item() == pytest.approx(row[name], abs=1e-12), name


# A stranger's file


def test_a_strangers_row_is_external_and_marked_best_nowhere(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(theirs), "--name", "Their method & more", "dataset=cub", "--runs", "elsewhere"]) == 0
    [path] = find_rows(Path("elsewhere"))
    row = read_row(path)
    assert (row["protocol"], row["loss_label"], row["dataset"]) == (EXTERNAL, "Their method & more", "cub")
    assert path.parts[:3] == ("elsewhere", "cub", "their_method_more")
    [table] = compare([row])
    assert table.best("map_at_r") is None
    assert "Embeddings from elsewhere" in table.caption


def test_two_strangers_asked_the_same_share_a_table_and_others_do_not(theirs: Path) -> None:
    with np.load(theirs) as arrays:
        found = dict(arrays)
    np.savez("other.npz", embeddings=found["embeddings"] * 2, labels=found["labels"])
    np.savez("less.npz", embeddings=found["embeddings"][1:], labels=found["labels"][1:])
    for file in ("theirs.npz", "other.npz", "less.npz"):
        assert run(["evaluate", file, "dataset=cub"]) == 0
    tables = compare([read_row(path) for path in find_rows(Path("runs"))])
    assert sorted(len(table.lines) for table in tables) == [1, 2]


def test_another_file_of_the_same_name_does_not_overwrite_the_row(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(theirs), "--name", "A"]) == 0
    with np.load(theirs) as arrays:
        found = dict(arrays)
    np.savez("theirs.npz", embeddings=found["embeddings"][::-1], labels=found["labels"])
    capsys.readouterr()
    assert "holds the row of other embeddings called 'A'; give seed=1" in refused(capsys, "theirs.npz", "--name", "A")
    assert run(["evaluate", str(theirs), "--name", "A", "seed=1"]) == 0
    assert len(list(find_rows(Path("runs")))) == 2


def test_unit_length_is_given_unless_another_distance_is_asked_for(theirs: Path) -> None:
    with np.load(theirs) as arrays:
        found = dict(arrays)
    np.savez("long.npz", embeddings=found["embeddings"] * np.arange(1, 201)[:, None].astype("f4"), labels=found["labels"])
    for words in (["theirs.npz"], ["long.npz"], ["long.npz", "distance=inner_product"], ["long.npz", "distance=euclidean"]):
        assert run(["evaluate", *words, "dataset=x"]) == 0
    scores = {(row["loss"], row["evaluation_distance"]): row["map_at_r"] for row in map(read_row, find_rows(Path("runs")))}
    assert scores["long", "cosine"] == pytest.approx(scores["theirs", "cosine"], abs=1e-6)
    assert len(set(scores.values())) >= 3


def test_a_file_that_stays_on_the_disk_scores_like_one_in_memory(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load(theirs) as arrays:
        save_file({name: arrays[name] for name in arrays}, "theirs.safetensors")
    assert run(["evaluate", "theirs.safetensors", "clusters=0"]) == 0
    monkeypatch.setattr("dmlbench.evaluation.embedding_files._MOST_IN_MEMORY", 0)
    assert run(["evaluate", "theirs.safetensors", "clusters=0", "--name", "on disk"]) == 0
    one, other = (read_row(path).metrics for path in find_rows(Path("runs")))
    assert one == other


def save(**changes: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    arrays = {"embeddings": rng.standard_normal((40, 4)).astype(np.float32), "labels": np.arange(40) % 4} | changes
    np.savez("bad.npz", **arrays)


def test_bad_embeddings_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    rows[3], rows[7, 1] = np.nan, np.inf
    save(embeddings=rows)
    assert "2 of 40 embeddings are NaN or infinite (rows 3, 7)" in refused(capsys, "bad.npz")
    for words in (["rerank=k_reciprocal"], ["whiten=2"], ["distance=euclidean", "clusters=0"]):
        assert "2 of 40 embeddings are NaN or infinite" in refused(capsys, "bad.npz", *words)
    training = np.arange(40) < 30
    save(embeddings=rows, is_query=~training, is_gallery=~training)
    assert "2 of 40 embeddings are NaN or infinite (rows 3, 7)" in refused(capsys, "bad.npz", "whiten=2")
    save(labels=np.arange(39) % 4)
    assert "40 embeddings, but labels have the shape (39,)" in refused(capsys, "bad.npz")
    save(labels=np.zeros(40, dtype=int))
    assert "all 40 embeddings are of class 0; retrieval needs two classes" in refused(capsys, "bad.npz")
    save(labels=np.arange(40))
    assert "none of the 40 queries has another image of its class" in refused(capsys, "bad.npz")
    save()
    assert "ks=41: bad.npz has a gallery of 40 items" in refused(capsys, "bad.npz", "ks=1,41")
    assert "ks=40: bad.npz has a gallery of 40 items, one of them each query itself; k can be at most 39" in refused(
        capsys, "bad.npz", "ks=40"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ks=0"], "ks is 0"),
        (["ks=a"], "ks is 'a', but a whole number is needed"),
        (["k=1"], "does not know 'k'; did you mean 'ks'"),
        (["rerank=yes"], "rerank is 'yes'; it must be one of none, k_reciprocal"),
        (["rerank.k1=5"], "rerank.k1 is given, but not rerank=k_reciprocal"),
        (["whiten=3"], "there are none among these"),
        (["layer=pooled"], "layer=pooled is for a run of dmlbench"),
        (["layer=conv5"], "layer is 'conv5'; it must be one of embedding, fully_connected, pooled"),
        (["distance=l1"], "distance is 'l1'"),
        (["--name"], "--name needs a value"),
        (["--name", "Untrained"], "--name Untrained is what tables call the trunk as it came"),
        (["nowhere.npz"], "nowhere.npz does not exist"),
    ],
)
def test_a_word_that_means_nothing_is_one_sentence(theirs, words, sentence, capsys: pytest.CaptureFixture[str]) -> None:
    assert sentence in refused(capsys, str(theirs), *words)


def test_a_runs_own_facts_cannot_be_renamed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--name is for a file of embeddings" in refused(capsys, str(runs), "--name", "Mine")


def test_a_folder_without_runs_and_no_place_at_all_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert "empty holds no finished run" in refused(capsys, "empty")
    assert "needs a run's folder or a file of embeddings" in refused(capsys)
