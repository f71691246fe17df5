"""The history of a training, and what a checkpoint restores."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from dmlbench.errors import UserError
from dmlbench.models.state_files import UnreadableStateError, load_state, save_state
from dmlbench.training.checkpoint import History, load_model, resume, save_checkpoint

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
    save_checkpoint(tmp_path, *saved, History([dict(EPOCHS[0])], 1, []))
    history = resume(tmp_path / "checkpoint.pt", *fresh, oracle=False)
    assert history == History([EPOCHS[0]], 2, [])
    assert torch.equal(fresh[0].weight, saved[0].weight)
    assert torch.equal(fresh[1].weight, saved[1].weight)
    assert fresh[2].param_groups[0]["lr"] == 0.25


def test_a_checkpoint_of_an_earlier_version_names_its_evaluations_looks(tmp_path: Path) -> None:
    model, objective, optimizer = parts()
    history = {"epochs": [dict(EPOCHS[0])], "n_resumed": 0, "looks": [dict(EVALUATIONS[0])]}
    states = {"model": model.state_dict(), "objective": objective.state_dict(), "optimizer": optimizer.state_dict()}
    save_state(tmp_path / "checkpoint.pt", {**states, "history": history})
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
    printed = "".join(capsys.readouterr())
    assert "checkpoint.pt cannot be read: " in printed
    assert "; training starts from the first step" in printed


def test_a_checkpoint_with_a_flipped_bit_restores_the_same_state_or_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, saved = tmp_path / "checkpoint.pt", parts()
    save_checkpoint(tmp_path, *saved, History([dict(EPOCHS[0])], 0, []))
    whole = file.read_bytes()
    noticed = 0
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        fresh = parts()
        if resume(file, *fresh, oracle=False) == History():
            noticed += 1
            assert "training starts from the first step" in "".join(capsys.readouterr())
        else:
            assert torch.equal(fresh[0].weight, saved[0].weight)
            assert torch.equal(fresh[1].weight, saved[1].weight)
    assert noticed > len(whole) / 7 / 2
    weights = saved[0].weight.detach().numpy().tobytes()
    damaged = bytearray(whole)
    damaged[whole.index(weights)] ^= 1
    file.write_bytes(damaged)
    assert resume(file, *parts(), oracle=False) == History()
    assert "its content does not have the checksum in the file" in "".join(capsys.readouterr())


@pytest.mark.parametrize("part", ["model", "objective", "optimizer"])
def test_a_checkpoint_of_other_code_is_refused_with_what_to_do(tmp_path: Path, part: str) -> None:
    file, saved, other = tmp_path / "checkpoint.pt", parts(), nn.Linear(3, 3)
    save_checkpoint(tmp_path, *saved, History([dict(EPOCHS[0])], 0, []))
    model, objective, optimizer = parts()
    changed = {
        "model": (other, objective, optimizer),
        "objective": (model, other, optimizer),
        "optimizer": (model, objective, torch.optim.SGD([other.weight], lr=1)),
    }
    sentence = f"checkpoint.pt does not fit the {part} of this run .*restore the code to continue, or delete the file"
    with pytest.raises(UserError, match=sentence) as error:
        resume(file, *changed[part], oracle=False)
    assert "\n" not in str(error.value)


def test_a_checkpoint_is_a_regular_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path, *parts(), History([dict(EPOCHS[0])], 0, []))
    (tmp_path / "checkpoint.pt").rename(tmp_path / "elsewhere.pt")
    (tmp_path / "checkpoint.pt").symlink_to(tmp_path / "elsewhere.pt")
    os.mkfifo(tmp_path / "fifo.pt")
    for name, reason in (("checkpoint.pt", "it is a link"), ("fifo.pt", "it is not a regular file")):
        assert resume(tmp_path / name, *parts(), oracle=False) == History()
        assert reason in "".join(capsys.readouterr())


def test_a_model_is_restored_whole_or_refused(tmp_path: Path) -> None:
    file, (model, *_), (fresh, *_) = tmp_path / "best.pt", parts(), parts()
    save_state(file, {"model": model.state_dict()})
    load_model(file, fresh, "cpu")
    assert torch.equal(fresh.weight, model.weight)
    with pytest.raises(UserError, match="does not fit the model of this run"):
        load_model(file, nn.Linear(3, 3), "cpu")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"best\.pt cannot be read: it is damaged, .*delete it and checkpoint\.pt"):
        load_model(file, fresh, "cpu")


def test_equal_states_give_equal_files_in_every_process(tmp_path: Path) -> None:
    model, *_ = parts()
    state = {"model": model.state_dict()}
    save_state(tmp_path / "a.pt", state)
    process = os.fork()
    if not process:
        save_state(tmp_path / "b.pt", state)
        os._exit(0)
    os.waitpid(process, 0)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_only_files_with_checksums_are_read(tmp_path: Path) -> None:
    legacy, compressed = tmp_path / "legacy.pt", tmp_path / "compressed.pt"
    torch.save({"x": torch.zeros(1)}, legacy, _use_new_zipfile_serialization=False)
    save_state(tmp_path / "x.pt", {"x": torch.zeros(1000)})
    with zipfile.ZipFile(tmp_path / "x.pt") as source, zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    behind = tmp_path / "behind.pt"
    behind.write_bytes(legacy.read_bytes() + (tmp_path / "x.pt").read_bytes())
    save_state(tmp_path / "list.pt", [1])  # type: ignore[arg-type]
    for file in (legacy, compressed, behind, tmp_path / "list.pt"):
        with pytest.raises(UnreadableStateError, match="not a file of tensors"):
            load_state(file)


def test_the_oracle_ignores_a_checkpoint_without_evaluations_on_the_test_set(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, *parts(), History([dict(EPOCHS[0])], 0, [dict(EVALUATIONS[0])]))
    assert resume(tmp_path / "checkpoint.pt", *parts(), oracle=True) == History()
    with_test_scores = History([dict(EPOCHS[0])], 0, [{"epoch": 0, "test_map_at_r": 0.3}])
    save_checkpoint(tmp_path, *parts(), with_test_scores)
    assert resume(tmp_path / "checkpoint.pt", *parts(), oracle=True).n_resumed == 1


def test_a_checkpoint_of_another_run_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    save_checkpoint(tmp_path, *parts(), History([dict(EPOCHS[0])], 0, [], run="a run, seed 1"))
    assert resume(file, *parts(), oracle=False, run="a run, seed 1").n_resumed == 1
    with pytest.raises(
        UserError, match=r"checkpoint\.pt belongs to another training \(a run, seed 1\), not to this one \(b, seed 1\); dele"
    ):
        resume(file, *parts(), oracle=False, run="b, seed 1")


def test_a_checkpoint_of_an_earlier_version_does_not_record_its_run_and_is_resumed_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "checkpoint.pt"
    save_checkpoint(tmp_path, *parts(), History([dict(EPOCHS[0])], 0, []))
    assert resume(file, *parts(), oracle=False, run="a run, seed 1") == History([EPOCHS[0]], 1, [], run="a run, seed 1")
    assert "an earlier version, which did not record the run" in capsys.readouterr().out


def test_the_best_model_of_another_run_is_refused(tmp_path: Path) -> None:
    file, model = tmp_path / "best.pt", nn.Linear(2, 2)
    save_state(file, {"model": model.state_dict(), "run": "a run, seed 1"})
    load_model(file, model, "cpu", "a run, seed 1")
    with pytest.raises(UserError, match="belongs to another training"):
        load_model(file, model, "cpu", "b, seed 1")
    save_state(file, {"model": model.state_dict()})  # by an earlier version
    load_model(file, model, "cpu", "b, seed 1")
