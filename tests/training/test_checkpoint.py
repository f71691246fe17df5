"""The history of a training, and what a checkpoint restores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dmlbench.training.checkpoint import History, resume, save, save_checkpoint

EPOCHS = [{"epoch": n, "loss": 1 / n, "lr": 0.1, "seconds": 2.0, "images_per_second": 10.0 * n} for n in (1, 2, 3)]
EVALUATIONS = [{"epoch": n, "validation_map_at_r": score} for n, score in ((0, 0.1), (2, 0.4), (3, 0.4))]


def parts() -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
    model, objective = nn.Linear(2, 2), nn.Linear(2, 1)
    return model, objective, torch.optim.SGD([*model.parameters(), *objective.parameters()], lr=0.5)


def test_a_history_summarises_its_epochs_and_its_evaluations(tmp_path: Path) -> None:
    history = History([dict(epoch) for epoch in EPOCHS], 0, [dict(one) for one in EVALUATIONS])
    assert history.seconds == 6
    assert history.images_per_second == 20
    assert history.best("validation_map_at_r")["epoch"] == 2, "of equal scores, the earliest counts"
    history.write(tmp_path / "history.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert lines == [EVALUATIONS[0], EPOCHS[0], EPOCHS[1] | EVALUATIONS[1], EPOCHS[2] | EVALUATIONS[2]]
    assert History().images_per_second is None


def test_a_checkpoint_restores_model_objective_optimizer_and_history(tmp_path: Path) -> None:
    saved, fresh = parts(), parts()
    saved[2].param_groups[0]["lr"] = 0.25
    save_checkpoint(tmp_path / "checkpoint.pt", *saved, History([dict(EPOCHS[0])], 1, []))
    history = resume(tmp_path / "checkpoint.pt", *fresh, oracle=False)
    assert history == History([EPOCHS[0]], 2, [])
    assert torch.equal(fresh[0].weight, saved[0].weight)
    assert torch.equal(fresh[1].weight, saved[1].weight)
    assert fresh[2].param_groups[0]["lr"] == 0.25


def test_a_checkpoint_of_an_earlier_version_names_its_evaluations_looks(tmp_path: Path) -> None:
    model, objective, optimizer = parts()
    history = {"epochs": [dict(EPOCHS[0])], "n_resumed": 0, "looks": [dict(EVALUATIONS[0])]}
    states = {"model": model.state_dict(), "objective": objective.state_dict(), "optimizer": optimizer.state_dict()}
    save(tmp_path / "checkpoint.pt", {**states, "history": history})
    assert resume(tmp_path / "checkpoint.pt", *parts(), oracle=False) == History([EPOCHS[0]], 1, [EVALUATIONS[0]])


def test_without_a_checkpoint_the_history_is_empty(tmp_path: Path) -> None:
    assert resume(tmp_path / "checkpoint.pt", *parts(), oracle=False) == History()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 half a file"], ids=["empty", "text", "truncated"])
def test_a_checkpoint_that_cannot_be_read_gives_an_empty_history_and_leaves_the_model_unchanged(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    fresh = parts()
    before = fresh[0].weight.clone()
    assert resume(tmp_path / "checkpoint.pt", *fresh, oracle=False) == History()
    assert torch.equal(fresh[0].weight, before)
    assert "cannot be read; training starts from the first step" in "".join(capsys.readouterr())


def test_the_oracle_ignores_a_checkpoint_without_evaluations_on_the_test_set(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint.pt", *parts(), History([dict(EPOCHS[0])], 0, [dict(EVALUATIONS[0])]))
    assert resume(tmp_path / "checkpoint.pt", *parts(), oracle=True) == History()
    with_test_scores = History([dict(EPOCHS[0])], 0, [{"epoch": 0, "test_map_at_r": 0.3}])
    save_checkpoint(tmp_path / "checkpoint.pt", *parts(), with_test_scores)
    assert resume(tmp_path / "checkpoint.pt", *parts(), oracle=True).n_resumed == 1
