"""What a row says about optimizer, sampler and protocol is what training did: every key of every shipped file is tried."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch.optim.optimizer import register_optimizer_step_pre_hook

from dmlbench.config.compose import compose, resolve
from dmlbench.config.files import entries
from dmlbench.config.jobs import Job
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Protocol
from dmlbench.data.folds import training_splits
from dmlbench.data.loader import make_batches
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.runs.experiment import pending_row
from dmlbench.runs.prepare import prepare
from dmlbench.training.environment import make_deterministic
from dmlbench.training.epoch_sampler import EpochSampler, training_labels
from dmlbench.training.trained_model import build_model, fit

OF_ANY_DATA = (
    *("protocol=quick", "trunk=convnet"),
    *("trunk.make.channels=[4,8]", "protocol.epochs=2", "protocol.batch_size=8", "protocol.embedding_dim=8"),
    *("protocol.image_px=16", "protocol.schedule=constant", "protocol.steps_per_epoch=2"),
)
TINY = ("dataset=synthetic", "dataset.make.classes=12", "dataset.make.images_per_class=4", *OF_ANY_DATA)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@dataclasses.dataclass
class Observed:
    """What happened during a training: everything that a protocol can change."""

    row: Row
    weights: str
    optimizer: torch.optim.Optimizer | None
    rates: list[list[float]]
    batches: list[list[int]]
    labels: np.ndarray
    roles: list[list[int]]
    evaluated: list[int]
    n_models: int
    threads: int

    @property
    def facts(self) -> tuple[Any, ...]:
        """All that can be compared."""
        return self.weights, self.rates, self.batches, self.roles, self.evaluated, self.n_models, self.threads


Observe = Callable[..., Observed]


@pytest.fixture(scope="module")
def observe(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Observe:
    """A function that trains under some overrides, and records what happened."""

    def observe(*overrides: str, base: tuple[str, ...] = TINY) -> Observed:
        runs = tmp_path_factory.mktemp("runs")
        plan, split = prepare(compose([*base, *overrides, f"paths.data={data}", f"paths.runs={runs}"]))
        return _observed(plan, split)

    return observe


def _observed(plan: Plan, split: Split) -> Observed:
    make_deterministic(plan.protocol.threads)
    threads = torch.get_num_threads()
    make_deterministic(1)
    optimizers: list[torch.optim.Optimizer] = []
    rates: list[list[float]] = []

    def record(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        optimizers.append(optimizer)
        rates.append([group["lr"] for group in optimizer.param_groups])

    handle = register_optimizer_step_pre_hook(record)
    parts = training_splits(split, plan.protocol)
    plan.folder.mkdir(parents=True)
    try:
        images = None if plan.protocol.trunk_frozen else make_batches(plan, split)
        model = build_model(plan, plan.folder, split, images)
        fit(model, parts[0], plan)
    finally:
        handle.remove()
    state = {**model.model.state_dict(), "size": torch.tensor(plan.protocol.image_px)}
    weights = hashlib.sha256(b"".join(name.encode() + value.numpy().tobytes() for name, value in state.items()))
    labels = training_labels(parts[0])
    batches = EpochSampler(plan, labels)(0)
    roles = [parts[0].ids(role).tolist() for role in ("train", "val")]
    return Observed(
        row=Row({**pending_row(plan).columns, "status": "ok"}),
        weights=weights.hexdigest(),
        optimizer=optimizers[0] if optimizers else None,
        rates=rates,
        batches=batches.tolist(),
        labels=labels,
        roles=roles,
        evaluated=[int(one["epoch"]) for one in model.history.evaluations],
        n_models=len(parts),
        threads=threads,
    )


# Protocol


# Field: a value that differs from the one of TINY, and overrides under which the field has an effect.
VALIDATED = ("protocol.selection=validation", "protocol.fold=0", "protocol.folds=3")
FIELDS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "epochs": (3, ()),
    "batch_size": (12, ()),
    "embedding_dim": (4, ()),
    "image_px": (24, ()),
    "resize_px": (40, ()),
    "train_crop": ("center", ()),
    "crop_scale": ([0.9, 1.0], ("protocol.train_crop=random_resized",)),
    "crop_ratio": ([1.0, 3.0], ("protocol.train_crop=random_resized",)),
    "flip": (True, ()),
    "pooling": ("max", ()),
    "head_layers": ([6], ()),
    "head_norm": ("layer", ()),
    "trunk_frozen": (True, ()),
    "freeze_batch_norm": (True, ()),
    "lr": (0.01, ()),
    "head_lr_scale": (3.0, ()),
    "schedule": ("cosine", ()),
    "step_epochs": (1, ("protocol.schedule=step",)),
    "step_gamma": (0.25, ("protocol.schedule=step", "protocol.step_epochs=1")),
    "warmup_epochs": (1, ()),
    "head_only_epochs": (1, ()),
    "clip_grad_norm": (0.001, ("optimizer=sgd",)),
    "clip_grad_value": (0.0001, ("optimizer=sgd",)),
    "threads": (2, ()),
    "selection": ("validation", ("protocol.fold=0", "protocol.folds=3")),
    "fold": (1, VALIDATED),
    "folds": (2, VALIDATED),
    "steps_per_epoch": (3, ()),
    "validate_every": (2, VALIDATED),
    "patience": (1, (*VALIDATED, "protocol.lr=0", "protocol.epochs=4")),
}
NAMES_ONLY = {"name", "version"}  # they name the protocol
# They change data or evaluation, not training: tests/cli/test_cli_staysafe.py, tests/training/test_selection.py
OF_EVALUATION = {"split", "recall_at", "evaluation_queries", "full_gallery", "clusters_per_class", "selection_metric"}
OF_PHOTOS = {"crop_to_box": True, "exif_orientation": "ignored"}  # fields that need images with boxes and EXIF data


def test_every_field_of_the_protocol_is_tried_below() -> None:
    tried = set(FIELDS) | set(OF_PHOTOS) | OF_EVALUATION | {"mixed_precision", "chunk_size"}  # chunks: test_batch_gradients
    assert {one.name for one in dataclasses.fields(Protocol)} - NAMES_ONLY == tried


@pytest.fixture(scope="module")
def without(observe: Observe) -> Callable[[tuple[str, ...]], Observed]:
    """What happens under some overrides, trained once."""
    known: dict[tuple[str, ...], Observed] = {}

    def find(context: tuple[str, ...]) -> Observed:
        if context not in known:
            known[context] = observe(*context)
        return known[context]

    return find


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_the_protocol_that_a_row_names_has_changed_the_training(
    field: str, observe: Observe, without: Callable[[tuple[str, ...]], Observed]
) -> None:
    value, context = FIELDS[field]
    typed = json.dumps(value) if isinstance(value, list) else str(value).lower()
    changed = observe(*context, f"protocol.{field}={typed}")
    assert changed.row[f"protocol_{field}"] == (json.dumps(value) if isinstance(value, list) else value)
    assert changed.facts != without(context).facts


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Overrides for a directory of photos, each with a box and stored on its side."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    lines = ["path,class,x,y,width,height"]
    for number in range(48):
        pixels = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", exif=turned)
        lines.append(f"{number}.jpg,{number % 12},2,4,12,16")
    (folder / "labels.csv").write_text("\n".join(lines))
    return ("dataset=folder", f"dataset.root={folder}", "dataset.manifest=labels.csv", "dataset.split=zero_shot")


@pytest.mark.parametrize("field", OF_PHOTOS)
def test_a_field_for_photos_that_a_row_names_has_changed_the_training(
    field: str, observe: Observe, photos: tuple[str, ...]
) -> None:
    override = f"protocol.{field}={str(OF_PHOTOS[field]).lower()}"
    plain, changed = observe(*photos, base=OF_ANY_DATA), observe(*photos, override, base=OF_ANY_DATA)
    assert changed.row[f"protocol_{field}"] == OF_PHOTOS[field] != plain.row[f"protocol_{field}"]
    assert changed.weights != plain.weights


def test_mixed_precision_is_not_named_as_the_precision_of_a_training_on_the_cpu(observe: Observe) -> None:
    mixed, plain = observe("protocol.mixed_precision=true"), observe("protocol.mixed_precision=false")
    assert mixed.row["precision"] == plain.row["precision"] == "fp32"
    assert mixed.weights == plain.weights


def test_the_learning_rates_of_a_row_are_those_of_the_optimizer(observe: Observe) -> None:
    overrides = (
        "loss=softtriple",
        "protocol.lr=0.02",
        "protocol.head_lr_scale=3",
        "protocol.warmup_epochs=1",
        "loss.lr_scale=7",
    )
    found = observe(*overrides)
    row = found.row
    scales = [1.0, row.number("protocol_head_lr_scale"), row.number("loss_lr_scale")]
    for step, rates in enumerate(found.rates):
        warmup = min(1.0, (step + 1) / 2)
        assert rates == pytest.approx([float(row["protocol_lr"]) * scale * warmup for scale in scales])  # type: ignore[arg-type]
    assert len(found.rates) == row["protocol_epochs"] * row["protocol_steps_per_epoch"]  # type: ignore[operator]


def test_the_learning_rates_of_a_method_replace_those_of_the_protocol(observe: Observe) -> None:
    overrides = ("loss=softtriple", "protocol.lr=0.02", "protocol.head_lr_scale=3", "loss.lr_scale=7")
    found = observe(*overrides, "loss.lr=0.001", "loss.head_lr_scale=2", "protocol.warmup_epochs=0")
    assert (found.row["protocol_lr"], found.row["loss_lr"], found.row["lr_from"]) == (0.02, 0.001, "method")
    assert found.rates[0] == pytest.approx([0.001, 0.002, 0.007])


# Optimizers


ADDED = {
    "adam": ("amsgrad=true", "maximize=true"),
    "adamw": ("amsgrad=true", "maximize=true"),
    "rmsprop": ("centered=true",),
    "sgd": ("dampening=0.5",),
}


@pytest.mark.parametrize("name", [name for name, _ in entries("optimizer")])
def test_every_argument_of_an_optimizer_that_a_row_names_is_that_of_the_optimizer(name: str, observe: Observe) -> None:
    found = observe(f"optimizer={name}", "optimizer.weight_decay=0.03", *(f"+optimizer.{one}" for one in ADDED[name]))
    columns = {
        key.removeprefix("optimizer_"): value for key, value in found.row.columns.items() if key.startswith("optimizer_")
    }
    optimizer = found.optimizer
    assert optimizer is not None
    assert columns.pop("target") == f"torch.optim.{type(optimizer).__name__}"
    assert columns.pop("source_sha256") is None
    assert {one.partition("=")[0] for one in ADDED[name]} <= set(columns)
    for group in optimizer.param_groups:
        for argument, value in columns.items():
            live = group[argument]
            assert (json.dumps(list(live)) if isinstance(live, tuple | list) else live) == value


def test_the_weight_decay_of_a_loss_is_that_of_its_parameters_alone(observe: Observe) -> None:
    found = observe("loss=softtriple", "loss.weight_decay=0.5")
    assert found.optimizer is not None
    decays = [group["weight_decay"] for group in found.optimizer.param_groups]
    assert decays == [found.row["optimizer_weight_decay"]] * 2 + [found.row["loss_weight_decay"]]


@pytest.mark.parametrize("name", [name for name, _ in entries("optimizer")])
@pytest.mark.parametrize("prefix", ["+", "++"])
def test_a_learning_rate_of_an_optimizer_is_refused_for_every_optimizer(name: str, prefix: str) -> None:
    with pytest.raises(UserError, match=r"^optimizer\.lr has no effect: .* use protocol\.lr or loss\.lr$"):
        resolve(compose(["dataset=synthetic", f"optimizer={name}", f"{prefix}optimizer.lr=0.01"]))


# Samplers


def per_class(found: Observed) -> Iterator[list[int]]:
    for batch in found.batches:
        yield sorted(np.unique(found.labels[batch], return_counts=True)[1].tolist())


@pytest.mark.parametrize(
    ("overrides", "column"),
    [
        (("sampler=m_per_class", "loss=triplet", "loss.samples_per_class=2"), "loss_samples_per_class"),
        (("sampler=m_per_class", "sampler.samples_per_class=2"), "sampler_samples_per_class"),
        (("sampler=sixteen_per_class", "sampler.samples_per_class=2"), "sampler_samples_per_class"),
        (("sampler=by_kind", "loss=triplet", "sampler.pair=2"), "sampler_pair"),
        (("sampler=by_kind", "loss=softtriple", "sampler.classification=2"), "sampler_classification"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_images_per_class_of_a_row_are_those_of_every_batch(
    overrides: tuple[str, ...], column: str, observe: Observe
) -> None:
    found = observe(*overrides)
    assert found.row[column] == 2
    assert list(per_class(found)) == [[2] * 4] * 2


def test_a_shuffled_epoch_has_every_image_at_most_once(observe: Observe) -> None:
    found = observe("sampler=shuffle", "protocol.steps_per_epoch=null")
    drawn = [image for batch in found.batches for image in batch]
    assert found.row["sampler_target"] == "dmlbench.data.samplers.shuffle"
    assert len(drawn) == len(set(drawn)) == 24


TRIPLETS = ("sampler=triplets", "loss=batch_all_ratio", "protocol.batch_size=6", "protocol.epochs=3")


def test_a_batch_of_triplets_has_two_images_of_a_class_and_one_of_another(observe: Observe) -> None:
    found = observe(*TRIPLETS)
    classes = found.labels[found.batches].reshape(-1, 3)
    assert (classes[:, 0] == classes[:, 1]).all()
    assert (classes[:, 0] != classes[:, 2]).all()


@pytest.mark.parametrize("key", ["mining", "hard_share", "candidates", "regenerate_every"])
def test_every_argument_of_the_triplets_changes_the_row_and_the_weights(key: str, observe: Observe) -> None:
    values = {"mining": ("hard", "semi_hard"), "hard_share": (1, 0.2), "candidates": (1, 12), "regenerate_every": (1, 3)}[key]
    others = [one for one in ("sampler.mining=hard", "sampler.hard_share=1") if key not in one]
    first, second = (observe(*TRIPLETS, *others, f"sampler.{key}={value}") for value in values)
    assert (first.row[f"sampler_{key}"], second.row[f"sampler_{key}"]) == values
    assert first.weights != second.weights


def test_every_sampler_is_tried_above() -> None:
    assert {name for name, _ in entries("sampler")} == {"m_per_class", "sixteen_per_class", "by_kind", "shuffle", "triplets"}


# Keys without effect


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("protocol.step_epochs=3",), "protocol.step_epochs has no effect with protocol.schedule=constant; it needs"),
        (("protocol.step_gamma=0.1",), "protocol.step_gamma has no effect with protocol.schedule=constant; it needs"),
        (("protocol.crop_scale=[0.5,1]",), "protocol.crop_scale has no effect with protocol.train_crop=random; it needs"),
        (
            ("protocol.crop_ratio=[0.5,1]", "protocol.trunk_frozen=true"),
            "protocol.crop_ratio has no effect with protocol.train_crop=center of a frozen trunk; it needs",
        ),
        (("protocol.folds=3",), "protocol.folds has no effect with protocol.fold=none; it needs"),
        (("protocol.validate_every=3",), "protocol.validate_every has no effect with protocol.selection=last; it needs"),
        (("protocol.patience=3",), "protocol.patience needs protocol.selection=validation"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_field_that_another_one_disables_is_refused(overrides: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        Job("one", compose([*TINY, *overrides])).check()
    assert str(refused.value).startswith(sentence)
