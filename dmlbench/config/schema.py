"""The typed configuration: what a protocol, method, data set, trunk and tuning budget consist of.

Each field is declared once, with its type, default, range and meaning. Configuration files, the command line, the columns
of result rows and the documentation are checked against, or made from, these declarations. Every class needs an `Args`
section that describes each field; `docs/columns.md` prints it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from dmlbench.errors import UserError

Scalar = str | int | float | bool | None
NO_DEFAULT: Any = dataclasses.MISSING
# Split rules that are asked for by name and use each class for training and for test.
CLOSED_SET_RULES = ("half_per_class",)
NOT_IN_ROW = {"in_row": False}  # metadata of fields without a default; see `setting`
UNSET: Any = object()  # marks arguments of a declaration that are not given, because None is a value


def setting(
    default: Any = NO_DEFAULT,
    *,
    config_default: Any = UNSET,
    at_least: float | None = None,
    at_most: float = math.inf,
    caption: str | None = None,
    in_config: bool = True,
    in_row: bool = True,
    since: int = 1,
    before: Any = UNSET,
) -> Any:
    """Declare a field of a configuration class.

    Args:
        default: Value if neither a file nor the command line sets the field.
        config_default: Default for files and the command line only, for fields that the code always passes.
        at_least: Smallest allowed value. None is not compared.
        at_most: Largest allowed value, for fields with `at_least`.
        caption: Template for table captions, such as `"{} epochs"`; fields with a caption appear in every caption.
        in_config: Whether configuration files and the command line may set the field. False for values that are computed.
        in_row: Whether the field is part of the identity of a run, as columns of its row: `protocol_epochs`, or one column per
            key of a mapping. False for fields that do not affect results, and for fields that a row has in another form.
        since: Version of the row schema in which the field appeared. Existing rows do not have it.
        before: For `since` > 1: the value that describes rows from before the field existed. Rows without the field are
            read as if it had this value, and the value is left out of the fingerprint, so that existing results stay
            valid. It has to equal `default`; raise the version of every protocol if behaviour has to change.
    """
    if (since > 1) != (before is not UNSET):
        raise ValueError(
            "a field with `since` > 1 needs `before`, the value that describes older rows, and no other field has it"
        )
    metadata = {"config_default": config_default, "at_least": at_least, "caption": caption, "in_config": in_config}
    metadata |= {"at_most": at_most, "in_row": in_row, "since": since, "before": before}
    return field(default=default, metadata=metadata)


def defaults(configuration_class: type) -> dict[str, Any]:
    """Return the default of every field of a configuration class that a file or the command line may set.

    Args:
        configuration_class: A class of this module.

    Returns:
        Field name to default, in the form that YAML would give it. Fields without a default are left out.
    """
    found: dict[str, Any] = {}
    for one in dataclasses.fields(configuration_class):
        if not one.metadata.get("in_config", True):
            continue
        default = one.metadata.get("config_default", UNSET)
        if default is UNSET:
            default = one.default_factory() if callable(one.default_factory) else one.default
        if default is not NO_DEFAULT:
            found[one.name] = list(default) if isinstance(default, tuple) else default
    return found


def row_fields(configuration_class: type) -> list[dataclasses.Field[Any]]:
    """Return the fields of a configuration class that are part of the identity of a run, as columns of its row.

    Args:
        configuration_class: A class of this module.
    """
    return [one for one in dataclasses.fields(configuration_class) if one.metadata.get("in_row", True)]


def check_ranges(configuration: Any, group: str) -> None:
    """Refuse numbers below the declared minimum or above the maximum, and numbers that are not finite.

    Args:
        configuration: An instance of a class of this module.
        group: Its name on the command line, such as `protocol`.

    Raises:
        UserError: Names the first such field and its limit.
    """
    for one in dataclasses.fields(configuration):
        value, minimum = getattr(configuration, one.name), one.metadata.get("at_least")
        if minimum is None or not isinstance(value, int | float):  # null, or text such as `all`
            continue
        if not minimum <= value < math.inf:
            or_null = ", or null" if one.default is None else ""
            raise UserError(f"{group}.{one.name} is {value}; it must be at least {minimum}{or_null}")
        if value > one.metadata["at_most"]:
            raise UserError(f"{group}.{one.name} is {value}; it must be at most {one.metadata['at_most']}")


MAX_DIMENSIONS = 2**16  # of embeddings and hidden layers
# Fields of a protocol whose values a frozen trunk replaces.
WITH_FROZEN_TRUNK: dict[str, Any] = {"train_crop": "center", "flip": False, "freeze_batch_norm": True, "head_only_epochs": 0}


@dataclass(frozen=True)
class Protocol:
    """Everything that must be equal in two compared runs, in addition to the data and the trunk.

    Args:
        name: Stem of its file in `conf/protocol/`.
        version: Raised whenever a change of code or values changes results. Rows of different versions are not compared.
        epochs: Passes over the training images. By default the model of the last epoch is reported.
        batch_size: Images per step.
        embedding_dim: Size D of the embedding. The untrained trunk has no projection and keeps its own size.
        image_px: Side of the square crop that the trunk receives, in pixels.
        resize_px: Shorter side before cropping, in pixels. None scales it with the crop, as 256 to 227.
        crop_to_box: Crop each image to its object's bounding box before resizing. Published results with and without
            boxes differ by ten points and are not comparable.
        exif_orientation: `applied` turns images as their EXIF data says, `ignored` uses the stored pixels. The default is that
            of the data set. Boxes refer to the stored pixels in either case.
        train_crop: `random_resized` (area from `crop_scale`, aspect ratio from `crop_ratio`), `random` (a shift) or `center`.
            Test images always get the centre crop.
        crop_scale: Smallest and largest share of the image area of a random resized crop.
        crop_ratio: Smallest and largest aspect ratio of a random resized crop.
        flip: Mirror half of the training images.
        pooling: Pooling of the feature map: `avg`, `max`, `avg+max` (their sum), or `mixed` (a learned share of each).
        head_layers: Sizes of the hidden layers, with ReLU, between pooling and embedding. Empty for a linear projection.
        head_norm: `layer` applies a LayerNorm to the pooled features before the projection.
        trunk_frozen: Train only the head, on trunk features that are computed once, from centre crops without flips.
        freeze_batch_norm: Keep batch normalization in evaluation mode during training. Its affine parameters still learn.
        lr: Learning rate of the trunk.
        head_lr_scale: Learning-rate multiplier of the head.
        schedule: `constant`, `step` (times `step_gamma` every `step_epochs`) or `cosine` (to zero at the end).
        step_epochs: Epochs between two steps of the schedule.
        step_gamma: Factor of a step of the schedule.
        warmup_epochs: Epochs over which all learning rates rise linearly from zero.
        head_only_epochs: First epochs in which only the head and the loss are trained, while the schedule already runs.
        clip_grad_norm: Maximum norm of all gradients together. None disables clipping.
        clip_grad_value: Maximum absolute value of each element of the gradients. None disables clipping.
        mixed_precision: Train with bfloat16 autocast on CUDA. Embeddings that are scored are always computed in float32, and
            so is everything on the CPU.
        threads: CPU threads. Fixed, so that results do not depend on the number of cores.
        selection: Which model is reported: `last` epoch, or best on `validation` (`selection_metric` on held-out training
            classes, the untrained model included). Never chosen on the test set.
        selection_metric: Metric of the validation, for selection and early stopping: any retrieval or clustering metric of a
            row, such as `map_at_r`, `precision_at_5`, `nmi` or `purity`.
        fold: Index of the fold of the training classes that is held out for validation; `none`; or `all`, which trains
            one model per fold.
        folds: Number of class-disjoint folds of the training classes.
        steps_per_epoch: Steps per epoch. None for one pass over the training images.
        validate_every: Epochs between two validations.
        chunk_size: Images whose activations are in memory at once. The loss is that of the whole batch, whose images are
            embedded twice, so nothing but rounding changes, and rows of any size are compared. None for the whole batch.
        patience: Epochs without improvement after which training stops. None disables early stopping.
        clusters_per_class: Clusters of k-means per class, on test images and for a `selection_metric` that needs clusters. With
            1, more than 1,000 test classes are not clustered; 0 disables clustering of test images.
        evaluation_queries: Number of queries that are evaluated, drawn from the queries of the data set that have a relevant
            item. The draw depends on `dataset.split_seed` only, so all methods and seeds have the same queries. None for all.
        full_gallery: Also evaluate in a gallery of training and test images, as columns with the prefix `full_`.
        split: Split rule of the data set under this protocol. None for that of the data set; `dataset.split` overrides it.
        recall_at: Values of k under this protocol. None for those of the data set; `dataset.recall_at` overrides them.
    """

    name: str = field(metadata=NOT_IN_ROW)  # the column `protocol`
    version: int = setting(config_default=1, at_least=1, caption="version {}")
    epochs: int = setting(at_least=0, caption="{} epochs")
    batch_size: int = setting(at_least=2, caption="batch {}")
    embedding_dim: int = setting(at_least=1, at_most=MAX_DIMENSIONS, caption="{}-d embedding")
    image_px: int = setting(at_least=8, at_most=8192, caption="{} px")
    resize_px: int | None = None
    crop_to_box: bool = False
    exif_orientation: Literal["applied", "ignored"] = setting(
        "ignored", config_default="${dataset.exif_orientation}", since=3, before="ignored"
    )
    train_crop: Literal["random_resized", "random", "center"] = "random_resized"
    crop_scale: tuple[float, float] = (0.16, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: bool = True
    pooling: Literal["avg", "max", "avg+max", "mixed"] = "avg"
    head_layers: tuple[int, ...] = ()
    head_norm: Literal["none", "layer"] = "none"
    trunk_frozen: bool = False
    freeze_batch_norm: bool = True
    lr: float = setting(1e-4, at_least=0)
    head_lr_scale: float = setting(10.0, at_least=0)
    schedule: Literal["constant", "step", "cosine"] = "constant"
    step_epochs: int = setting(10, at_least=1)
    step_gamma: float = setting(0.5, at_least=0)
    warmup_epochs: int = setting(0, at_least=0)
    head_only_epochs: int = setting(0, at_least=0, since=3, before=0)
    clip_grad_norm: float | None = None
    clip_grad_value: float | None = setting(None, since=3, before=None)
    mixed_precision: bool = True
    threads: int = setting(1, at_least=1, at_most=1024)
    selection: Literal["last", "validation"] = "last"
    selection_metric: str = setting("map_at_r", since=3, before="map_at_r")
    fold: int | Literal["none", "all"] = "none"
    folds: int = setting(4, at_least=2)
    steps_per_epoch: int | None = setting(None, at_least=1)
    validate_every: int = setting(1, at_least=1)
    chunk_size: int | None = setting(None, at_least=1, in_row=False)
    patience: int | None = setting(None, at_least=1)
    clusters_per_class: int = setting(1, at_least=0, since=3, before=1)
    evaluation_queries: int | None = setting(None, at_least=1, since=3, before=None)
    full_gallery: bool = setting(False, since=3, before=False)
    split: str | None = setting(None, in_row=False)  # the row has `split_rule` and `split_recall_at`
    recall_at: tuple[int, ...] | None = setting(None, in_row=False)

    def __post_init__(self) -> None:
        check_ranges(self, "protocol")
        if not all(1 <= size <= MAX_DIMENSIONS for size in self.head_layers):
            sizes = f"each hidden layer needs a size of 1 to {MAX_DIMENSIONS}"
            raise UserError(f"protocol.head_layers is {list(self.head_layers)}; {sizes}")
        if 0 < self.epochs < self.warmup_epochs:
            raise UserError(
                f"protocol.warmup_epochs is {self.warmup_epochs}, but protocol.epochs is {self.epochs}; training would end "
                "during the warm-up"
            )
        if isinstance(self.fold, int) and not 0 <= self.fold < self.folds:
            folds = f"{self.folds} folds, 0 to {self.folds - 1}"
            raise UserError(f"protocol.fold is {self.fold}, but there are {folds}; `all` trains one model per fold")
        if self.patience is not None and self.selection != "validation":
            raise UserError("protocol.patience needs protocol.selection=validation; only then can training stop early")
        for name in ("clip_grad_norm", "clip_grad_value"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise UserError(f"protocol.{name} is {limit}; it must be above 0, or null to disable it")
        if self.trunk_frozen and self.pooling == "mixed":
            raise UserError(
                "protocol.pooling=mixed learns its share during training, but protocol.trunk_frozen=true computes pooled "
                "features once, before training; use avg, max or avg+max"
            )
        self._check_crops()

    def _check_crops(self) -> None:
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise UserError(f"protocol.crop_scale is {self.crop_scale}; it needs 0 < smallest <= largest <= 1")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise UserError(f"protocol.crop_ratio is {self.crop_ratio}; it needs 0 < smallest <= largest")
        if self.resize_px is not None and self.resize_px < self.image_px:
            raise UserError(
                f"protocol.resize_px is {self.resize_px}, smaller than the crop protocol.image_px={self.image_px}; "
                "use a larger value, or null to scale it with the crop"
            )

    @property
    def resolved(self) -> Protocol:
        """The protocol as it runs. A frozen trunk sees centre crops without flips, in evaluation mode."""
        if not self.trunk_frozen:
            return self
        return dataclasses.replace(self, **WITH_FROZEN_TRUNK)

    @property
    def all_ks(self) -> bool:
        """Whether Precision@k and Retrieved@k are computed for every k; otherwise for k up to 10, or up to R."""
        return self.full_gallery or self.evaluation_queries is not None

    @property
    def validation_score(self) -> str:
        """Name of the validation score in histories, such as `validation_map_at_r`."""
        return f"validation_{self.selection_metric}"

    @property
    def resized_px(self) -> int:
        """Shorter side before cropping, in pixels: `resize_px`, or the crop scaled as 256 to 227."""
        return self.resize_px or round(self.image_px * 256 / 227)


@dataclass(frozen=True)
class Method:
    """Everything that may differ between two compared runs: one file in `conf/loss/`.

    Args:
        name: Stem of its file.
        label: Name in print.
        kind: `pair` (learns from pairs in a batch), `classification` (has weights per class) or `none` (untrained).
        features: What a method without training retrieves with: the pooled features of the `trunk`, or the `pixels`.
        attributes: What a method does with the attributes of the images: `ignored`; `predicted`, by a linear branch on the last
            hidden layer (`protocol.head_layers`), or on the pooled features without one; or `annotated`, which uses them as
            they are. The loss receives them.
        n_attributes: Number of attributes that the method uses. None if it ignores them.
        attributes_digest: Digest of the names and values of these attributes.
        layer: Layer that images are retrieved by: the `embedding`, or the `fully_connected` layer that the attribute branch
            reads. The latter has no embedding layer, and its size is not `protocol.embedding_dim`.
        samples_per_class: Images per class in a batch; read by the m-per-class sampler.
        sampler: Constructor and arguments of the sampler of this method, such as one that builds triplets. It replaces the
            protocol's, with as many steps per epoch. None uses the protocol's.
        lr: Learning rate of the trunk for this method. None uses the protocol's.
        head_lr_scale: Learning-rate multiplier of the head, relative to the trunk, for this method. None uses the protocol's.
        lr_scale: Learning-rate multiplier of the loss's own parameters, relative to the trunk.
        proxy_init: Proxies, centres or class weights before training: as the `constructor` of the loss makes them, or scaled to
            `unit` length, so that `lr_scale` turns them equally fast in every loss, whatever the number of classes. A number is
            another length.
        weight_decay: Weight decay of the loss's own parameters. None uses the optimizer's.
        make: Constructor of the loss and its arguments. None trains nothing.
        miner: Constructor and arguments of the miner, which selects pairs or triplets from a batch. None for no miner.
        search: Search space for tuning `make` and `miner`. Learning rates are always part of it; see `tuning.space`. It does
            not affect a run that is not tuned.
        source_sha256: SHA-256 of the user's own code that `make` and `miner` refer to.
    """

    name: str = field(metadata=NOT_IN_ROW)  # the column `loss`
    label: str = field(metadata=NOT_IN_ROW)
    kind: Literal["pair", "classification", "none"]
    features: Literal["trunk", "pixels"] = setting("trunk", since=3, before="trunk")
    attributes: Literal["ignored", "predicted", "annotated"] = setting("ignored", since=3, before="ignored")
    n_attributes: int | None = setting(None, in_config=False, since=3, before=None)
    attributes_digest: str | None = setting(None, in_config=False, since=3, before=None)
    layer: Literal["embedding", "fully_connected"] = setting("embedding", since=3, before="embedding")
    samples_per_class: int = setting(4, at_least=1)
    sampler: dict[str, Any] | None = setting(None, since=3, before=None)  # noqa: RUF009  # the default is None
    lr: float | None = setting(None, at_least=0, since=3, before=None)
    head_lr_scale: float | None = setting(None, at_least=0, since=3, before=None)
    lr_scale: float = setting(1.0, at_least=0)
    proxy_init: Literal["constructor", "unit"] | float = setting("constructor", since=3, before="constructor")
    weight_decay: float | None = setting(None, at_least=0)
    make: dict[str, Any] | None = None
    miner: dict[str, Any] | None = None
    search: dict[str, Any] = field(default_factory=dict, metadata=NOT_IN_ROW)
    source_sha256: str | None = setting(None, in_config=False)

    def __post_init__(self) -> None:
        check_ranges(self, "loss")
        if (self.make is None) != (self.kind == "none"):
            raise UserError(
                f"loss/{self.name}: kind is '{self.kind}', so `make` must {'not ' * (self.make is not None)}be given"
            )
        if isinstance(self.proxy_init, float) and not 0 < self.proxy_init < math.inf:
            raise UserError(f"loss/{self.name}: proxy_init is {self.proxy_init}; a length must be above 0")
        if self.features == "pixels" and self.kind != "none":
            raise UserError(f"loss/{self.name}: features is 'pixels', so kind must be 'none', because pixels are not trained")
        if self.layer == "fully_connected" and "embedding_size" in (self.make or {}):
            raise UserError(
                f"loss/{self.name}: layer is 'fully_connected', so the model has no embedding layer, but loss.make has an "
                "embedding_size; use loss.layer=embedding"
            )
        if self.kind == "none" and (self.attributes, self.layer) != ("ignored", "embedding"):
            raise UserError(
                f"loss/{self.name}: kind is 'none', so it can use neither attributes nor another layer; remove `attributes` "
                "and `layer`"
            )


@dataclass(frozen=True)
class Dataset:
    """Constructor and declared facts of a data set: one file in `conf/dataset/`.

    Args:
        recall_at: Values of k for Recall@k. Precision@k and Retrieved@k are computed for those up to 10, or up to R; `dmlbench
            evaluate --ks` computes them for any k.
        make: Function that returns the data set's `Split`, with its arguments.
        name: Name in result rows and in paths.
        label: Name in print.
        root: Directory of a data set that the user provides.
        manifest: CSV file of the images and their labels.
        group: Column of the manifest with the group of each class, such as its genus.
        split: Split rule, for data sets that support several.
        split_seed: Seed of the split rule, if it draws at random. The seed of a run never changes the test set.
        on_unreadable: What to do with an image that cannot be read: `refuse` the run, or `skip` the image and count it.
        cache: `memmap` keeps all resized images in one file under `paths.data`. It does not affect results.
        archive: Archive files that the user already has, for `dmlbench data prepare`.
        downloads: Files to download otherwise, each with a `url` and, if published, a `sha256` or `md5`.
        exif_orientation: `applied` or `ignored`, for protocols that take it from the data set. Authors of published data sets
            ignore it.
        ask: Where to request a data set that cannot be downloaded.
        images: Number of images over all roles, whatever the split.
        validate_every: Epochs between two validations, for protocols that take it from the data set.
        patience: Early-stopping patience in epochs, for protocols that take it from the data set.
        declared_split: Split rule that the following facts describe. None for any rule.
        train_classes: Number of training classes. The files must confirm each fact; None if it is not known in advance.
        train_images: Number of training images.
        test_classes: Number of test classes.
        query_images: Number of query images.
        gallery_images: Number of gallery images.
        attributes: Which binary attributes to read, for methods that learn them; see docs/add-your-own.md. None for no
            attributes, or for those that the data set always has.
        n_attributes: Number of attributes that are declared; compared if attributes are read.
    """

    recall_at: tuple[int, ...]
    make: dict[str, Any]
    name: str = setting(config_default=None)  # null: the last part of `root`, or the file's stem
    label: str = setting(config_default=None)  # null: the name
    root: str | None = None
    manifest: str | None = None
    group: str | None = None
    split: str | None = None
    split_seed: int = 0
    on_unreadable: Literal["refuse", "skip"] = "refuse"
    cache: Literal["none", "memmap"] = "none"
    archive: str | tuple[str, ...] | None = None
    downloads: tuple[dict[str, Any], ...] = ()
    exif_orientation: Literal["applied", "ignored"] = "ignored"
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
    attributes: str | tuple[str, ...] | None = None
    n_attributes: int | None = None

    def __post_init__(self) -> None:
        if min(self.recall_at, default=0) < 1 or len(set(self.recall_at)) < len(self.recall_at):
            ks = list(self.recall_at)
            raise UserError(f"dataset.recall_at is {ks}; it needs one or more different values of at least 1")
        if not self.name.isprintable() or "/" in self.name or self.name.startswith(".") or not self.name:
            raise UserError(
                f"dataset.name is {self.name!r}, but it is the name of a directory: printable characters without '/' and "
                "without a leading '.'; set another one with dataset.name=NAME"
            )
        if self.attributes is not None and "attributes" not in self.make:
            given = self.attributes if isinstance(self.attributes, str) else f"[{','.join(self.attributes)}]"
            raise UserError(
                f"dataset.attributes={given} has no effect with dataset/{self.name}, whose make has no argument attributes; "
                "leave it out, or use dataset=folder"
            )

    @property
    def declared(self) -> dict[str, int | None]:
        """Facts that hold for the chosen split; None for each fact that is not declared."""
        facts = {"images": self.images, "n_attributes": self.n_attributes}
        if self.declared_split in (None, self.split):
            names = ("train_classes", "train_images", "test_classes", "query_images", "gallery_images")
            facts |= {name: getattr(self, name) for name in names}
        return facts


@dataclass(frozen=True)
class Trunk:
    """Constructor and input convention of a trunk (backbone): one file in `conf/trunk/`.

    Args:
        name: Stem of its file.
        label: Name in print.
        make: Constructor of the module, with its arguments.
        mean: Mean of each channel, on the scale of `input_range`, in the order of `channel_order`.
        std: Standard deviation of each channel, on the same scale and in the same order.
        channel_order: Channel order that the trunk expects.
        input_range: Value of white that the trunk expects: 1 or 255.
        weights: `none`, the name of published weights, or a file.
        published: Weights that the file publishes: name to `url`, `sha256` if known, and local `file` name.
        weights_sha256: SHA-256 of the loaded weights. None without weights.
    """

    name: str = field(metadata=NOT_IN_ROW)  # the column `trunk`
    label: str = field(metadata=NOT_IN_ROW)
    make: dict[str, Any]
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # ImageNet, RGB
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    channel_order: Literal["RGB", "BGR"] = "RGB"
    input_range: float = 1.0
    weights: str = setting("none", in_row=False)  # their digest identifies them
    published: dict[str, dict[str, str]] = field(default_factory=dict, metadata=NOT_IN_ROW)
    weights_sha256: str | None = setting(None, in_config=False)

    def __post_init__(self) -> None:
        if not 0 < self.input_range < math.inf:
            raise UserError(
                f"trunk.input_range is {self.input_range}; it is the value of white that the trunk expects: 1 or 255"
            )
        if not all(0 < value < math.inf for value in self.std):
            raise UserError(f"trunk.std is {list(self.std)}; each value must be above 0")


@dataclass(frozen=True)
class Tuning:
    """Budget of a hyper-parameter search; the same for every method of a table.

    Args:
        trials: Trials per method. 0 disables tuning.
        folds: Number of class-disjoint folds of the training classes.
        fold: Index of the fold used for validation; the others are used for training. `all` uses each in turn and averages
            the scores, at `folds` times the cost.
        epochs: Epochs per trial. None uses the protocol's.
        prune: Stop trials early that fall behind the median of the others.
        seed: Seed of proposals, initialisation and data order, shared by all trials. Final runs use their own seeds.
        only: Stop after the trials; set by `dmlbench tune`.
    """

    trials: int = setting(0, at_least=0)
    folds: int = setting(4, at_least=2)
    fold: int | Literal["all"] = 0
    epochs: int | None = setting(None, at_least=1)
    prune: bool = True
    seed: int = setting(0, at_least=0)
    only: bool = setting(False, in_row=False)

    def __post_init__(self) -> None:
        check_ranges(self, "tuning")
        if self.fold != "all" and not 0 <= self.fold < self.folds:
            raise UserError(f"tuning.fold is {self.fold}, but there are {self.folds} folds, 0 to {self.folds - 1}, or `all`")
        if self.only and not self.trials:
            raise UserError("tuning.only is true, but tuning.trials is 0; set the number of trials, as in tuning.trials=20")


GROUPS: dict[str, type] = {"dataset": Dataset, "trunk": Trunk, "loss": Method, "protocol": Protocol, "tuning": Tuning}
