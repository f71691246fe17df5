"""Proxies, centres and weights of classes that never moved are counted, whichever way a loss stores them."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
import torch

import dmlbench.losses.proxy_diagnostics
from dmlbench.cli import run
from dmlbench.losses.proxy_diagnostics import count_proxies
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row

TINY = [
    "dataset.make.images_per_class=3",
    "dataset.train_images=150",
    "dataset.query_images=150",
    "dataset.gallery_images=150",
    "protocol.batch_size=24",
    "protocol.embedding_dim=8",
    "protocol.epochs=2",
    "loss.samples_per_class=3",
    "trunk.make.channels=[4,8]",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def row_of(data: Path, runs: Path, *words: str) -> Row:
    assert run(["train", *TINY, *words, f"paths.data={data}", f"paths.runs={runs}"]) == 0
    [file] = find_rows(runs)
    return read_row(file)


def turned_by(angles: list[float], dim: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Random vectors, and the same turned by some angles in a plane that holds them, at another length."""
    generator = np.random.default_rng(0)
    before = generator.standard_normal((len(angles), dim))
    unit = before / np.linalg.norm(before, axis=1, keepdims=True)
    aside = generator.standard_normal(before.shape)
    aside -= (aside * unit).sum(1, keepdims=True) * unit
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    after = np.cos(angles)[:, None] * unit + np.sin(angles)[:, None] * aside
    return torch.from_numpy(before), torch.from_numpy(after * generator.uniform(0.1, 10, (len(angles), 1)))


@pytest.mark.parametrize("transposed", [False, True])
def test_a_proxy_is_dead_below_a_thousandth_of_a_radian_whatever_its_length(transposed: bool) -> None:
    before, after = turned_by([0, 0.0009, 0.0011, 0.1, 3.14, 0.0005, 1.0])
    if transposed:
        before, after = before.T, after.T
    assert count_proxies([before], [after], dim=5) == (7, 3)


def test_several_matrices_are_counted_together_and_those_of_another_shape_are_none() -> None:
    before, after = turned_by([0, 1, 1])
    other = torch.ones(3, 4)
    assert count_proxies([before, other, before], [after, other, before], dim=5) == (6, 4)


@pytest.mark.parametrize("transposed", [False, True])
def test_where_there_are_as_many_proxies_as_dimensions_the_dead_are_found_all_the_same(transposed: bool) -> None:
    before, after = turned_by([0, 1, 0, 1, 1])
    if transposed:
        before, after = before.T, after.T
    assert count_proxies([before], [after], dim=5) == (5, 2)


@pytest.mark.parametrize(("loss", "n"), [("proxy_nca", 50), ("arcface", 50), ("softtriple", 500), ("contrastive", 0)])
def test_a_run_counts_its_proxies_and_without_a_learning_rate_all_are_dead(
    data: Path, tmp_path: Path, loss: str, n: int
) -> None:
    learnt = row_of(data, tmp_path / "learnt", f"loss={loss}")
    still = row_of(data, tmp_path / "still", f"loss={loss}", "loss.lr_scale=0")
    assert (learnt["n_proxies"], learnt["n_dead_proxies"]) == (n, 0)
    assert (still["n_proxies"], still["n_dead_proxies"]) == (n, n)


def test_several_models_are_counted_together_each_from_its_own_beginning(data: Path, tmp_path: Path) -> None:
    words = ["loss=proxy_nca", "loss.lr_scale=0", "protocol.selection=validation", "protocol.fold=all", "protocol.folds=2"]
    row = row_of(data, tmp_path, *words)
    assert (row["n_proxies"], row["n_dead_proxies"]) == (50, 50)  # two models of 25 classes each


def test_the_untrained_trunk_has_none(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path, "loss=untrained")
    assert (row["n_proxies"], row["n_dead_proxies"]) == (0, 0)


@pytest.mark.parametrize("lr_scale", [0, 1])
def test_a_run_that_broke_off_counts_as_one_that_did_not(
    data: Path, tmp_path: Path, lr_scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["loss=arcface", f"loss.lr_scale={lr_scale}", "protocol.lr=0.0001"]
    whole = row_of(data, tmp_path / "whole", *words)
    save = dmlbench.training.trainer.save_checkpoint

    def broken(*given: object) -> None:
        save(*given)  # type: ignore[arg-type]
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(dmlbench.training.trainer, "save_checkpoint", broken)
        given = [*TINY, *words, f"paths.data={data}", f"paths.runs={tmp_path / 'broken'}"]
        assert run(["train", *given]) == 1
    resumed = row_of(data, tmp_path / "broken", *words)
    assert resumed["n_resumed"] == 1
    assert resumed.outcome == whole.outcome


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(dmlbench.losses.proxy_diagnostics).failed == 0
