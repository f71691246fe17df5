"""Features of a frozen trunk: equal to the output of the trunk, computed once, and shared by methods, seeds and processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save

from dmlbench.cli import run
from dmlbench.config.compose import compose
from dmlbench.config.instantiate import build
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Protocol
from dmlbench.data.loader import make_batches
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.evaluation.metrics import score
from dmlbench.models.backbones.convnet import ConvNet
from dmlbench.models.embedder import build_embedder
from dmlbench.models.head import pool
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.runs import experiment
from dmlbench.runs.prepare import prepare
from dmlbench.runs.runner import announcement
from dmlbench.system.seeding import derive_seed, seed_globals
from dmlbench.tables.table import compare
from dmlbench.training import feature_cache, trainer
from dmlbench.training.embed import embed
from dmlbench.training.epoch_sampler import EpochSampler, training_labels
from dmlbench.training.feature_cache import cached_features
from dmlbench.training.trained_model import embed_split, initial_objective

TRAINING_CLASSES, N_IMAGES = 12, 72
OVERRIDES = [
    "dataset=synthetic",
    f"dataset.make.classes={2 * TRAINING_CLASSES}",
    "dataset.make.images_per_class=3",
    "dataset.make.image_px=36",
    "protocol.trunk_frozen=true",
    "protocol.epochs=3",
    "protocol.batch_size=12",
    "protocol.embedding_dim=8",
    "protocol.lr=0.01",
    "loss.samples_per_class=3",
    "trunk.make.channels=[4,8]",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the images, and of weights for the trunk."""
    directory = tmp_path_factory.mktemp("data")
    torch.manual_seed(0)
    torch.save(ConvNet((4, 8)).state_dict(), directory / "weights.pt")
    return directory


def prepared(data: Path, directory: Path, *overrides: str) -> tuple[Plan, Split]:
    """A plan whose features are cached in `directory`, and its split."""
    paths = [f"paths.data={data}", f"paths.runs={directory / 'runs'}"]
    plan, split = prepare(compose(["loss=softtriple", *OVERRIDES, *paths, *overrides]))
    plan.folder.mkdir(parents=True, exist_ok=True)
    return replace(plan, caches=directory / "cache"), split


def row_of(data: Path, directory: Path, *overrides: str) -> Row:
    return experiment.run(*prepared(data, directory, *overrides))


def cache_files(directory: Path) -> list[Path]:
    return sorted((directory / "cache").glob("features-*.safetensors"))


def weights(data: Path) -> str:
    return f"trunk.weights={data / 'weights.pt'}"


@pytest.fixture
def trunk_inputs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of images in each call of a trunk, without the blank images that determine its channels."""
    forward, calls = ConvNet.forward, []

    def counting(self: ConvNet, images: torch.Tensor) -> torch.Tensor:
        if images.any():
            calls.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(ConvNet, "forward", counting)
    return calls


# Which features are computed


@pytest.mark.parametrize("pooling", ["avg", "max", "avg+max"])
def test_features_are_the_output_of_the_trunk_on_centre_crops(data: Path, tmp_path: Path, pooling: Any) -> None:
    plan, split = prepared(data, tmp_path, f"protocol.pooling={pooling}", "trunk.channel_order=BGR")
    model = build_embedder(plan).eval()
    batches, _ = cached_features(model, plan, split)
    ids = [7, 50, 3]
    [(images, _)] = make_batches(plan, split).test(ids)
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (plan.trunk.mean, plan.trunk.std))
    with torch.no_grad():
        expected = pool(model.trunk((images.flip(1).float() - mean) / std), pooling)
    [(features, feature_ids)] = batches.test(ids)
    assert features.dtype == torch.float32
    assert feature_ids.tolist() == ids
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-6)


def test_training_on_features_equals_training_with_a_frozen_trunk_in_every_step(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path, "protocol.schedule=constant")
    plan, split = prepared(data, tmp_path, "protocol.schedule=constant")
    model, objective, images = build_embedder(plan), initial_objective(plan), make_batches(plan, split)
    assert objective is not None
    ids, labels, protocol = split.ids("train"), training_labels(split), plan.protocol
    head = {"params": list(model.projection.parameters()), "lr": protocol.lr * protocol.head_lr_scale}
    loss_parameters = {"params": list(objective.parameters()), "lr": protocol.lr * plan.method.lr_scale}
    optimizer = build("optimizer", plan.optimizer, [head, loss_parameters])
    model.eval()
    steps = [batch for epoch in range(protocol.epochs) for batch in EpochSampler(plan, labels)(epoch)]
    for step, batch in enumerate(steps):
        [(crops, _)] = images.test(ids[batch].tolist())
        seed_globals(derive_seed(plan.seed, "step", step))
        loss = objective(model(crops), torch.from_numpy(labels[batch]))
        model.zero_grad()
        objective.zero_grad()
        loss.backward()
        optimizer.step()
    embeddings = embed_split(model, split, ("query", "gallery"), images, plan)
    saved = load_file(plan.folder / "embeddings.safetensors")["embeddings"]
    torch.testing.assert_close(saved, embeddings.rows, rtol=1e-4, atol=1e-5)
    assert row["map_at_r"] == pytest.approx(score(embeddings.ranking(depth=1), (1,))["map_at_r"], abs=1e-3)


def test_only_the_head_is_trained(data: Path, tmp_path: Path) -> None:
    row_of(data, tmp_path)
    plan, _ = prepared(data, tmp_path)
    before = build_embedder(plan).state_dict()
    after = torch.load(plan.folder / "model.pt", weights_only=True)["model"]
    assert after.keys() == before.keys()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"projection.weight", "projection.bias"}


def test_only_images_with_a_role_pass_through_the_trunk(data: Path, tmp_path: Path, trunk_inputs: list[int]) -> None:
    plan, split = prepared(data, tmp_path)
    frame = split.frame.copy()
    frame.loc[[1, N_IMAGES - 1], ["train", "val", "query", "gallery"]] = False
    some, _ = cached_features(build_embedder(plan), plan, replace(split, frame=frame))
    assert sum(trunk_inputs) == N_IMAGES - 2
    complete, _ = cached_features(build_embedder(plan), plan, split)
    ids = np.array([0, 2, N_IMAGES - 2])
    for batch, expected in zip(some.test(ids), complete.test(ids), strict=True):
        torch.testing.assert_close(batch[0], expected[0], rtol=1e-5, atol=1e-6)


# What the row and the announcement report


def test_the_row_has_the_protocol_as_it_is_run(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path, "protocol.train_crop=random", "protocol.flip=true", "protocol.freeze_batch_norm=false")
    columns = {name: row[f"protocol_{name}"] for name in ("trunk_frozen", "train_crop", "flip", "freeze_batch_norm")}
    assert columns == {"trunk_frozen": True, "train_crop": "center", "flip": False, "freeze_batch_norm": True}
    plan, split = prepared(data, tmp_path)
    assert plan.run_id == row["run_id"], "settings without effect on a frozen trunk do not make another run"
    assert "features  frozen trunk: computed once, from centre crops without flips" in announcement(plan, split)


def test_a_protocol_without_a_frozen_trunk_is_run_as_written() -> None:
    protocol = Protocol(name="p", version=1, epochs=1, batch_size=2, embedding_dim=2, image_px=24)
    assert protocol.resolved == protocol


def test_frozen_and_trained_trunks_are_in_different_tables(data: Path, tmp_path: Path) -> None:
    crops = ["protocol.train_crop=center", "protocol.flip=false", "protocol.freeze_batch_norm=true"]
    frozen = row_of(data, tmp_path)
    trained = row_of(data, tmp_path, *crops, "protocol.trunk_frozen=false")
    assert trained["features_seconds"] is None
    assert len(compare([frozen, trained])) == 2


def test_mixed_pooling_is_refused_in_one_sentence(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", *OVERRIDES, "protocol.pooling=mixed", f"paths.data={data}"]) == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert "protocol.pooling=mixed learns its share" in sentence


# Features are computed once


def test_methods_seeds_folds_and_batch_sizes_share_the_features_of_a_trunk_with_weights(
    data: Path, tmp_path: Path, trunk_inputs: list[int]
) -> None:
    first = row_of(data, tmp_path, weights(data))
    assert sum(trunk_inputs) == N_IMAGES
    assert first["features_seconds"] > 0  # type: ignore[operator]
    for overrides in (
        ["loss=triplet"],
        ["seed=1"],
        ["loss=untrained"],
        ["protocol.batch_size=6"],
        ["protocol.fold=all", "protocol.folds=2", "protocol.batch_size=6", "protocol.epochs=1"],
    ):
        assert row_of(data, tmp_path, weights(data), *overrides)["features_seconds"] == 0
    assert sum(trunk_inputs) == N_IMAGES
    assert len(cache_files(tmp_path)) == 1


def test_a_trunk_without_weights_has_different_features_for_each_seed(data: Path, tmp_path: Path) -> None:
    for overrides in (["seed=0"], ["seed=1"], ["seed=0", "loss=triplet"]):
        plan, split = prepared(data, tmp_path, *overrides)
        cached_features(build_embedder(plan), plan, split)
    assert len(cache_files(tmp_path)) == 2
    assert not torch.equal(*(load_file(file)["features"] for file in cache_files(tmp_path)))


@pytest.mark.parametrize(
    "override",
    [
        "protocol.image_px=28",
        "protocol.resize_px=40",
        "protocol.pooling=max",
        "protocol.threads=2",
        "trunk.make.channels=[4,9]",
        "trunk.mean=[0,0,0]",
        "trunk.input_range=1.5",
        "dataset.make.images_per_class=2",
    ],
)
def test_everything_that_determines_a_feature_makes_another_file(data: Path, tmp_path: Path, override: str) -> None:
    for overrides in ([], [override]):
        plan, split = prepared(data, tmp_path, *overrides)
        cached_features(build_embedder(plan), plan, split)
    assert len(cache_files(tmp_path)) == 2


def _compute_in_process(data: Path, directory: Path, n_computations: Any) -> None:
    compute = feature_cache._compute

    def counting(*arguments: Any) -> torch.Tensor:
        with n_computations.get_lock():
            n_computations.value += 1
        return compute(*arguments)

    feature_cache._compute = counting
    torch.set_num_threads(1)
    plan, split = prepared(data, directory)
    cached_features(build_embedder(plan), plan, split)


def test_one_of_several_processes_computes_the_features_and_the_others_read_them(data: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    n_computations = context.Value("i", 0)
    jobs = [context.Process(target=_compute_in_process, args=(data, tmp_path, n_computations)) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert n_computations.value == 1


# The file is incomplete, out of date or not writable


@pytest.fixture
def count_inputs(data: Path, tmp_path: Path, trunk_inputs: list[int]) -> Callable[[], int]:
    """A function that requests the features and returns how many images passed through the trunk. The file already exists."""
    plan, split = prepared(data, tmp_path)

    def request() -> int:
        trunk_inputs.clear()
        batches, _ = cached_features(build_embedder(plan), plan, split)
        assert len(batches.features) == N_IMAGES
        return sum(trunk_inputs)

    assert request() == N_IMAGES
    assert request() == 0
    return request


@pytest.mark.parametrize("kept", [0, 4, 200, -1])
def test_an_incomplete_file_is_computed_again(tmp_path: Path, count_inputs: Callable[[], int], kept: int) -> None:
    [file] = cache_files(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[:kept])
    assert count_inputs() == N_IMAGES
    assert file.read_bytes() == content
    assert count_inputs() == 0


def forge(file: Path, features: torch.Tensor) -> None:
    """Replace the features, and every checksum that the file or its metadata contain."""
    with safe_open(file, "pt") as opened:
        stamp = opened.metadata()["stamp"].partition(" ")[0]
    file.write_bytes(save({"features": features}, {"stamp": f"{stamp} {feature_cache.checksum(features)}"}))


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-50] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        lambda file: forge(file, load_file(file)["features"][:5]),
        lambda file: forge(file, load_file(file)["features"][:, :7].contiguous()),
        lambda file: forge(file, load_file(file)["features"].double()),
        lambda file: forge(file, load_file(file)["features"][0]),
    ],
    ids=["bit", "images", "dimensions", "dtype", "vector"],
)
def test_damaged_features_are_reported_and_computed_again(
    tmp_path: Path, count_inputs: Callable[[], int], damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    [file] = cache_files(tmp_path)
    content = file.read_bytes()
    damage(file)
    assert count_inputs() == N_IMAGES
    assert capsys.readouterr().err == f"the features {file} are damaged; they are computed again\n"
    assert file.read_bytes() == content


def test_a_fifo_or_a_link_in_the_place_of_the_features_is_replaced(tmp_path: Path, count_inputs: Callable[[], int]) -> None:
    [file] = cache_files(tmp_path)
    copy = file.rename(tmp_path / "copy")
    for replace_file in (os.mkfifo, lambda path: path.symlink_to(copy)):
        file.unlink(missing_ok=True)
        replace_file(file)
        assert count_inputs() == N_IMAGES
        assert file.is_file()
        assert not file.is_symlink()


def test_features_are_computed_again_if_an_image_changes(data: Path, tmp_path: Path, count_inputs: Callable[[], int]) -> None:
    _, split = prepared(data, tmp_path)
    image = split.paths()[0]
    original = image.read_bytes()
    [file] = cache_files(tmp_path)
    before = load_file(file)["features"]
    Image.new("RGB", (28, 28), "red").save(image)
    try:
        assert count_inputs() == N_IMAGES
        after = load_file(file)["features"]
        assert (before != after).any(1).nonzero().flatten().tolist() == [0]
    finally:
        image.write_bytes(original)


def test_the_temporary_file_of_a_killed_process_is_removed(tmp_path: Path, count_inputs: Callable[[], int]) -> None:
    [file] = cache_files(tmp_path)
    file.unlink()
    temporary = file.with_name(f".{file.name}.12345.tmp")
    temporary.write_bytes(b"half")
    assert count_inputs() == N_IMAGES
    assert not temporary.exists()


def test_a_directory_that_is_not_writable_is_reported_in_one_sentence(data: Path, tmp_path: Path) -> None:
    plan, split = prepared(data, tmp_path)
    (tmp_path / "cache").touch()
    with pytest.raises(UserError, match=r"^the features .* cannot be written: .*paths\.data=DIRECTORY$"):
        cached_features(build_embedder(plan), plan, split)


# Together with checkpoints, selection and re-evaluation


class PowerFailureError(BaseException):
    pass


@pytest.mark.parametrize("overrides", [[], ["protocol.fold=all", "protocol.folds=2", "protocol.batch_size=6"]])
def test_a_killed_run_resumes_to_the_same_row_from_a_checkpoint_that_contains_only_the_head(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    expected = row_of(data, tmp_path / "expected", *overrides)
    save_checkpoint, names = trainer.save_checkpoint, set()

    def interrupted(folder: Path, *arguments: Any) -> None:
        save_checkpoint(folder, *arguments)
        names.update(torch.load(folder / "checkpoint.pt", weights_only=True)["model"])
        raise PowerFailureError

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", interrupted)
        with pytest.raises(PowerFailureError):
            row_of(data, tmp_path / "resumed", *overrides)
    assert names == {"projection.weight", "projection.bias"}
    resumed = row_of(data, tmp_path / "resumed", *overrides)
    assert resumed["n_resumed"] == 1
    assert resumed.outcome == expected.outcome


def test_validation_and_oracle_give_the_same_scores_as_with_images(data: Path, tmp_path: Path) -> None:
    overrides = [weights(data), "protocol.selection=validation", "protocol.fold=1", "oracle=true"]
    row = row_of(data, tmp_path, *overrides)
    with_images = row_of(data, tmp_path, *overrides, "protocol.trunk_frozen=false", "protocol.epochs=0")
    # before the first step, both are the same model on the same crops
    for name in ("untrained_score", "untrained_trunk_score"):
        assert row[name] == pytest.approx(with_images[name], abs=1e-3)
    assert row["selected_score"] >= row["untrained_score"]  # type: ignore[operator]
    assert row["oracle_map_at_r"] >= row["map_at_r"]  # type: ignore[operator]


def test_a_saved_run_gives_the_same_embeddings_from_its_images(data: Path, tmp_path: Path) -> None:
    overrides = [*OVERRIDES, f"paths.data={data}", f"paths.runs={tmp_path}"]
    assert run(["train", "--multirun", "loss=softtriple,untrained", *overrides]) == 0
    rows = {str(row["loss"]): row for row in map(read_row, find_rows(tmp_path))}
    trained, untrained = rows["softtriple"], rows["untrained"]
    assert trained.folder is not None
    plan, split = prepare(compose(["loss=softtriple", *overrides]))
    model = build_embedder(plan)
    model.load_state_dict(torch.load(trained.folder / "model.pt", weights_only=True)["model"])
    saved = load_file(trained.folder / "embeddings.safetensors")
    embeddings = embed(model, make_batches(plan, split), saved["ids"].tolist(), "cpu")
    torch.testing.assert_close(embeddings, saved["embeddings"], rtol=1e-4, atol=1e-5)
    assert run(["evaluate", str(trained.folder), "--layer", "pooled"]) == 0
    [pooled] = [read_row(file) for file in find_rows(trained.folder) if file.parent != trained.folder]
    assert pooled["map_at_r"] == pytest.approx(untrained["map_at_r"], abs=1e-3)
    assert pooled["map_at_r"] != trained["map_at_r"]
