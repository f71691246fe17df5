"""Floor 1: what a run is made of, as plain frozen dataclasses.

A `Plan` holds all that decides a row: dataset, trunk, method, protocol, sampler, optimizer and seed. Its `shared` columns
are what two compared rows must agree in; the fingerprint is their digest, and nothing else's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from dmlbench.errors import UserError, suggest

Scalar = str | int | float | bool | None
T = TypeVar("T")


@dataclass(frozen=True)
class Protocol:
    """All that must be equal between two compared rows, beside the data and the trunk.

    Args:
        name: the stem of its file in `conf/protocol/`.
        version: raised whenever a change of code or values moves numbers.
        epochs: passes over the training images; the last one is reported.
        batch_size: images a step.
        embedding_dim: size D of the embedding; the untrained trunk has no projection and keeps its own size.
        image_px: side of the square crop the trunk sees.
        resize_px: shorter side before cropping; None follows the crop as 256 follows 227.
        crop_to_box: cut each image to its object's box before it is resized; published numbers with and without differ by ten
            points and are not comparable.
        train_crop: `random_resized` (area from `crop_scale`, aspect from `crop_ratio`), `random` (a shift) or `center`.
        crop_scale: least and greatest share of the area that a random resized crop keeps.
        crop_ratio: least and greatest aspect ratio of a random resized crop.
        flip: mirror half of the training images.
        pooling: of the feature map: `avg`, `max`, `avg+max` (their sum), or `mixed` (a learnt share of each).
        head_layers: sizes of the hidden layers, with ReLU, between pooling and embedding; none for a linear projection.
        head_norm: `layer` for a LayerNorm of the pooled features before the projection.
        trunk_frozen: train the head alone, on features of the trunk that are computed once; see `resolved`.
        freeze_batch_norm: keep batch norm in evaluation mode while training: its statistics stay, its affine part learns.
        lr: the trunk's learning rate.
        head_lr_scale: the projection learns this many times faster than the trunk.
        schedule: `constant`, `step` (times `step_gamma` every `step_epochs`) or `cosine` (to zero at the end).
        step_epochs: epochs between two steps.
        step_gamma: factor of a step.
        warmup_epochs: epochs over which all learning rates rise linearly from zero.
        clip_grad_norm: greatest norm of all gradients together; None leaves them alone.
        mixed_precision: bfloat16 autocast on CUDA; the CPU always computes in float32.
        threads: of the CPU, fixed so that a row is the same wherever its run stands.
        selection: the model that is reported: of the `last` epoch, or the best on `validation` (MAP@R on held-out training
            classes, the untrained model among the candidates); never on the test set.
        fold: which fold of the training classes is held out for validation; `none`, or `all`: a model for each.
        folds: class-disjoint folds that the training classes are divided into, for `fold`.
        steps_per_epoch: an epoch is so many steps; None for one pass over the training images.
        validate_every: epochs between two validations.
        patience: epochs without a better validation after which training ends; None for never.
    """

    name: str
    version: int
    epochs: int
    batch_size: int
    embedding_dim: int
    image_px: int
    resize_px: int | None = None
    crop_to_box: bool = False
    train_crop: Literal["random_resized", "random", "center"] = "random_resized"
    crop_scale: tuple[float, float] = (0.16, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: bool = True
    pooling: Literal["avg", "max", "avg+max", "mixed"] = "avg"
    head_layers: tuple[int, ...] = ()
    head_norm: Literal["none", "layer"] = "none"
    trunk_frozen: bool = False
    freeze_batch_norm: bool = True
    lr: float = 1e-4
    head_lr_scale: float = 10.0
    schedule: Literal["constant", "step", "cosine"] = "constant"
    step_epochs: int = 10
    step_gamma: float = 0.5
    warmup_epochs: int = 0
    clip_grad_norm: float | None = None
    mixed_precision: bool = True
    threads: int = 1
    selection: Literal["last", "validation"] = "last"
    fold: int | Literal["none", "all"] = "none"
    folds: int = 4
    steps_per_epoch: int | None = None
    validate_every: int = 1
    patience: int | None = None

    def __post_init__(self) -> None:
        least = {"epochs": 0, "batch_size": 2, "embedding_dim": 1, "image_px": 8, "lr": 0, "threads": 1}
        least |= {"head_lr_scale": 0, "step_epochs": 1, "step_gamma": 0, "warmup_epochs": 0, "version": 1}
        least |= {"folds": 2, "validate_every": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if not low <= value < math.inf:
                raise UserError(f"protocol.{name} is {value}; it must be at least {low}")
        if min(self.head_layers, default=1) < 1:
            raise UserError(f"protocol.head_layers is {list(self.head_layers)}; each hidden layer needs a size of at least 1")
        for name in ("steps_per_epoch", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"protocol.{name} is {getattr(self, name)}; it must be at least 1, or null for none")
        if self.patience is not None and self.selection != "validation":
            raise UserError("protocol.patience is given, but only protocol.selection=validation can end a training early")
        if self.clip_grad_norm is not None and not self.clip_grad_norm > 0:
            raise UserError(f"protocol.clip_grad_norm is {self.clip_grad_norm}; it must be above 0, or null for none")
        if self.trunk_frozen and self.pooling == "mixed":
            raise UserError(
                "protocol.pooling=mixed learns its share, so protocol.trunk_frozen=true cannot compute its features "
                "beforehand; use avg, max or avg+max"
            )
        self._refuse_impossible_crops()

    def _refuse_impossible_crops(self) -> None:
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise UserError(f"protocol.crop_scale is {self.crop_scale}; it needs 0 < least <= greatest <= 1")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise UserError(f"protocol.crop_ratio is {self.crop_ratio}; it needs 0 < least <= greatest")
        if self.resize_px is not None and self.resize_px < self.image_px:
            raise UserError(
                f"protocol.resize_px is {self.resize_px}, smaller than the crop protocol.image_px={self.image_px}; "
                "give a larger one, or null to let it follow the crop"
            )

    @property
    def resolved(self) -> Protocol:
        """The protocol as it is run: a frozen trunk sees centre crops alone, none mirrored, in evaluation mode."""
        if not self.trunk_frozen:
            return self
        return dataclasses.replace(self, train_crop="center", flip=False, freeze_batch_norm=True)

    @property
    def resized_px(self) -> int:
        """The shorter side before cropping: `resize_px`, or what 256 is to a crop of 227."""
        return self.resize_px or resize_of(self.image_px)


@dataclass(frozen=True)
class Method:
    """All that may differ between two compared rows: one file in `conf/loss/`.

    Args:
        name: the stem of its file.
        label: its name in print.
        kind: `pair` (learns from pairs of a batch), `classification` (has a weight a class) or `none` (untrained).
        samples_per_class: images of a class in a batch, which the m-per-class sampler reads.
        lr_scale: the loss's own parameters learn this many times faster than the trunk.
        weight_decay: of the loss's own parameters; None leaves it to the optimizer.
        make: the loss's constructor and arguments; None trains nothing.
        miner: the constructor and arguments of what picks pairs or triplets from a batch, if any.
        search: the space in which `make` and `lr_scale` may be tuned; it decides no run.
        source_sha256: of the files of `make` and `miner` that lie outside installed packages.
    """

    name: str
    label: str
    kind: Literal["pair", "classification", "none"]
    samples_per_class: int = 4
    lr_scale: float = 1.0
    weight_decay: float | None = None
    make: dict[str, Any] | None = None
    miner: dict[str, Any] | None = None
    search: dict[str, Any] = field(default_factory=dict)
    source_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.samples_per_class < 1:
            raise UserError(f"loss.samples_per_class is {self.samples_per_class}; it must be at least 1")
        if not 0 <= self.lr_scale < math.inf:
            raise UserError(f"loss.lr_scale is {self.lr_scale}; it must be at least 0")
        if (self.make is None) != (self.kind == "none"):
            raise UserError(
                f"loss/{self.name}: kind is '{self.kind}', so `make` must {'not ' * (self.make is not None)}be given"
            )

    @property
    def columns(self) -> dict[str, Scalar]:
        """The method's own values as row columns `loss_*`; name, label and search space are left out."""
        values = dataclasses.asdict(self)
        for name in ("name", "label", "search"):
            del values[name]
        return dict(flatten("loss", values))

    @property
    def digest(self) -> str:
        """8 hex digits over all that changes the method's numbers."""
        return digest(self.columns)[:8]


@dataclass(frozen=True)
class Dataset:
    """A data set's constructor and declared facts: one file in `conf/dataset/`.

    Args:
        name: the word in the folder and in the row.
        label: its name in print.
        recall_at: the ks of its Recall@k.
        make: the function that returns its `Split`, with its arguments.
        root: the folder of a data set that the user brings.
        manifest: a CSV beside or under it.
        split: the rule by which roles are given, where the data set knows several.
        split_seed: of that rule; a run's seed never changes a test set.
        on_unreadable: what to do with an image that cannot be read: `refuse` the run, or `skip` the image and count it.
        cache: `memmap` keeps the resized images of the whole data set in one file under `paths.data`; decides no number.
        archive: one or more archives that the user already has, for `dmlbench data prepare`.
        downloads: what `dmlbench data prepare` fetches otherwise; each with `url`, and `sha256` or `md5` where published.
        ask: where to ask for a data set that cannot be downloaded.
        images: how many there are of all roles, a fact whatever the split.
        validate_every, patience: in epochs, for a protocol that takes them from the data set, as the reality check does.
        declared_split: the split that the following facts are of; None for any.
        train_classes, train_images, test_classes, query_images, gallery_images: facts that the files must confirm;
            None where nobody can know them beforehand.
    """

    name: str
    label: str
    recall_at: tuple[int, ...]
    make: dict[str, Any]
    root: str | None = None
    manifest: str | None = None
    split: str | None = None
    split_seed: int = 0
    on_unreadable: Literal["refuse", "skip"] = "refuse"
    cache: Literal["none", "memmap"] = "none"
    archive: str | tuple[str, ...] | None = None
    downloads: tuple[dict[str, Any], ...] = ()
    ask: str | None = None
    images: int | None = None
    validate_every: int = 1
    patience: int | None = None
    declared_split: str | None = None
    train_classes: int | None = None
    train_images: int | None = None
    test_classes: int | None = None
    query_images: int | None = None
    gallery_images: int | None = None

    def __post_init__(self) -> None:
        if not self.recall_at or min(self.recall_at) < 1:
            raise UserError(f"dataset.recall_at is {list(self.recall_at)}; it needs one or more ks of at least 1")

    @property
    def declared(self) -> dict[str, int | None]:
        """The facts that hold for the chosen split; None where nothing is declared."""
        facts = {"images": self.images}
        if self.declared_split in (None, self.split):
            names = ("train_classes", "train_images", "test_classes", "query_images", "gallery_images")
            facts |= {name: getattr(self, name) for name in names}
        return facts


@dataclass(frozen=True)
class Trunk:
    """A trunk's constructor and input convention: one file in `conf/trunk/`.

    Args:
        name: the stem of its file.
        label: its name in print.
        make: the module's constructor, with its arguments.
        mean, std: of each channel, on the scale of `input_range`, in the order of `channel_order`.
        channel_order: the trunk's own.
        input_range: white, as the trunk expects it: 1 or 255.
        weights: `none`, the name of published weights, or a file.
        published: what its YAML publishes: name to `url`, `sha256` where it is known, and `file`, the name to keep it under.
        weights_sha256: of the file that was loaded; None without one.
    """

    name: str
    label: str
    make: dict[str, Any]
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # ImageNet's, RGB
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    channel_order: Literal["RGB", "BGR"] = "RGB"
    input_range: float = 1.0
    weights: str = "none"
    published: dict[str, dict[str, str]] = field(default_factory=dict)
    weights_sha256: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.input_range < math.inf:
            raise UserError(f"trunk.input_range is {self.input_range}; it is what white is to the trunk: 1 or 255")
        if not all(0 < value < math.inf for value in self.std):
            raise UserError(f"trunk.std is {list(self.std)}; each of its numbers must be above 0")


@dataclass(frozen=True)
class Plan:
    """All that decides a row; the same plan gives the same row on the same kind of device.

    Args:
        dataset, trunk, method, protocol: see their classes.
        sampler: its name, then constructor and arguments, resolved.
        optimizer: likewise.
        seed: of initialisation, data order and augmentation; never of the test set.
        shared: the columns that two compared rows must agree in, with interpolations into the method left as text.
        folder: where the run's files go.
        device: `cpu` or `cuda`.
        precision: `fp32` or `bf16`, what the device will really compute in.
        workers: processes that load images; decides no number.
        caches: the folder of decoded images and of a frozen trunk's features; decides no number.
        oracle: also look what choosing the epoch on the test set would have claimed; decides nothing else.
        tuned: what the row tells of the search for the method's values; empty where there was none.
    """

    dataset: Dataset
    trunk: Trunk
    method: Method
    protocol: Protocol
    sampler: dict[str, Any]
    optimizer: dict[str, Any]
    seed: int
    shared: Mapping[str, Scalar]
    runs: Path
    device: str = "cpu"
    precision: str = "fp32"
    workers: int = 0
    caches: Path = Path("data/cache")
    oracle: bool = False
    tuned: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """8 hex digits over the shared columns: equal exactly where rows may stand side by side."""
        return digest(self.shared)[:8]

    @property
    def run_id(self) -> str:
        """Fingerprint, method digest and seed."""
        return f"{self.fingerprint}-{self.method.digest}-{self.seed}"

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return self.runs / self.dataset.name / self.method.name / self.run_id


def resize_of(crop_px: int) -> int:
    """The shorter side, in pixels, that an image is resized to before a crop of so many: what 256 is to 227."""
    return round(crop_px * 256 / 227)


def flatten(prefix: str, values: Any) -> Iterator[tuple[str, Scalar]]:
    """Flat snake_case columns of a nested mapping; a list becomes its JSON text.

    >>> dict(flatten("loss", {"make": {"_target_": "a.B", "la": 20}, "ks": [1, 2]}))
    {'loss_make_target': 'a.B', 'loss_make_la': 20, 'loss_ks': '[1, 2]'}
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from flatten(f"{prefix}_{str(key).strip('_')}", value)
    elif isinstance(values, list | tuple):
        yield prefix, json.dumps(values)
    else:
        yield prefix, values


def digest(values: Mapping[str, Any]) -> str:
    """The sha256, in hex, of a mapping's canonical JSON text, whatever its order; 1 and 1.0 are the same number."""
    return hashlib.sha256(json.dumps(_canonical(values), sort_keys=True).encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def typed(cls: type[T], place: str, values: Mapping[str, Any]) -> T:
    """Make a dataclass of this module from a mapping, refusing unknown keys and values of the wrong type.

    Args:
        cls: a dataclass.
        place: how its keys are called on the command line, such as `protocol`.
        values: what was composed.

    Raises:
        UserError: a key is unknown (near names are suggested) or missing, or a value has the wrong type.
    """
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise UserError(f"{place}.{key} is not known{suggest(key, hints)}")
    for spec in dataclasses.fields(cls):  # type: ignore[arg-type]  # T is a dataclass
        needed = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if needed and spec.name not in values:
            raise UserError(f"{place}.{spec.name} is missing; it needs {_said(hints[spec.name])}")
    return cls(**{key: _cast(f"{place}.{key}", hints[key], value) for key, value in values.items()})


_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    dict: "a mapping",
}


def _said(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_said(choice) for choice in arguments)
    if origin is tuple:
        return f"a list of {'' if arguments[-1] is ... else f'{len(arguments)} '}numbers"
    return _NAMES[origin or hint]


def _cast(place: str, hint: Any, value: Any) -> Any:
    cast = _fit(hint, value)
    if cast is not _NO_FIT:
        return cast
    near = suggest(value, typing.get_args(hint)) if typing.get_origin(hint) is Literal and isinstance(value, str) else ""
    raise UserError(f"{place} is {value!r}, but {_said(hint)} is needed{near if near.startswith('; did') else ''}")


_NO_FIT = object()


def _fit(hint: Any, value: Any) -> Any:
    """The value as the type says, or `_NO_FIT`; only a whole float for an int and an int for a float are converted."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value if value in arguments and isinstance(value, str) else _NO_FIT
    if origin in (types.UnionType, typing.Union):
        return next((cast for choice in arguments if (cast := _fit(choice, value)) is not _NO_FIT), _NO_FIT)
    if origin is tuple:
        return _fit_tuple(arguments, value)
    if origin is dict:
        return dict(value) if isinstance(value, Mapping) else _NO_FIT
    if isinstance(value, bool) or hint is bool:
        return value if isinstance(value, bool) and hint is bool else _NO_FIT
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is float and isinstance(value, int):
        return float(value)
    return value if isinstance(value, hint) else _NO_FIT


def _fit_tuple(arguments: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return _NO_FIT
    if arguments[-1] is ...:
        arguments = (arguments[0],) * len(value)
    items = [_fit(kind, item) for kind, item in zip(arguments, value, strict=False)]
    return tuple(items) if len(value) == len(arguments) and _NO_FIT not in items else _NO_FIT
