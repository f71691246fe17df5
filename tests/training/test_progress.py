"""What a training prints: a bar on a terminal, one line per epoch elsewhere, and where an interrupted training continues."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dmlbench.config.plan import Plan
from dmlbench.data.loader import Batches
from dmlbench.data.split import Split
from dmlbench.models.embedder import Embedder, build_embedder
from dmlbench.training.checkpoint import History
from dmlbench.training.trained_model import initial_objective
from dmlbench.training.trainer import train

MakePlan = Callable[..., Plan]


class InterruptionError(Exception):
    pass


def trained(plan: Plan, split: Split, stop_after: int | None = None, validated: bool = False, name: str = "") -> History:
    def on_epoch_end(history: History) -> None:
        if len(history.epochs) == stop_after:
            raise InterruptionError

    def validate(model: Embedder) -> dict[str, float]:
        return {"validation_map_at_r": 0.25}

    model, objective = build_embedder(plan), initial_objective(plan)
    assert objective is not None
    batches = Batches(split.paths(), plan.protocol)
    return train(model, objective, split, batches, plan, None, validate if validated else None, on_epoch_end, name)


def test_every_epoch_is_one_line_with_loss_speed_and_the_time_left(
    tmp_path: Path, make_plan: MakePlan, colours: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(make_plan(tmp_path), colours)
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line[:17] for line in lines] == [f"epoch     {epoch} of 3" + ":" for epoch in (1, 2, 3)]
    for line in lines[:2]:
        assert re.fullmatch(r"epoch     \d of 3: loss [\d.]+, [\d,]+ images/s, about \d+ s left", line)
    assert re.fullmatch(r"epoch     3 of 3: loss [\d.]+, [\d,]+ images/s", lines[2])
    assert not captured.err


def test_the_line_names_the_validation_and_the_fold(
    tmp_path: Path, make_plan: MakePlan, colours: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(tmp_path, protocol={"selection": "validation", "validate_every": 2})
    trained(plan, colours, validated=True, name="fold 2 of 4")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("epoch     1 of 3 (fold 2 of 4): loss ")
    assert "validation" not in first
    assert ", validation MAP@R 25.0%, about " in second
    assert third.endswith(", validation MAP@R 25.0%")


@pytest.mark.parametrize(("done", "sentence"), [(2, "resuming from epoch 3 of 3"), (3, "resuming after epoch 3 of 3")])
def test_an_interrupted_training_says_where_it_resumes(
    done: int,
    sentence: str,
    tmp_path: Path,
    make_plan: MakePlan,
    colours: Split,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(InterruptionError):
        trained(make_plan(tmp_path), colours, stop_after=done)
    assert "resuming" not in capsys.readouterr().out
    trained(make_plan(tmp_path), colours)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == sentence
    assert len(lines) == 1 + 3 - done


def test_a_terminal_shows_a_bar_instead_of_lines(
    tmp_path: Path, make_plan: MakePlan, colours: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = os.openpty()
    with open(theirs, "w", buffering=1) as terminal, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        patch.setattr("sys.stderr", terminal)
        trained(make_plan(tmp_path), colours)
        os.set_blocking(ours, False)
        shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "softtriple epoch 1/3:" in shown
    assert "\r" in shown
    assert "epoch     1 of 3" not in shown
