"""Rows and tables of tuned runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rows_factory
from omegaconf import OmegaConf
from small_studies import overrides, row_of, trials

from dmlbench.cli import run
from dmlbench.cli.sweep import parts
from dmlbench.cli.tune import TRIALS
from dmlbench.config.compose import compose
from dmlbench.config.files import conf_dir
from dmlbench.config.plan import Plan, method_columns
from dmlbench.results.row import BASELINES
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.runs.prepare import prepare
from dmlbench.tables.table import compare
from dmlbench.tables.table_differences import with_differences


def prepared(data: Path, *more: str) -> Plan:
    plan, _ = prepare(compose(overrides(data, Path("runs"), *more)))
    return plan


def test_a_tuned_sweep_runs_the_same_number_of_trials_per_loss_and_one_study_for_all_seeds(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["+sweep=tuned", "loss=contrastive,fastap", "seed=0,1", "tuning.trials=2"]
    assert run(["sweep", *overrides(data, tmp_path, *more)]) == 0
    rows = [read_row(path) for path in find_rows(tmp_path)]
    assert {(row["loss"], row["seed"]) for row in rows} == {
        (loss, seed) for loss in ("raw_pixels", "untrained", "contrastive", "fastap") for seed in (0, 1)
    }
    assert {row["tuning_trials"] for row in rows} == {2}
    assert len(compare(rows, tested=False)) == 1
    for loss in ("contrastive", "fastap"):
        first, second = (row_of(tmp_path, loss, seed) for seed in (0, 1))
        [folder] = tmp_path.glob(f"*/{loss}/tune-*")
        assert len(trials(folder)) == first["n_tuning_trials"] == 2
        assert first["method_digest"] == second["method_digest"]
        tuning = [name for name in first.columns if name.startswith(("tuned_", "n_tuning_", "tuning_"))]
        assert [first[name] for name in tuning] == [second[name] for name in tuning]
        values = json.loads(str(first["tuned_values"]))
        assert all(first[f"loss_{key.replace('.', '_')}"] == value for key, value in values.items())
        assert first["tuned_hours"] > 0  # type: ignore[operator]
    assert "tuned_values" not in row_of(tmp_path, "untrained").columns
    assert "loss/untrained trains nothing, so there is nothing to tune" in capsys.readouterr().out


def test_a_loss_whose_file_has_no_search_space_is_tuned_over_its_learning_rates_only(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "conf" / "loss" / "mine.yaml"
    own.parent.mkdir(parents=True)
    shipped = OmegaConf.load(conf_dir() / "loss" / "contrastive.yaml")
    del shipped["search"]
    OmegaConf.save(shipped, own)
    more = ["loss=mine", "tuning.trials=2", "--config-dir", str(own.parents[1])]
    assert run(["train", *overrides(data, tmp_path, *more)]) == 0
    row = row_of(tmp_path, "mine")
    assert set(json.loads(str(row["tuned_values"]))) == {"lr", "head_lr_scale"}
    assert row["lr_from"] == "method"
    assert (row["loss_lr"], row["protocol_lr"]) != (None, None)


def test_a_wrong_or_empty_search_space_is_refused_in_a_tuned_sweep_before_any_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "conf" / "loss" / "mine.yaml"
    own.parent.mkdir(parents=True)
    shipped = OmegaConf.load(conf_dir() / "loss" / "contrastive.yaml")
    shipped["search"] = {"lr": None, "head_lr_scale": None}
    OmegaConf.save(shipped, own)
    more = ["loss=triplet,mine", "tuning.trials=1", "--config-dir", str(own.parents[1])]
    assert run(["sweep", *overrides(data, tmp_path, *more)]) == 2
    assert capsys.readouterr().err == (
        "dmlbench: loss=mine seed=0: loss/mine: every key of loss.search is null, so there is nothing to tune\n"
    )
    assert not list(find_rows(tmp_path))


def test_rows_with_tuned_rates_are_apart_from_rows_with_the_rates_of_the_protocol_and_the_caption_says_so(
    data: Path, tmp_path: Path
) -> None:
    """Also if only one rate was left to the search, or was typed."""
    columns = {
        name: prepared(data, *more)
        for name, more in {
            "protocol": (),
            "typed": ("loss.lr=0.003",),
            "head": ("loss.head_lr_scale=2",),
            "baseline": ("loss=untrained",),
            "tuned baseline": ("loss=untrained", "tuning.trials=2"),
        }.items()
    }
    found = {name: plan.shared["lr_from"] for name, plan in columns.items()}
    assert found == {
        "protocol": "protocol",
        "typed": "method",
        "head": "method",
        "baseline": "protocol",
        "tuned baseline": "method",
    }
    assert len({columns[name].fingerprint for name in ("protocol", "baseline")}) == 1
    assert len({columns[name].method_digest for name in ("protocol", "typed", "head")}) == 3
    typed = {**method_columns(columns["typed"].method), **columns["typed"].shared}
    rows = [
        rows_factory.make_row(loss="triplet", **{**typed, "overrides": '["loss.lr=0.003", "protocol.lr=0.001"]'}),
        rows_factory.make_row(loss="contrastive", **columns["protocol"].shared),
    ]
    tables = with_differences(compare(rows))
    assert [table.shared["lr_from"] for table in tables] == ["method", "protocol"]
    assert "source of the learning rates = method" in tables[0].details[0]
    assert "learning rates of each method" in tables[0].caption
    assert "learning rates of each method" not in tables[1].caption


def test_the_tuned_sweep_has_one_meaning_in_both_spellings_and_the_losses_of_the_untuned_sweep() -> None:
    assert parts(["+sweep=tuned", "seed=0"], None) == parts(["sweep=tuned", "seed=0"], None) != parts(["seed=0"], None)
    assert compose(["sweep=tuned"]).cfg.tuning.trials == TRIALS
    losses = [OmegaConf.load(conf_dir() / "sweep" / f"{name}.yaml").hydra.sweeper.params for name in ("seven", "tuned")]
    assert losses[0] == losses[1]


def test_the_whole_reality_check_runs_at_toy_size(tmp_path: Path) -> None:
    dataset = ["dataset=synthetic", "dataset.make.classes=24", "dataset.make.images_per_class=4", "dataset.make.image_px=16"]
    protocol = ["protocol.epochs=1", "protocol.steps_per_epoch=1", "protocol.batch_size=8", "protocol.embedding_dim=8"]
    size = ["protocol.image_px=12", "protocol.resize_px=12", "trunk=convnet", "trunk.make.channels=[4]"]
    paths = [f"paths.data={tmp_path}", f"paths.runs={tmp_path / 'runs'}"]
    budget = ["loss=cosface", "seed=0,1", "tuning.trials=2"]
    assert run(["sweep", "+sweep=reality_check_full", *dataset, *protocol, *size, *budget, *paths]) == 0
    rows = [read_row(path) for path in find_rows(tmp_path / "runs")]
    assert {(row["loss"], row.seed) for row in rows} == {(loss, seed) for loss in ("cosface", *BASELINES) for seed in (0, 1)}
    assert {(row["protocol"], row["protocol_fold"], row["tuning_fold"], row["lr_from"]) for row in rows} == {
        ("reality_check", "all", "all", "method")
    }
    assert {row["n_models"] for row in rows if row["loss"] == "cosface"} == {4}
    [study] = (tmp_path / "runs").glob("*/cosface/tune-*")
    assert [trial["epochs"] for trial in trials(study)] == [4, 4]
    assert len(compare(rows, tested=False)) == 1


def test_settings_of_tuning_do_not_change_the_identity_of_an_untuned_run(data: Path) -> None:
    plan, other = prepared(data), prepared(data, "tuning.fold=3", "tuning.seed=5")
    assert plan.run_id == other.run_id
    assert not any(name.startswith("tun") for name in plan.shared)


@pytest.mark.parametrize("override", ["trials=3", "folds=5", "fold=1", "epochs=1", "prune=false", "seed=1"])
def test_rows_with_different_budgets_are_in_different_tables(data: Path, override: str) -> None:
    plan, other = prepared(data, "tuning.trials=2"), prepared(data, "tuning.trials=2", f"tuning.{override}")
    assert plan.fingerprint != other.fingerprint
    rows = [
        rows_factory.make_row(loss=loss, fingerprint=one.fingerprint, **one.shared)
        for loss, one in (("triplet", plan), ("contrastive", other))
    ]
    assert len(compare(rows)) == 2


def test_a_tuned_run_is_evaluated_again_without_a_search(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poor = ["loss=contrastive", "loss.make.pos_margin=0.9", "loss.make.neg_margin=0.1"]
    assert run(["train", *overrides(data, tmp_path, *poor, "tuning.trials=3")]) == 0
    assert row_of(tmp_path, "contrastive")["tuned_trial"] != 1, "the test needs hyper-parameters that are not configured"
    monkeypatch.setattr("dmlbench.runs.runner.search", None)
    assert run(["evaluate", str(tmp_path), "--layer", "pooled"]) == 0
    assert "Contrastive" in capsys.readouterr().out
