"""Jobs: one composed configuration per combination of values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import HydraException
from omegaconf import DictConfig

from dmlbench.cli import run
from dmlbench.config import compose as compose_module
from dmlbench.config.compose import compose, compose_with_hydra, resolve
from dmlbench.config.jobs import BASIC_LAUNCHER, Job, all_jobs, one_job
from dmlbench.config.typed import typed
from dmlbench.errors import UserError


def test_one_job_has_one_configuration_and_refuses_several_values() -> None:
    jobs = one_job(["loss=triplet", "seed=3", "paths.runs=r"])
    [job] = jobs.jobs
    assert job.name == "loss=triplet seed=3"
    assert job.composed.cfg == compose(["loss=triplet", "seed=3", "paths.runs=r"]).cfg
    assert (jobs.overrides, jobs.runs_dir, jobs.launcher) == (("loss=triplet", "seed=3", "paths.runs=r"), Path("r"), "basic")
    with pytest.raises(HydraException):
        one_job(["loss=triplet,arcface"])


def test_there_is_one_job_per_combination_of_values() -> None:
    jobs = all_jobs(["loss=triplet,arcface", "protocol.epochs=1,2", "seed=0"])
    assert [job.name for job in jobs.jobs] == [
        "loss=triplet seed=0 protocol.epochs=1",
        "loss=triplet seed=0 protocol.epochs=2",
        "loss=arcface seed=0 protocol.epochs=1",
        "loss=arcface seed=0 protocol.epochs=2",
    ]
    assert jobs.swept == ("protocol.epochs",)
    assert [job.composed.cfg.protocol.epochs for job in jobs.jobs] == [1, 2, 1, 2]
    assert jobs.jobs[1].composed.overrides == ("loss=triplet", "protocol.epochs=2", "seed=0")


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The overrides that Hydra composes for jobs, in their order."""
    found: list[tuple[str, ...]] = []

    def recording(overrides: Sequence[str], config_dir: str | Path | None = None) -> DictConfig:
        found.append(tuple(overrides))
        return compose_with_hydra(overrides, config_dir)

    monkeypatch.setattr(compose_module, "compose_with_hydra", recording)
    return found


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["loss=triplet,arcface", "seed=0,1,2"], [("loss=triplet",), ("loss=arcface",)]),
        (["loss=triplet", "seed=0", "loss.lr=null,0.5", "protocol.lr=1e-3,2e-3"], [("loss=triplet",)]),
        (["protocol.head_layers=[8],[9]", "protocol.lr=1,2"], [("protocol.head_layers=[8]",), ("protocol.head_layers=[9]",)]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else "",
)
def test_chosen_files_are_composed_once_for_all_jobs(
    overrides: list[str], expected: list[tuple[str, ...]], composed: list[tuple[str, ...]]
) -> None:
    jobs = all_jobs(overrides).jobs
    assert composed == expected
    assert len(jobs) > len(expected)
    for job in jobs:
        alone = compose(job.composed.overrides)
        assert job.composed.cfg == alone.cfg
        assert job.composed.choices == alone.choices
        assert str(resolve(job.composed).seed) in job.name


def test_a_value_can_refer_to_the_chosen_files_of_its_own_job() -> None:
    jobs = all_jobs(["loss=triplet,arcface", "seed=0,1", "loss.label=${hydra:runtime.choices.loss}"]).jobs
    assert [resolve(job.composed).method.label for job in jobs] == ["triplet", "triplet", "arcface", "arcface"]


def test_a_file_of_the_sweep_group_gives_the_values_that_the_overrides_leave_open() -> None:
    jobs = all_jobs(["sweep=seven", "seed=0"])
    assert len(jobs.jobs) == 9
    assert list(jobs.sweep_params) == ["loss"]
    assert "untrained" in {job.composed.choices["loss"] for job in jobs.jobs}
    chosen = all_jobs(["sweep=seven", "loss=triplet", "seed=0"])
    assert [job.name for job in chosen.jobs] == ["loss=triplet seed=0"]
    assert chosen.sweep_params == {}


def test_a_hyper_parameter_of_one_of_several_losses_is_refused_for_the_others() -> None:
    with pytest.raises(HydraException, match=r"Could not override 'loss\.make\.scale'"):
        all_jobs(["loss=arcface,triplet", "loss.make.scale=3"])


def test_a_method_without_training_has_one_job_of_a_sweep_over_rates_and_no_rate() -> None:
    jobs = all_jobs(["loss=triplet,raw_pixels", "loss.lr=0.01,0.02", "loss.head_lr_scale=3", "seed=0,1"]).jobs
    assert [job.name for job in jobs] == [
        *(f"loss=triplet seed={seed} loss.lr={rate}" for rate in ("0.01", "0.02") for seed in (0, 1)),
        *(f"loss=raw_pixels seed={seed}" for seed in (0, 1)),
    ]
    alone = one_job(["loss=raw_pixels", "seed=1"]).jobs[0].composed
    assert resolve(jobs[-1].composed) == resolve(alone)
    assert sorted(jobs[-1].composed.overrides) == sorted(alone.overrides)
    from_file = all_jobs(["sweep=lr_sensitivity", "loss=raw_pixels,untrained", "seed=0"]).jobs
    assert [job.name for job in from_file] == ["loss=raw_pixels seed=0", "loss=untrained seed=0"]


@pytest.mark.parametrize("override", ["lr=1", "head_lr_scale=2", "lr_scale=2", "weight_decay=0.1", "proxy_init=unit"])
def test_a_value_of_training_is_refused_for_one_run_without_training(override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(UserError, match=rf"^loss\.{key} has no effect with loss=untrained, which trains nothing$"):
        one_job(["loss=untrained", f"loss.{override}"])


def test_the_launcher_and_the_users_directory_are_those_of_the_overrides(tmp_path: Path) -> None:
    assert all_jobs(["seed=0,1"]).launcher == BASIC_LAUNCHER
    jobs = all_jobs(["hydra/launcher=joblib", "seed=0"], str(tmp_path))
    assert (jobs.launcher, jobs.config_dir) == ("joblib", tmp_path)


def test_a_wrong_value_of_any_job_is_refused() -> None:
    with pytest.raises(UserError, match=r"protocol\.epochs is -2; it must be at least 0"):
        all_jobs(["protocol.epochs=1,-2"])
    with pytest.raises(UserError, match=r"protocol\.epochs is -2; it must be at least 0"):
        one_job(["protocol.epochs=-2"])
    with pytest.raises(UserError, match=r"protocol\.step_epochs has no effect with protocol\.schedule=cosine"):
        all_jobs(["protocol.schedule=step,cosine", "protocol.step_epochs=3"])


@pytest.mark.parametrize(
    ("overrides", "most"),
    [
        (["loss=triplet,arcface,cosface", "protocol.lr=1,2,-1,4", "seed=0,1"], 3),
        (["loss=triplet,arcface,cosface", "protocol.lr=1,-1,3,4", "protocol.epochs=1,2"], 2),
        (["protocol.lr=1,2,3", "protocol.epochs=1,-1", "loss=triplet,arcface,cosface"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_value_is_refused_as_soon_as_it_is_composed_and_every_value_is_composed_early(
    overrides: list[str], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    check = Job.check
    monkeypatch.setattr(Job, "check", lambda job: (checked.append(job.name), check(job)))
    with pytest.raises(UserError, match=r"protocol\.\w+ is -1(\.0)?; it must be at least 0"):
        all_jobs(overrides)
    assert len(checked) == most


@pytest.mark.parametrize(
    ("command", "n"),
    [
        (["train", "loss=triplet"], 1),
        (["train", "loss=arcface", "protocol.fold=all"], 1),
        (["sweep", "loss=triplet", "seed=0,1"], 6),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_values_of_a_job_are_resolved_once_before_the_data_are_read_and_once_with_their_facts(
    command: list[str], n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved: Counter[str] = Counter()

    def recording(configuration_class: type, group: str, values: Mapping[str, Any]) -> object:
        resolved[group] += 1
        return typed(configuration_class, group, values)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compose_module, "typed", recording)
    small = [
        "dataset=synthetic",
        "dataset.make.classes=16",
        "dataset.make.images_per_class=4",
        "trunk=convnet",
        "protocol=quick",
    ]
    assert run([*command, *small, "protocol.epochs=1", "protocol.batch_size=8"]) == 0
    assert resolved == dict.fromkeys(("dataset", "trunk", "loss", "protocol", "tuning"), 2 * n)
