"""The files of trials."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from dmlbench.errors import UserError
from dmlbench.tuning.trials import (
    Trial,
    best_trial,
    read_trial,
    read_trials,
    read_values,
    remove_finished_folders,
    trial_folder,
    trial_lock,
    write_trial,
    write_values,
)

TRIAL = Trial(7, "pruned", 0.25, {"make.margin": 0.2}, ((1, 0.3), (2, 0.25)), 2, 1.5, 1, None)


def test_a_finished_trial_is_read_as_written_and_its_directory_is_removed(tmp_path: Path) -> None:
    write_values(tmp_path, 7, TRIAL.values)
    assert read_values(tmp_path, 7) == TRIAL.values
    write_trial(tmp_path, TRIAL)
    assert read_trial(tmp_path, 7) == TRIAL
    assert read_values(tmp_path, 7) is None
    assert not trial_folder(tmp_path, 7).exists()
    assert read_trials(tmp_path, range(1, 10)) == [TRIAL]


def test_the_directory_of_a_finished_trial_that_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    write_trial(tmp_path, TRIAL)
    for number in (7, 8, 9):
        write_values(tmp_path, number, TRIAL.values)
    write_trial(tmp_path, dataclasses.replace(TRIAL, number=9))
    write_values(tmp_path, 9, TRIAL.values)
    with trial_lock(tmp_path, 9):  # its process is about to remove the directory itself
        remove_finished_folders(tmp_path)
    assert [path.name for path in sorted((tmp_path / "trials").glob("*/"))] == ["0008", "0009"]


def test_a_trial_of_an_earlier_version_names_its_intermediate_values_course(tmp_path: Path) -> None:
    write_trial(tmp_path, TRIAL)
    file = tmp_path / "trials" / "0007.json"
    fields = json.loads(file.read_text())
    fields["course"] = fields.pop("intermediate_values")
    file.write_text(json.dumps(fields))
    assert read_trial(tmp_path, 7) == TRIAL


@pytest.mark.parametrize(
    "content", ['{"number": 7, "sta', '{"number": 7}', "[]", '{"number": 8, "state": "complete", "score": 0, "values": {}}']
)
def test_a_file_without_the_trial_is_an_unfinished_trial(tmp_path: Path, content: str) -> None:
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "0007.json").write_text(content)
    assert read_trial(tmp_path, 7) is None


def test_the_best_trial_is_the_first_complete_one_with_the_highest_score() -> None:
    trials = [
        Trial(1, "complete", 0.2, {}),
        Trial(2, "complete", 0.3, {}),
        Trial(3, "complete", 0.3, {}),
        Trial(4, "pruned", 0.9, {}),
    ]
    assert best_trial(trials).number == 2
    assert best_trial([Trial(1, "failed", 0.0, {}), Trial(2, "pruned", 0.1, {})]).number == 1


def test_the_lock_of_a_trial_is_acquired_once(tmp_path: Path) -> None:
    with trial_lock(tmp_path, 1) as first, trial_lock(tmp_path, 1) as second, trial_lock(tmp_path, 2) as other:
        assert (first, second, other) == (True, False, True)
    with trial_lock(tmp_path, 1) as again:
        assert again


@pytest.mark.parametrize(
    ("field", "value", "needed"),
    [
        ("score", "0.5", "a number"),
        ("score", None, "a number"),
        ("score", [0.5], "a number"),
        ("score", True, "a number"),
        ("score", 99, "from -1 to 1"),
        ("score", 1e308, "from -1 to 1"),
        ("score", float("nan"), "from -1 to 1"),
        ("state", "evil", "'complete' or 'pruned' or 'failed'"),
        ("seconds", "3", "a number"),
        ("seconds", 1e308, "seconds"),
        ("seconds", -1, "seconds"),
        ("epochs", "3", "a whole number"),
        ("epochs", -3, "epochs"),
        ("n_resumed", 0.5, "a whole number"),
        ("values", [1], "a mapping"),
        ("values", {"make.margin": [1]}, "values"),
        ("intermediate_values", [[1, "a"]], "a list"),
        ("intermediate_values", [[1, 7.0]], "from -1 to 1"),
        ("reason", 3, "text or null"),
        ("extra", 3, "extra is not known"),
    ],
)
def test_a_trial_with_a_value_of_the_wrong_type_is_refused_with_its_file(
    tmp_path: Path, field: str, value: object, needed: str
) -> None:
    write_trial(tmp_path, TRIAL)
    file = tmp_path / "trials" / "0007.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with pytest.raises(UserError) as refusal:
        read_trial(tmp_path, 7)
    sentence = str(refusal.value)
    assert str(file) in sentence
    assert field in sentence
    assert needed in sentence
    assert "delete it to run the trial again" in sentence


def test_a_trial_that_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trials" / "0007.json").mkdir(parents=True)
    with pytest.raises(UserError, match=r"0007\.json cannot be used: it is a directory; delete it to run the trial again"):
        read_trial(tmp_path, 7)
