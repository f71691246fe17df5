"""A frozen trunk's features: what its own output would be, computed once, whoever needs them and however often."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dmlbench.launch import announcement, compose, prepare
from PIL import Image
from safetensors.torch import load_file

from dmlbench.cli import run
from dmlbench.config.instantiate import build
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Protocol
from dmlbench.data.loader import make_batches
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.evaluation.metrics import score
from dmlbench.models.backbones.convnet import ConvNet
from dmlbench.models.embedder import build_embedder, pool
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.runs import experiment
from dmlbench.runs.experiment import embedded, initialised_objective
from dmlbench.system.seeding import derive_seed, seed_globals
from dmlbench.tables.table import compare
from dmlbench.training import feature_cache as features
from dmlbench.training import trainer as train_module
from dmlbench.training.embed import embed
from dmlbench.training.feature_cache import cached_features
from dmlbench.training.trainer import epoch_sampler, training_labels

WORDS = [
    "dataset.make.images_per_class=3",
    "dataset.train_images=150",
    "dataset.query_images=150",
    "dataset.gallery_images=150",
    "protocol.trunk_frozen=true",
    "protocol.epochs=3",
    "protocol.batch_size=24",
    "protocol.embedding_dim=8",
    "protocol.lr=0.01",
    "loss.samples_per_class=3",
    "trunk.make.channels=[4,8]",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images, and weights of a trunk; nothing is kept there by the tests."""
    place = tmp_path_factory.mktemp("data")
    torch.manual_seed(0)
    torch.save(ConvNet((4, 8)).state_dict(), place / "weights.pt")
    return place


def made(data: Path, place: Path, *words: str) -> tuple[Plan, Split]:
    """A plan whose features are kept in a place of its own, and its split."""
    plan, split = prepare(*compose(["loss=softtriple", *WORDS, f"paths.data={data}", f"paths.runs={place / 'runs'}", *words]))
    plan.folder.mkdir(parents=True, exist_ok=True)
    return replace(plan, caches=place / "cache"), split


def row_of(data: Path, place: Path, *words: str) -> Row:
    plan, split = made(data, place, *words)
    return experiment.run(plan, split)


def files(place: Path) -> list[Path]:
    return sorted((place / "cache").glob("features-*.safetensors"))


def weights(data: Path) -> str:
    return f"trunk.weights={data / 'weights.pt'}"


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of a trunk was given, less the trial that finds its channels."""
    forward, calls = ConvNet.forward, []

    def counted(self: ConvNet, images: torch.Tensor) -> torch.Tensor:
        if images.any():
            calls.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(ConvNet, "forward", counted)
    return calls


# What is computed


@pytest.mark.parametrize("pooling", ["avg", "max", "avg+max"])
def test_the_features_are_the_trunks_own_output_on_the_centre_crops(data: Path, tmp_path: Path, pooling: Any) -> None:
    plan, split = made(data, tmp_path, f"protocol.pooling={pooling}", "trunk.channel_order=BGR")
    model = build_embedder(plan).eval()
    batches, _ = cached_features(model, plan, split)
    ids = [7, 250, 3]
    [(images, _)] = make_batches(plan, split).test(ids)
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (plan.trunk.mean, plan.trunk.std))
    with torch.no_grad():
        expected = pool(model.trunk((images.flip(1).float() - mean) / std), pooling)
    [(found, same)] = batches.test(ids)
    assert found.dtype == torch.float32
    assert same.tolist() == ids
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_training_on_features_is_training_with_a_frozen_trunk_in_every_step(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path, "protocol.schedule=constant")
    plan, split = made(data, tmp_path, "protocol.schedule=constant")
    model, objective, images = build_embedder(plan), initialised_objective(plan), make_batches(plan, split)
    assert objective is not None
    ids, labels, protocol = split.ids("train"), training_labels(split), plan.protocol
    heads = {"params": list(model.projection.parameters()), "lr": protocol.lr * protocol.head_lr_scale}
    own = {"params": list(objective.parameters()), "lr": protocol.lr * plan.method.lr_scale}
    optimizer = build("optimizer", plan.optimizer, [heads, own])
    model.eval()
    steps = [batch for epoch in range(protocol.epochs) for batch in epoch_sampler(plan, labels)(epoch)]
    for step, batch in enumerate(steps):
        [(crops, _)] = images.test(ids[batch].tolist())
        seed_globals(derive_seed(plan.seed, "step", step))
        loss = objective(model(crops), torch.from_numpy(labels[batch]))
        model.zero_grad()
        objective.zero_grad()
        loss.backward()
        optimizer.step()
    embeddings = embedded(model, split, ("query", "gallery"), images, plan)
    saved = load_file(plan.folder / "embeddings.safetensors")["embeddings"]
    torch.testing.assert_close(saved, embeddings.rows, rtol=1e-4, atol=1e-5)
    assert row["map_at_r"] == pytest.approx(score(embeddings.ranking(depth=1), (1,))["map_at_r"], abs=1e-3)


def test_the_trunk_stays_as_it_came_and_the_head_learns(data: Path, tmp_path: Path) -> None:
    row_of(data, tmp_path)
    plan, _ = made(data, tmp_path)
    before = build_embedder(plan).state_dict()
    after = torch.load(plan.folder / "model.pt", weights_only=True)["model"]
    assert after.keys() == before.keys()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {"projection.weight", "projection.bias"}


def test_the_row_tells_the_protocol_as_it_was_run(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path, "protocol.train_crop=random", "protocol.flip=true", "protocol.freeze_batch_norm=false")
    told = {name: row[f"protocol_{name}"] for name in ("trunk_frozen", "train_crop", "flip", "freeze_batch_norm")}
    assert told == {"trunk_frozen": True, "train_crop": "center", "flip": False, "freeze_batch_norm": True}
    plan, split = made(data, tmp_path)
    assert plan.run_id == row["run_id"]  # what the frozen trunk does not see makes no other run
    assert "features  of the frozen trunk, computed once: centre crops, none mirrored" in announcement(plan, split)


def test_frozen_and_learning_trunks_never_share_a_table(data: Path, tmp_path: Path) -> None:
    crops = ["protocol.train_crop=center", "protocol.flip=false", "protocol.freeze_batch_norm=true"]
    frozen = row_of(data, tmp_path)
    learning = row_of(data, tmp_path, *crops, "protocol.trunk_frozen=false")
    assert learning["features_seconds"] is None
    assert len(compare([frozen, learning])) == 2


def test_mixed_pooling_is_refused_in_one_sentence(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", *WORDS, "protocol.pooling=mixed", f"paths.data={data}"]) == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert "protocol.pooling=mixed learns its share" in sentence


# Once, for all


def test_methods_seeds_folds_and_batch_sizes_share_one_pass(data: Path, tmp_path: Path, passes: list[int]) -> None:
    first = row_of(data, tmp_path, weights(data))
    assert sum(passes) == 300
    assert first["features_seconds"] > 0  # type: ignore[operator]
    for words in (
        ["loss=triplet"],
        ["seed=1"],
        ["loss=untrained"],
        ["protocol.batch_size=12"],
        ["protocol.fold=all", "protocol.folds=2", "protocol.batch_size=12", "protocol.epochs=1"],
    ):
        assert row_of(data, tmp_path, weights(data), *words)["features_seconds"] == 0
    assert sum(passes) == 300
    assert len(files(tmp_path)) == 1


def test_a_trunk_from_scratch_has_features_a_seed(data: Path, tmp_path: Path) -> None:
    for words in (["seed=0"], ["seed=1"], ["seed=0", "loss=triplet"]):
        row_of(data, tmp_path, *words)
    assert len(files(tmp_path)) == 2
    assert not torch.equal(*(load_file(file)["features"] for file in files(tmp_path)))


@pytest.mark.parametrize(
    "word",
    [
        "protocol.image_px=28",
        "protocol.resize_px=40",
        "protocol.pooling=max",
        "protocol.threads=2",
        "trunk.make.channels=[4,9]",
        "trunk.mean=[0,0,0]",
        "trunk.input_range=1.5",
        "dataset.make.images_per_class=2 dataset.train_images=100 dataset.query_images=100 dataset.gallery_images=100",
    ],
)
def test_what_decides_a_feature_has_a_file_of_its_own(data: Path, tmp_path: Path, word: str) -> None:
    for words in ([], word.split()):
        plan, split = made(data, tmp_path, *words)
        cached_features(build_embedder(plan), plan, split)
    assert len(files(tmp_path)) == 2


def _open(data: Path, place: Path, computed: Any) -> None:
    compute = features._computed

    def counted(*args: Any) -> torch.Tensor:
        with computed.get_lock():
            computed.value += 1
        return compute(*args)

    features._computed = counted
    torch.set_num_threads(1)
    plan, split = made(data, place)
    cached_features(build_embedder(plan), plan, split)


def test_of_jobs_that_start_together_one_computes_and_all_read(data: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    computed = context.Value("i", 0)
    jobs = [context.Process(target=_open, args=(data, tmp_path, computed)) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert computed.value == 1


# When the file is not what it should be


@pytest.fixture
def counted(data: Path, tmp_path: Path, passes: list[int]) -> Callable[[], int]:
    """Asks for the features and says how many images went through the trunk for them."""
    plan, split = made(data, tmp_path)

    def ask() -> int:
        passes.clear()
        batches, _ = cached_features(build_embedder(plan), plan, split)
        assert len(batches.features) == 300
        return sum(passes)

    assert ask() == 300
    assert ask() == 0
    return ask


@pytest.mark.parametrize("kept", [0, 4, 200, -1])
def test_a_file_that_was_cut_short_is_computed_anew(tmp_path: Path, counted: Callable[[], int], kept: int) -> None:
    [file] = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    assert counted() == 300
    assert file.read_bytes() == whole
    assert counted() == 0


def test_images_that_changed_are_computed_anew(data: Path, tmp_path: Path, counted: Callable[[], int]) -> None:
    _, split = made(data, tmp_path)
    image = split.paths()[0]
    original = image.read_bytes()
    [file] = files(tmp_path)
    before = load_file(file)["features"]
    Image.new("RGB", (28, 28), "red").save(image)
    try:
        assert counted() == 300
        after = load_file(file)["features"]
        assert (before != after).any(1).nonzero().flatten().tolist() == [0]
    finally:
        image.write_bytes(original)


def test_what_a_killed_job_left_is_removed_by_the_next(tmp_path: Path, counted: Callable[[], int]) -> None:
    [file] = files(tmp_path)
    file.unlink()
    left = file.with_name(f".{file.name}.12345.tmp")
    left.write_bytes(b"half")
    assert counted() == 300
    assert not left.exists()


def test_a_place_that_cannot_be_written_is_one_sentence(data: Path, tmp_path: Path) -> None:
    plan, split = made(data, tmp_path)
    (tmp_path / "cache").touch()
    with pytest.raises(UserError, match=r"^the features .* cannot be kept: .*paths\.data=FOLDER$"):
        cached_features(build_embedder(plan), plan, split)


# With everything else


class PowerCutError(BaseException):
    pass


@pytest.mark.parametrize("words", [[], ["protocol.fold=all", "protocol.folds=2", "protocol.batch_size=12"]])
def test_a_run_that_was_killed_resumes_to_the_same_row_with_a_head_alone_in_its_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    whole = row_of(data, tmp_path / "whole", *words)
    save, names = train_module.save_checkpoint, set()

    def cut(file: Path, *args: Any) -> None:
        save(file, *args)
        names.update(torch.load(file, weights_only=True)["model"])
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "save_checkpoint", cut)
        with pytest.raises(PowerCutError):
            row_of(data, tmp_path / "cut", *words)
    assert names == {"projection.weight", "projection.bias"}
    again = row_of(data, tmp_path / "cut", *words)
    assert again["n_resumed"] == 1
    assert again.outcome == whole.outcome


def test_a_model_is_selected_on_validation_and_the_oracle_looks_as_with_images(data: Path, tmp_path: Path) -> None:
    words = [weights(data), "protocol.selection=validation", "protocol.fold=1", "oracle=true"]
    row = row_of(data, tmp_path, *words)
    same = row_of(data, tmp_path, *words, "protocol.trunk_frozen=false", "protocol.epochs=0")
    # before the first step both are the same model on the same crops
    for score_of in ("untrained_score", "untrained_trunk_score"):
        assert row[score_of] == pytest.approx(same[score_of], abs=1e-3)
    assert row["selected_score"] >= row["untrained_score"]  # type: ignore[operator]
    assert row["oracle_map_at_r"] >= row["map_at_r"]  # type: ignore[operator]


def test_a_saved_run_is_embedded_again_from_its_images_to_the_same_numbers(data: Path, tmp_path: Path) -> None:
    words = [*WORDS, f"paths.data={data}", f"paths.runs={tmp_path}"]
    assert run(["train", "--multirun", "loss=softtriple,untrained", *words]) == 0
    [untrained, trained] = sorted((read_row(file) for file in find_rows(tmp_path)), key=lambda row: row["loss"] != "untrained")
    assert trained.folder is not None
    plan, split = prepare(*compose(["loss=softtriple", *words]))
    model = build_embedder(plan)
    model.load_state_dict(torch.load(trained.folder / "model.pt", weights_only=True)["model"])
    saved = load_file(trained.folder / "embeddings.safetensors")
    rows = embed(model, make_batches(plan, split), saved["ids"].tolist(), "cpu", "fp32")
    torch.testing.assert_close(rows, saved["embeddings"], rtol=1e-4, atol=1e-5)
    assert run(["evaluate", str(trained.folder), "layer=pooled"]) == 0
    [pooled] = [read_row(file) for file in find_rows(trained.folder) if file.parent != trained.folder]
    assert pooled["map_at_r"] == pytest.approx(untrained["map_at_r"], abs=1e-3)
    assert pooled["map_at_r"] != trained["map_at_r"]


def test_only_images_with_a_role_go_through_the_trunk(data: Path, tmp_path: Path, passes: list[int]) -> None:
    plan, split = made(data, tmp_path)
    frame = split.frame.copy()
    frame.loc[[1, 299], ["train", "val", "query", "gallery"]] = False
    batches, _ = cached_features(build_embedder(plan), plan, replace(split, frame=frame))
    assert sum(passes) == 298
    whole, _ = cached_features(build_embedder(plan), plan, split)
    for some, same in zip(batches.test([0, 2, 298]), whole.test(np.array([0, 2, 298])), strict=True):
        torch.testing.assert_close(some[0], same[0], rtol=1e-5, atol=1e-6)


def test_a_protocol_whose_trunk_learns_is_run_as_it_is_written() -> None:
    protocol = Protocol(name="p", version=1, epochs=1, batch_size=2, embedding_dim=2, image_px=24)
    assert protocol.resolved == protocol
