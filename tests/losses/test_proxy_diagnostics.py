"""Dead proxies, centres and class weights are counted, and the angle by which they turn first is recorded."""

from __future__ import annotations

import doctest
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dmlbench.cli import run
from dmlbench.losses import proxy_diagnostics
from dmlbench.losses.proxy_diagnostics import count_proxies, mean_turn
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.training import trainer
from dmlbench.training.checkpoint import History

TRAINING_CLASSES = 12
TINY = [
    "dataset=synthetic",
    f"dataset.make.classes={2 * TRAINING_CLASSES}",
    "dataset.make.images_per_class=3",
    "dataset.make.image_px=36",
    "protocol.batch_size=12",
    "protocol.embedding_dim=8",
    "protocol.epochs=2",
    "loss.samples_per_class=3",
    "trunk.make.channels=[4,8]",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def row_of(data: Path, runs: Path, *overrides: str) -> Row:
    assert run(["train", *TINY, *overrides, f"paths.data={data}", f"paths.runs={runs}"]) == 0
    [file] = find_rows(runs)
    return read_row(file)


def rotated(angles: list[float], dim: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Random vectors, and the same vectors rotated by the angles and rescaled."""
    generator = np.random.default_rng(0)
    before = generator.standard_normal((len(angles), dim))
    unit = before / np.linalg.norm(before, axis=1, keepdims=True)
    orthogonal = generator.standard_normal(before.shape)
    orthogonal -= (orthogonal * unit).sum(1, keepdims=True) * unit
    orthogonal /= np.linalg.norm(orthogonal, axis=1, keepdims=True)
    after = np.cos(angles)[:, None] * unit + np.sin(angles)[:, None] * orthogonal
    return torch.from_numpy(before), torch.from_numpy(after * generator.uniform(0.1, 10, (len(angles), 1)))


def test_a_proxy_is_dead_if_it_turned_by_less_than_a_thousandth_of_a_radian_whatever_its_length() -> None:
    before, after = rotated([0, 0.0009, 0.0011, 0.1, 3.14, 0.0005, 1.0])
    assert count_proxies([before], [after]) == (7, 3)


def test_several_matrices_are_counted_together() -> None:
    before, after = rotated([0, 1, 1])
    assert count_proxies([before, before], [after, after]) == (6, 2)


def test_the_mean_turn_is_in_degrees_and_none_without_proxies() -> None:
    before, after = rotated([0, 0.5, 1.0])
    assert mean_turn([before], [after]) == pytest.approx(math.degrees(0.5))
    assert mean_turn([], []) is None


def test_many_proxies_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = rotated([0.0, 0.3, 0.6, 0.9, 1.2])
    whole = mean_turn([before], [after])
    monkeypatch.setattr(proxy_diagnostics, "_AT_ONCE", 2)
    assert mean_turn([before], [after]) == whole


@pytest.mark.parametrize(
    ("loss", "n"), [("proxy_nca", TRAINING_CLASSES), ("softtriple", 10 * TRAINING_CLASSES)]
)  # (C, D) and (D, C)
def test_a_run_counts_its_proxies_and_all_are_dead_without_a_learning_rate(
    data: Path, tmp_path: Path, loss: str, n: int
) -> None:
    trained = row_of(data, tmp_path / "trained", f"loss={loss}")
    constant = row_of(data, tmp_path / "constant", f"loss={loss}", "loss.lr_scale=0")
    assert (trained["n_proxies"], trained["n_dead_proxies"]) == (n, 0)
    assert (constant["n_proxies"], constant["n_dead_proxies"]) == (n, n)


def test_proxies_of_several_models_are_added_and_each_is_compared_with_its_own_initialisation(
    data: Path, tmp_path: Path
) -> None:
    folds = ["protocol.selection=validation", "protocol.fold=all", "protocol.folds=2"]
    row = row_of(data, tmp_path, "loss=proxy_nca", "loss.lr_scale=0", *folds)
    assert (row["n_proxies"], row["n_dead_proxies"]) == (
        TRAINING_CLASSES,
        TRAINING_CLASSES,
    )  # two models of half of the classes each


@pytest.mark.parametrize("loss", ["contrastive", "untrained"])
def test_a_method_without_proxies_has_none(data: Path, tmp_path: Path, loss: str) -> None:
    row = row_of(data, tmp_path, f"loss={loss}", "protocol.epochs=1")
    assert (row["n_proxies"], row["n_dead_proxies"], row["proxy_turn_degrees"]) == (0, 0, None)


@pytest.mark.parametrize("lr_scale", [0, 1])
def test_an_interrupted_run_counts_like_a_run_without_interruption(
    data: Path, tmp_path: Path, lr_scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["loss=arcface", f"loss.lr_scale={lr_scale}", "protocol.lr=0.0001"]
    expected = row_of(data, tmp_path / "expected", *overrides)
    save_checkpoint = trainer.save_checkpoint

    def interrupted(*arguments: object) -> None:
        save_checkpoint(*arguments)  # type: ignore[arg-type]
        raise OSError("power failure")

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", interrupted)
        assert run(["train", *TINY, *overrides, f"paths.data={data}", f"paths.runs={tmp_path / 'resumed'}"]) == 1
    resumed = row_of(data, tmp_path / "resumed", *overrides)
    assert resumed["n_resumed"] == 1
    assert resumed.outcome == expected.outcome


def test_the_angle_is_that_after_the_first_20_steps_and_survives_interruptions_before_and_after_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch has three steps: the seventh epoch contains step 20."""
    overrides = ["loss=proxy_nca", "protocol.epochs=9", "protocol.schedule=constant"]
    angles, found = {}, []
    save_checkpoint = trainer.save_checkpoint

    def recording(file: Path, model: object, objective: object, optimizer: object, history: History) -> None:
        save_checkpoint(file, model, objective, optimizer, history)  # type: ignore[arg-type]
        found.append(history.proxy_turn)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", recording)
        expected = row_of(data, tmp_path / "expected", *overrides)
    assert len(set(found[:7])) == 7
    assert found[6:] == [expected["proxy_turn_degrees"]] * 3
    assert found == sorted(found)
    for epoch in (2, 8):

        def interrupted(file: Path, *rest: object, epoch: int = epoch) -> None:
            save_checkpoint(file, *rest)  # type: ignore[arg-type]
            if len(rest[-1].epochs) == epoch:  # type: ignore[attr-defined]
                raise OSError("power failure")

        runs = tmp_path / f"epoch{epoch}"
        with monkeypatch.context() as patch:
            patch.setattr(trainer, "save_checkpoint", interrupted)
            assert run(["train", *TINY, *overrides, f"paths.data={data}", f"paths.runs={runs}"]) == 1
        angles[epoch] = row_of(data, runs, *overrides).outcome
    assert angles[2] == angles[8] == expected.outcome


def test_with_fewer_steps_the_angle_is_that_after_the_last_one_and_it_is_the_mean_over_models(
    data: Path, tmp_path: Path
) -> None:
    constant = row_of(data, tmp_path / "constant", "loss=softtriple", "loss.lr_scale=0")
    assert constant["proxy_turn_degrees"] == 0
    folds = ["protocol.selection=validation", "protocol.fold=all", "protocol.folds=2"]
    row = row_of(data, tmp_path / "folds", "loss=softtriple", *folds)
    assert 0 < row["proxy_turn_degrees"] < 90  # type: ignore[operator]


def test_the_examples_in_the_docstrings_are_correct() -> None:
    assert doctest.testmod(proxy_diagnostics).failed == 0
