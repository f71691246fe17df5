"""Commands in several processes: the row of one process, one output, and one sentence for each error."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from processes_helper import run_commands
from sweep_helpers import TINY, rows_by_loss, write_loss

from dmlbench.cli import run
from dmlbench.evaluation.embedding_files import load_embeddings
from dmlbench.results.row import Row
from dmlbench.runs import runner

# The same plan in one and in several processes differs by rounding in float32, which training amplifies.
CLOSE = 0.05
FEATURES = ["protocol.trunk_frozen=true", "protocol.flip=false", "protocol.train_crop=center"]


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows_of(directory: str) -> dict[str, Row]:
    return rows_by_loss(Path(directory))


def embeddings_of(directory: str) -> np.ndarray:
    [file] = Path(directory).rglob("embeddings.safetensors")
    return load_embeddings(file).rows.numpy()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "overrides",
    [
        ["workers=2"],
        ["sampler=triplets", "loss=triplet", "sampler.mining=semi_hard", "protocol.batch_size=15"],
        [
            "protocol.selection=validation",
            "protocol.fold=all",
            "protocol.folds=2",
            "protocol.batch_size=4",
            "protocol.patience=1",
        ],
        FEATURES,
    ],
    ids=["images", "triplets drawn with the model", "validation and folds", "features"],
)
def test_a_run_in_two_processes_ends_with_the_row_of_one_up_to_rounding(overrides: list[str]) -> None:
    train = ["train", "loss=proxy_nca", *TINY, *overrides]
    assert run([*train, "paths.runs=alone/runs", "paths.data=alone/data"]) == 0
    (status, output, errors), *others = run_commands([*train, "paths.runs=together/runs", "paths.data=together/data"])
    assert (status, errors) == (0, "")
    assert "R@1" in output
    assert others == [(0, "", "")]
    [(loss, alone)] = rows_of("alone").items()
    together = rows_of("together")[loss]
    assert (alone["n_processes"], together["n_processes"]) == (1, 2)
    assert together.outcome.keys() == alone.outcome.keys()
    assert together["run_id"] == alone["run_id"]
    for name, value in alone.outcome.items():
        if isinstance(value, float):
            assert together[name] == pytest.approx(value, abs=0.1), name
    assert together["final_loss"] == pytest.approx(alone["final_loss"], rel=CLOSE)


def test_a_sweep_in_two_processes_prints_one_table_and_a_failed_method_stops_no_other(tmp_path: Path) -> None:
    code = "import torch\nclass Loss(torch.nn.Module):\n    def forward(self, e, y):\n        return e.sum() / 0\n"
    options = write_loss(tmp_path, "infinite", code)
    each = run_commands(["sweep", "loss=infinite,contrastive", *TINY, *options])
    assert [status for status, _, _ in each] == [1, 1]
    assert each[0][1].count("| Contrastive") == 1
    assert each[1][1] == ""
    assert rows_of(".")["infinite"]["status"] == "failed"
    again = run_commands(["sweep", "loss=infinite,contrastive", *TINY, *options])
    assert "already done" in again[0][1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "loss=nothing"], "loss=nothing is not known"),
        (["train", *TINY, "dataset.make.classes=x"], "dataset.make.classes"),
        (["train", *TINY, "trunk.make.channels=[0]"], ""),
        (
            ["train", *TINY, "loss=proxy_nca", "sampler=shuffle", "protocol.batch_size=2"],
            "3 processes cannot share a batch of 2 images; use fewer processes",
        ),
        (["tune", "loss=triplet", *TINY], "dmlbench tune runs in one process; start it without torchrun"),
        (["table"], "dmlbench table runs in one process; start it without torchrun"),
        (["train", *TINY, "tuning.trials=2", "loss=triplet"], "trials run in one process"),
        (["train", *TINY, "seed=0,1", "-m", "hydra/launcher=joblib"], "hydra/launcher=joblib"),
    ],
)
def test_a_mistake_of_the_user_is_one_sentence_of_the_first_process(arguments: list[str], sentence: str) -> None:
    first, *others = run_commands(arguments, 3)
    assert first[0] == 2
    assert first[2].count("\n") == 1
    assert sentence in first[2]
    assert others == [(2, "", "")] * 2
    assert not list(Path().rglob("*.pt"))


def test_processes_with_different_lists_of_jobs_are_refused_before_the_first_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processes_helper.PER_PROCESS", [["loss=triplet"], ["loss=triplet,contrastive"]])
    first, second = run_commands(["train", "-m", *TINY])
    assert first[0] == 2
    assert "process 1 of 2 has another number of jobs than process 0, 2 instead of 1; start all processes with" in first[2]
    assert second == (2, "", "")
    assert not list(Path().rglob("row.json"))


def test_processes_with_different_settings_that_no_row_identifies_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processes_helper.PER_PROCESS", [["oracle=false"], ["oracle=true"]])
    first, _ = run_commands(["train", "loss=triplet", *TINY])
    assert (first[0], "has another oracle than process 0, True instead of False" in first[2]) == (2, True)


def test_processes_with_different_code_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "source_digest", lambda: f"digest {os.environ['RANK']}")
    first, _ = run_commands(["train", "loss=triplet", *TINY])
    assert (first[0], "has another code than process 0, 'digest 1' instead of 'digest 0'" in first[2]) == (2, True)


def test_processes_may_have_their_data_in_different_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processes_helper.PER_PROCESS", [["paths.data=here"], ["paths.data=there"]])
    first, second = run_commands(["train", "loss=triplet", *TINY])
    assert (first[0], first[2], second[0]) == (0, "", 0)


def test_a_number_of_processes_without_the_number_of_this_one_is_ignored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")  # left over in a container
    monkeypatch.delenv("RANK", raising=False)
    assert run(["list", "losses"]) == 0
    assert "contrastive" in capsys.readouterr().out


@pytest.mark.slow
def test_the_tasks_of_a_submitit_job_train_together(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="submitit is not installed")
    launcher = ["hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2", "hydra.launcher.timeout_min=5"]
    assert run(["sweep", "loss=proxy_nca,contrastive", *TINY, *launcher]) == 0
    output = capsys.readouterr().out
    rows = rows_of(".")
    assert {name: row["n_processes"] for name, row in rows.items() if name in ("proxy_nca", "contrastive")} == {
        "proxy_nca": 2,
        "contrastive": 2,
    }
    assert output.count("loss=proxy_nca seed=0: started") == 1
    assert output.count("| Contrastive") == 1
