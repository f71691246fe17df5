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


def test_the_ablation_of_sgml_has_its_four_methods() -> None:
    found = jobs("sweep=sgml_ablation")
    assert [job.composed.choices["loss"] for job in found.jobs] == ["binomial_deviance", "attributes_only", "multitask", "sgml"]
    methods = [resolve(job.composed).method for job in found.jobs]
    assert [one.attributes for one in methods] == ["ignored", "predicted", "predicted", "predicted"]
    assert [one.layer for one in methods] == ["embedding", "fully_connected", "embedding", "embedding"]
    values = [{name: (one.make or {}).get(name) for name in ("alpha", "beta", "attribute_weight")} for one in methods]
    assert values[2] == values[3]
    assert {**values[3], "attribute_weight": None} == values[0]


def test_the_sensitivity_of_sgml_is_the_grid_of_the_paper() -> None:
    found = [resolve(job.composed).method.make or {} for job in jobs("sweep=sgml_sensitivity").jobs]
    expected = {(alpha, beta) for alpha in (2, 2.5, 2.7, 3) for beta in (0, 0.1, 0.3, 0.5, 0.7)}
    assert {(make["alpha"], make["beta"]) for make in found} == expected
    assert len(found) == 20


def test_unknown_classes_compares_batch_and_conventional_triplets_in_four_losses_and_with_local_positives() -> None:
    every = ["", "_squared", "_ratio", "_soft"]
    expected = [f"{name}{form}{local}" for name in ("batch_all", "conventional") for form in every for local in ("", "_local")]
    expected = [name for name in expected if not (name.startswith("conventional") and name.endswith("_local"))]
    found = all_jobs(["sweep=unknown_classes", "dataset=cub"])
    assert sorted(job.composed.choices["loss"] for job in found.jobs) == sorted(["untrained", *expected])
    settings = [resolve(job.composed) for job in found.jobs]
    [protocol] = {one.protocol.name for one in settings}
    first = settings[0].protocol
    assert (protocol, first.embedding_dim, first.image_px, first.crop_to_box) == ("unknown_classes", 64, 299, True)
    assert (first.epochs * (first.steps_per_epoch or 0), first.batch_size) == (1000, 64)
    assert (first.selection, first.selection_metric) == ("validation", "purity")
    assert {job.composed.choices["trunk"] for job in found.jobs} == {"inception_v3"}
    assert {one.sampler["samples_per_class"] for one in settings} == {16}
    builds_triplets = {one.method.name for one in settings if one.method.sampler is not None}
    assert builds_triplets == {name for name in expected if name.startswith("conventional")}


def test_unknown_classes_also_composes_for_other_data_sets_and_protocols() -> None:
    found = jobs("sweep=unknown_classes", "protocol=quick", "trunk=convnet", "loss=batch_all,conventional", "seed=0,1,2")
    assert len(found.jobs) == 6
    assert {job.composed.choices["protocol"] for job in found.jobs} == {"quick"}
