"""A training that teaches nothing fails with a sentence; values that are no numbers are refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmlbench.cli import run
from dmlbench.config.compose import compose, resolve
from dmlbench.errors import UserError
from dmlbench.results.row_files import read_rows

TINY = (
    *("dataset=synthetic", "dataset.make.classes=8", "dataset.make.images_per_class=6", "protocol=quick", "trunk=convnet"),
    *("trunk.make.channels=[4,8]", "protocol.epochs=2", "protocol.batch_size=8", "protocol.embedding_dim=8"),
)


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("loss=triplet", "loss.miner=null", "loss.make.margin=-5"), "the loss was 0.0 in every epoch, so nothing was learnt"),
        (("loss=contrastive", "protocol.lr=1e9"), ""),
        (("loss=contrastive", "protocol.lr=1e30"), ""),
        (("loss=triplet", "protocol.lr=1e30"), ""),
        (("loss=margin", "protocol.lr=1e30"), ""),
        (("loss=contrastive", "protocol.lr=1e300"), "training diverged at epoch 1, step 1: value cannot be converted"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_training_without_effect_or_without_bounds_is_a_failed_run(
    overrides: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", *overrides, *TINY]) == 1
    output = capsys.readouterr()
    [row], _ = read_rows(Path("runs"))
    assert row["status"] == "failed"
    assert reason in str(row["reason"])
    assert "failed: " in output.out
    assert not output.err


def test_a_run_without_epochs_is_not_a_failure_of_the_loss() -> None:
    assert run(["train", "loss=triplet", *TINY, "protocol.epochs=0"]) == 0


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "key", ["loss.make.margin", "++loss.miner.margin", "optimizer.weight_decay", "loss.weight_decay", "protocol.lr"]
)
def test_a_value_that_is_not_a_finite_number_is_refused(key: str, number: str) -> None:
    composed = compose(["loss=triplet", "dataset=synthetic", f"{key}={number}"])
    with pytest.raises(UserError) as refused:
        resolve(composed)
    assert str(refused.value).startswith(f"{key.lstrip('+')} is {number}; it must be ")


def test_an_element_of_a_list_that_is_not_finite_is_refused() -> None:
    with pytest.raises(UserError, match=r"^optimizer\.betas\[1\] is nan; it must be a finite number$"):
        resolve(compose(["dataset=synthetic", "optimizer.betas=[0.9,nan]"]))


def test_a_number_is_not_the_name_of_a_loss(capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("nan", "inf", "-1", "1e3", "0.5"):
        assert run(["train", f"loss={value}"]) == 2
        assert capsys.readouterr().err.startswith(f"dmlbench: loss={value} is not known; known: arcface, ")
