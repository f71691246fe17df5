"""Training on triplets that are built before the network: mined with the model, resumed to the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dmlbench.cli import run
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Method
from dmlbench.data.loader import Batches
from dmlbench.data.split import Split
from dmlbench.models.embedder import Embedder, build_embedder
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.training import trainer
from dmlbench.training.epoch_sampler import EpochSampler, training_labels
from dmlbench.training.trained_model import initial_objective
from dmlbench.training.trainer import train

MakePlan = Callable[..., Plan]
LOSS = {"_target_": "dmlbench.losses.triplets.TripletLoss", "average": "all", "form": "ratio"}  # never zero
TRIPLETS = {"_target_": "dmlbench.data.triplet_sampler.triplets", "hard_share": 0.8, "candidates": 4}


def plan_of(make_plan: MakePlan, runs: Path, mining: str = "hard", every: int = 2, **changes: Any) -> Plan:
    method = Method("triplet", "Triplet", "pair", 2, make=LOSS)
    protocol = {"epochs": 5, "steps_per_epoch": 4, "batch_size": 9, **changes.pop("protocol", {})}
    sampler = {**TRIPLETS, "mining": mining, "regenerate_every": every}
    return make_plan(runs, **{"method": method, "protocol": protocol, "sampler": sampler, **changes})


def weights(plan: Plan, split: Split) -> dict[str, torch.Tensor]:
    model, objective = build_embedder(plan), initial_objective(plan)
    assert objective is not None
    train(model, objective, split, Batches(split.paths(), plan.protocol, plan.workers), plan)
    return model.state_dict()


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, make_plan: MakePlan, colours: Split) -> dict[str, torch.Tensor]:
    return weights(plan_of(make_plan, tmp_path_factory.mktemp("reference")), colours)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_a_training_that_is_interrupted_before_or_after_triplets_are_drawn_ends_with_the_same_weights(
    tmp_path: Path,
    make_plan: MakePlan,
    colours: Split,
    reference: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    epochs: int,
) -> None:
    """Triplets are drawn in the epochs 0, 2 and 4, with the model at their start."""
    save_checkpoint, calls = trainer.save_checkpoint, []

    def interrupted(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        calls.append(True)
        if len(calls) == epochs:
            raise OSError("power failure")

    plan = plan_of(make_plan, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", interrupted)
        with pytest.raises(OSError, match="power failure"):
            weights(plan, colours)
    assert equal(weights(plan, colours), reference)


def test_processes_that_load_images_ahead_do_not_change_the_weights(
    tmp_path: Path, make_plan: MakePlan, colours: Split, reference: dict[str, torch.Tensor]
) -> None:
    assert equal(weights(plan_of(make_plan, tmp_path, workers=1), colours), reference)


def test_mining_and_its_period_change_the_weights(
    tmp_path: Path, make_plan: MakePlan, colours: Split, reference: dict[str, torch.Tensor]
) -> None:
    for mining, every in (("random", 2), ("hard", 1)):
        assert not equal(weights(plan_of(make_plan, tmp_path / f"{mining}{every}", mining, every), colours), reference)


def test_triplets_are_mined_in_evaluation_mode_with_the_model_at_the_start_of_their_epoch(
    tmp_path: Path, make_plan: MakePlan, colours: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    embed = trainer.embed

    def recording(model: Embedder, batches: Any, ids: list[int], device: str) -> torch.Tensor:
        found = embed(model, batches, ids, device)
        seen.append(found)
        assert not model.training
        assert ids == colours.ids("train").tolist()
        return found

    monkeypatch.setattr(trainer, "embed", recording)
    plan = plan_of(make_plan, tmp_path)
    weights(plan, colours)
    assert len(seen) == 3
    untrained = build_embedder(plan)
    expected = embed(untrained, Batches(colours.paths(), plan.protocol), colours.ids("train").tolist(), "cpu")
    assert torch.equal(seen[0], expected)
    assert not torch.equal(seen[0], seen[1])


def test_the_sampler_of_a_method_takes_as_many_steps_as_batches_of_other_methods(
    tmp_path: Path, make_plan: MakePlan, colours: Split
) -> None:
    labels = training_labels(colours)
    own = Method("triplet", "Triplet", "pair", 2, make=LOSS, sampler=TRIPLETS)
    shared = EpochSampler(plan_of(make_plan, tmp_path, protocol={"steps_per_epoch": None}), labels)(0)
    method = EpochSampler(plan_of(make_plan, tmp_path, protocol={"steps_per_epoch": None}, method=own), labels)(0)
    assert (shared.shape, method.shape) == ((10, 9), (3, 9))  # 30 images: each an anchor, or in one batch
    np.testing.assert_array_equal(method, shared[:3])


# On the command line

TINY = [
    *("dataset=synthetic", "dataset.make.classes=8", "dataset.make.images_per_class=6", "dataset.make.image_px=16"),
    *("protocol.epochs=2", "protocol.image_px=16", "trunk.make.channels=[4]", "device=cpu", "workers=0"),
]


def test_batch_triplets_and_conventional_ones_differ_in_the_method_only_so_one_table_compares_them(tmp_path: Path) -> None:
    for overrides in (["loss=batch_all"], ["loss=conventional", "loss.sampler.mining=semi_hard", "loss.make.swap=true"]):
        arguments = [*TINY, *overrides, "protocol.batch_size=8", f"paths.data={tmp_path}", f"paths.runs={tmp_path / 'runs'}"]
        assert run(["train", *arguments]) == 0
    rows = {str(row["loss"]): row for row in map(read_row, find_rows(tmp_path / "runs"))}
    batch, conventional = rows["batch_all"], rows["conventional"]
    assert batch["fingerprint"] == conventional["fingerprint"]
    assert batch["sampler"] == conventional["sampler"] == "m_per_class"
    assert (batch.get("loss_sampler"), conventional["loss_sampler_mining"]) == (None, "semi_hard")


def test_a_class_with_one_image_is_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label, n in (("a", 3), ("b", 1), ("c", 3), ("d", 3)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(n):
            colour = (60 * ord(label) % 256, 80 * number, 10)
            Image.new("RGB", (20, 20), colour).save(tmp_path / "images" / label / f"{number}.png")
    images = ["dataset=folder", f"dataset.root={tmp_path / 'images'}", "trunk=convnet", "protocol=quick", "device=cpu"]
    protocol = ["protocol.image_px=16", "protocol.batch_size=3"]
    arguments = [*images, *protocol, f"paths.data={tmp_path}", f"paths.runs={tmp_path / 'runs'}"]
    for further in (["loss=conventional"], ["sampler=triplets", "loss=batch_all"]):
        assert run(["train", *arguments, *further]) == 2
        error = capsys.readouterr().err.strip()
        assert "1 training class has one image, but an anchor needs a positive; use sampler=m_per_class with" in error
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["sampler=triplets", "loss=conventional_soft", "protocol.batch_size=2"], "use 3"),
        (["sampler=triplets", "loss=triplet", "protocol.batch_size=8"], "need a multiple of 3; use 6 or 9"),
        (["loss=conventional", "loss.sampler.smaller_batch=false", "protocol.batch_size=8"], "a multiple of 3; use 6 or 9"),
        (["sampler=triplets", "loss=smooth_ap", "protocol.batch_size=9"], "cannot learn from triplets that the sampler"),
        (
            ["sampler=triplets", "loss=batch_all_local", "protocol.batch_size=9"],
            "the sampler builds triplets, but loss.make.positive_percentile is 60: local positives are chosen among all",
        ),
        (["loss=conventional", "loss.sampler.candidates=2.5", "protocol.batch_size=9"], "candidates is 2.5, but "),
        (["loss=batch_all_local", "loss.make.positive_percentile=abc", "protocol.batch_size=8"], "needs a number or null"),
        (["loss=conventional", "loss.sampler.mining=easy", "protocol.batch_size=9"], "mining is 'easy'; it must be random"),
        (["sampler=triplets", "+sampler.state=1", "protocol.batch_size=9"], "sampler.state has no effect: training passes"),
        (["loss=batch_all", "loss.make.form=cubic", "protocol.batch_size=8"], "form is 'cubic'; it must be hinge, hinge"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], sentence: str
) -> None:
    assert run(["train", *TINY, *overrides, f"paths.data={tmp_path}", f"paths.runs={tmp_path / 'runs'}"]) == 2
    error = capsys.readouterr().err.strip()
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.glob("runs/**/row.json"))
