"""Scripts that evaluate results: agreement of orders, and the sources of errors."""

from __future__ import annotations

import runpy
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows_factory import make_row
from safetensors.numpy import save_file
from scipy import stats

from dmlbench.config.compose import compose, resolve
from dmlbench.data.datasets.image_folder import folder
from dmlbench.results.row_files import write_row
from dmlbench.runs.prepare import listed_split

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
LOSSES = ("contrastive", "triplet", "proxy_nca", "softtriple", "multi_similarity", "cosface", "arcface")


@pytest.fixture(scope="module")
def rank_agreement() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / "rank_agreement.py"))


@pytest.fixture(scope="module")
def error_shares() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / "error_shares.py"))


# Agreement of orders


def write_runs(directory: Path, scores: dict[str, float], **columns: Any) -> Path:
    """Write two seeds of each loss, whose mean is the given score, and a baseline."""
    for loss, score in {**scores, "untrained": 0.9}.items():
        for seed, shift in enumerate((-0.01, 0.01)):
            write_row(directory / loss / str(seed), make_row(score + shift, loss=loss, seed=seed, **columns))
    return directory


@pytest.mark.parametrize("n", [7, 12])
def test_the_correlation_is_that_of_scipy_and_p_counts_permutations(rank_agreement: dict[str, Any], n: int) -> None:
    generator = np.random.default_rng(n)
    a = generator.standard_normal(n)
    b = a + generator.standard_normal(n)
    b[1] = b[2]  # a tie
    r, low, high, p = rank_agreement["spearman"](a, b)
    assert r == pytest.approx(stats.spearmanr(a, b).statistic)
    assert -1 < low < r < high < 1
    permuted = stats.permutation_test(
        (b,), lambda one: stats.spearmanr(a, one).statistic, permutation_type="pairings", n_resamples=2000, random_state=0
    )
    assert p == pytest.approx(permuted.pvalue, abs=0.03)


def test_seven_methods_leave_a_wide_interval(rank_agreement: dict[str, Any]) -> None:
    r, low, high, p = rank_agreement["spearman"](np.arange(7), np.array([0, 2, 1, 3, 5, 4, 6]))
    assert (round(r, 2), round(low, 2), round(high, 2)) == (0.93, 0.44, 0.99)  # r = 1 - 6 * 4 / 336
    assert 0.005 < p < 0.01


def test_equal_and_opposite_orders_have_one_sided_intervals(rank_agreement: dict[str, Any]) -> None:
    r, low, high, p = rank_agreement["spearman"](np.arange(7), np.arange(7))
    assert (r, high) == (pytest.approx(1), 1.0)
    assert 0.6 < low < 0.9
    assert p == pytest.approx(2 / 5040)
    r, low, high, _ = rank_agreement["spearman"](np.arange(7), -np.arange(7))
    assert (r, low) == (pytest.approx(-1), -1.0)
    assert -0.9 < high < -0.6


def test_the_interval_covers_the_true_correlation(rank_agreement: dict[str, Any]) -> None:
    generator, covered, rho = np.random.default_rng(0), 0, 0.5
    expected = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's correlation of bivariate normal variables
    for _ in range(300):
        a, b = generator.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 9).T
        _, low, high, _ = rank_agreement["spearman"](a, b)
        covered += low <= expected <= high
    assert 0.92 <= covered / 300 <= 1


def test_orders_of_runs_and_of_published_tables_are_compared_on_common_methods(
    rank_agreement: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cub = rank_agreement["published_scores"]("cub", "map_at_r")
    assert len(cub) == 14
    assert (cub["contrastive"], cub["multi_similarity"]) == (pytest.approx(0.2118), pytest.approx(0.2101))
    same = write_runs(tmp_path / "same", {loss: cub[loss] for loss in LOSSES})
    other = write_runs(tmp_path / "other", {**{loss: 1 - cub[loss] for loss in LOSSES[:4]}, "mine": 0.5})
    assert rank_agreement["main"]([f"same={same}", f"other={other}", "cub=published"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| same | other | 4 | -1.00 | -1.00 to ")
    assert lines[3].startswith("| same | cub | 7 | 1.00 | ")
    assert lines[4].startswith("| other | cub | 4 | -1.00 |")


def test_a_source_without_an_order_is_refused_in_one_sentence(
    rank_agreement: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write_runs(tmp_path / "few", {"triplet": 0.2, "arcface": 0.3})
    mixed = write_runs(tmp_path / "mixed", {"triplet": 0.2})
    write_runs(mixed / "more", {"triplet": 0.3}, fingerprint="e" * 16)
    (tmp_path / "empty").mkdir()
    for arguments, sentence in (
        ([f"few={few}", "cub=published"], "few and cub: 2 common methods are too few"),
        ([f"mixed={mixed}", "cub=published"], "contains runs that are not comparable"),
        ([f"empty={tmp_path / 'empty'}", "cub=published"], "contains no finished run"),
        (["birds=published", "cub=published"], "birds=published: the reality check has no map_at_r on birds"),
        (["cub=published"], "needs two sources"),
        (["cub=published", "cub=published"], "two sources have the same name"),
        (["runs", "cub=published"], "'runs' is neither NAME=DIRECTORY nor NAME=published"),
        (["x=nowhere", "cub=published"], "nowhere does not exist"),
    ):
        assert rank_agreement["main"](arguments) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert error.count("\n") == 1


# Sources of errors


def test_shares_of_wrong_neighbours_equal_a_count_by_hand(error_shares: dict[str, Any]) -> None:
    # classes 0 and 1 are of group a, class 2 of group b; the query with index 0 is right, 1 and 2 are wrong
    labels, groups = np.array([0, 0, 1, 2]), np.array(["a", "a", "a", "b"])
    neighbours = np.array([1, 2, 3, 3])
    wrong, same, chance = error_shares["shares"](labels, groups, neighbours, labels, groups)
    assert (wrong, same) == (2 / 4, 1 / 2)
    # of query 1: one of two items of other classes; of query 2: two of three
    assert chance == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_query_is_not_its_own_neighbour(error_shares: dict[str, Any]) -> None:
    rows, ids = np.eye(3)[[0, 0, 1]], np.array([4, 5, 6])
    assert error_shares["nearest"](rows, rows, ids, ids).tolist()[:2] == [1, 0]
    assert error_shares["nearest"](rows[:1], rows, ids[:1], ids).tolist() == [1]


def test_errors_of_omniglot_runs_are_counted_by_alphabet(
    error_shares: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = listed_split(resolve(compose(["dataset=omniglot", f"paths.data={tmp_path}/data"])).dataset)
    test = split.frame[split.frame["query"]]
    alphabets = test["group"].astype("category").cat.codes.to_numpy()
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((len(test), 16)).astype(np.float32)
    confused = np.concatenate([noise * 0.1, 3 * np.eye(5, dtype=np.float32)[alphabets]], axis=1)  # the alphabet and noise
    for loss, rows in (("raw_pixels", noise), ("triplet", confused)):
        columns = {"dataset": "omniglot", "split_digest": split.digest, "loss_label": loss}
        write_row(tmp_path / "runs" / loss, make_row(0.3, loss=loss, **columns))
        names = {"labels": test["label"].to_numpy(), "ids": test.index.to_numpy().astype(np.int64)}
        roles = dict.fromkeys(("is_query", "is_gallery"), np.ones(len(test), dtype=bool))
        save_file({"embeddings": rows, **names, **roles}, tmp_path / "runs" / loss / "embeddings.safetensors")
    assert error_shares["main"]([str(tmp_path / "runs"), "--data", str(tmp_path / "data")]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {cells[1].strip(): [float(cell) for cell in cells[2:-1]] for line in lines[2:] if (cells := line.split("|"))}
    seeds, wrong, same, chance = found["raw_pixels"]
    assert seeds == 1
    assert wrong > 95
    assert same == pytest.approx(chance, abs=3)
    assert found["triplet"][2] > 99


def test_runs_of_another_split_or_without_groups_are_refused(
    error_shares: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_row(tmp_path / "other" / "run", make_row(dataset="omniglot", split_digest="0" * 16))
    split = listed_split(resolve(compose(["dataset=digits", f"paths.data={tmp_path}/data"])).dataset)
    write_row(tmp_path / "digits" / "run", make_row(dataset="digits", split_digest=split.digest))
    for name, sentence in (("other", "another split of omniglot"), ("digits", "the split of digits has no column group")):
        assert error_shares["main"]([str(tmp_path / name), "--data", f"{tmp_path}/data"]) == 2
        assert sentence in capsys.readouterr().err


# Attributes of the Grocery Store data set


def test_the_attributes_of_grocery_are_the_kind_and_the_coarse_class_of_each_image(tmp_path: Path) -> None:
    lines = [
        f"images/train/{path},{coarse}" for path, coarse in (("Fruit/Kiwi/1.jpg", "Kiwi"), ("Fruit/Pear/Anjou/1.jpg", "Pear"))
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["file,coarse", *lines]))
    write = runpy.run_path(str(SCRIPTS / "grocery_attributes.py"))["write_attributes"]
    assert write(tmp_path) == f"{tmp_path / 'attributes.csv'}: 3 attributes of 2 images"
    assert (tmp_path / "attributes.csv").read_text().splitlines() == [
        "file,kind::Fruit,coarse::Kiwi,coarse::Pear",
        "images/train/Fruit/Kiwi/1.jpg,1,1,0",
        "images/train/Fruit/Pear/Anjou/1.jpg,1,0,1",
    ]


def test_the_published_images_of_grocery_have_46_attributes(tmp_path: Path) -> None:
    archive = SCRIPTS.parents[1] / "shared" / "data" / "grocery81_112.zip"
    if not archive.is_file():
        pytest.skip(f"needs {archive.name} in ../shared/data")
    with zipfile.ZipFile(archive) as content:
        content.extractall(tmp_path)
    root = tmp_path / "grocery81_112"
    runpy.run_path(str(SCRIPTS / "grocery_attributes.py"))["write_attributes"](root)
    attributes = folder(str(root), "labels.csv", "manifest", attributes="attributes.csv").attributes
    assert attributes is not None
    assert (len(attributes.names), attributes.values.shape) == (46, (5421, 46))
    assert (attributes.values[:, :3].sum(axis=1) == 1).all()
    assert (attributes.values[:, 3:].sum(axis=1) == 1).all()
