"""The files of `conf/sweep/`: what their jobs have in common and in what they differ."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from dmlbench.config.compose import resolve
from dmlbench.config.jobs import JobList, all_jobs
from dmlbench.config.provenance import provenance
from dmlbench.errors import UserError

SEVEN = ["contrastive", "triplet", "proxy_nca", "softtriple", "multi_similarity", "cosface", "arcface"]
BASELINES = ["raw_pixels", "untrained"]


def jobs(*overrides: str) -> JobList:
    return all_jobs(["dataset=synthetic", *overrides])


def rates(found: JobList, loss: str) -> list[float | None]:
    settings = [resolve(job.composed) for job in found.jobs]
    return sorted({one.method.lr for one in settings if one.method.name == loss}, key=lambda rate: rate or 0.0)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], [1e-4, 3.333e-4, 1e-3, 3e-3, 1e-2]),
        (["protocol.lr=2e-5"], [2e-6, 6.667e-6, 2e-5, 6e-5, 2e-4]),
        (["protocol=standard", "loss=triplet,arcface"], [1e-5, 3.333e-5, 1e-4, 3e-4, 1e-3]),
        (["loss.lr=1e-3,2e-3"], [1e-3, 2e-3]),
    ],
)
def test_the_sensitivity_to_the_learning_rate_is_swept_relative_to_the_protocol(
    overrides: list[str], expected: list[float]
) -> None:
    found = jobs("sweep=lr_sensitivity", *overrides)
    losses = Counter(job.composed.choices["loss"] for job in found.jobs)
    assert list(losses) == (["triplet", "arcface"] if len(overrides) == 2 else SEVEN)
    assert set(losses.values()) == {len(expected)}
    assert all(rates(found, loss) == expected for loss in losses)


def test_jobs_and_rows_name_the_rate_as_a_number_and_seeds_share_it() -> None:
    found = jobs("sweep=lr_sensitivity", "loss=triplet", "seed=0,1")
    names = [f"loss=triplet seed={seed} loss.lr={rate}" for rate in (0.0001, 0.0003333, 0.001, 0.003, 0.01) for seed in (0, 1)]
    assert sorted(job.name for job in found.jobs) == sorted(names)
    recorded = json.loads(str(provenance(found.jobs[-1].composed)["overrides"]))
    assert recorded == ["dataset=synthetic", "loss=triplet", "loss.lr=0.01"]


def test_a_protocol_without_a_numeric_rate_is_refused() -> None:
    with pytest.raises(UserError, match=r"lr is 'fast', but a number"):
        jobs("sweep=lr_sensitivity", "protocol.lr=fast")


def test_the_whole_reality_check_has_50_trials_on_four_folds_and_ten_reproductions_of_each_loss() -> None:
    found = jobs("sweep=reality_check_full")
    assert Counter(job.composed.choices["loss"] for job in found.jobs) == dict.fromkeys([*BASELINES, *SEVEN], 10)
    settings = [resolve(job.composed) for job in found.jobs]
    assert {one.seed for one in settings} == set(range(10))
    [tuning] = {one.tuning for one in settings}
    assert (tuning.trials, tuning.folds, tuning.fold, tuning.epochs) == (50, 4, "all", None)
    [protocol] = {one.protocol for one in settings}
    assert (protocol.name, protocol.fold, protocol.folds, protocol.epochs) == ("reality_check", "all", 4, 1000)
    chosen = {(job.composed.choices["trunk"], job.composed.choices["optimizer"]) for job in found.jobs}
    assert chosen == {("bn_inception", "rmsprop")}
