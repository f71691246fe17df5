"""Every column of a result row, declared once: role, meaning, name in print, unit, and the version that introduced it.

Fingerprints, grouping, captions, costs, comparisons, `show`, CSV and docs/columns.md all read these declarations. Columns of
the protocol and of the tuning budget come from the fields of `schema`, metrics from `metric_specs`; all others are listed
below. A name with `*` declares a family of columns.

Roles:

    identity    identify the run, and give names for printing
    shared      must be equal in two rows that are compared; the fingerprint is the digest of these columns
    method      hyper-parameters of the method, which may differ between compared rows
    metric      compared by tables
    result      other numbers that a run produced
    cost        time, memory and parameters
    provenance  the conditions under which the numbers were produced
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from dmlbench.config.schema import UNSET, Method, Protocol, Trunk, Tuning, row_fields

Role = Literal["identity", "shared", "method", "metric", "result", "cost", "provenance"]


@dataclass(frozen=True)
class Column:
    """Declaration of one column, or of a family of columns.

    Args:
        name: Name of the column; `*` stands for any text.
        role: Role of the column; the module describes them.
        meaning: One sentence for the documentation.
        label: Name in print. Empty for columns that are printed under their own name.
        unit: Unit in print.
        scale: Value in the row that is printed as 1, such as 1e6 for parameters in millions.
        required_type: Type of the value, for columns that every row must have. None for columns that may be absent.
        caption: Template of the value in table captions, such as `"{} epochs"`.
        brings: Prefix of the columns that the choice of a configuration file determines, such as `trunk_`.
        reproducible: Whether the same plan and seed give the same value.
        must_agree: Whether a table warns if its rows differ in this column.
        evaluated: Whether `dmlbench evaluate` replaces or removes the value when it evaluates a run again.
        in_tables: Whether tables print it (costs).
        per_machine: Whether the value depends on the machine (costs).
        needs: `training` or `tuning` for costs that only trained or only tuned runs have.
        sum_of: Columns whose sum is printed under this name. The row itself does not have such a column.
        since: Version of the row schema in which the column appeared.
        before: For `since` > 1: the value that describes rows without the column; see `schema.setting`.
        group: Group of columns that a row has all of or none of: external rows have no columns of the group `protocol`, untuned
            rows none of `tuning`. A row without the column is read as if it had `before` if it has another column of the
            group. Empty for columns that every row has.
    """

    name: str
    role: Role
    meaning: str
    label: str = ""
    unit: str = ""
    scale: float = 1.0
    required_type: type | None = None
    caption: str = ""
    brings: str = ""
    reproducible: bool = True
    must_agree: bool = False
    evaluated: bool = False
    in_tables: bool = False
    per_machine: bool = True
    needs: Literal["", "training", "tuning"] = ""
    sum_of: tuple[str, ...] = ()
    since: int = 1
    before: Any = UNSET
    group: str = ""

    @property
    def is_family(self) -> bool:
        """Whether the declaration stands for several columns."""
        return "*" in self.name

    @property
    def heading(self) -> str:
        """Label with its unit.

        >>> column("train_seconds").heading
        'Train (s)'
        """
        name = self.label or self.name
        return f"{name} ({self.unit})" if self.unit else name


def _identity() -> Iterator[Column]:
    yield Column("schema_version", "identity", "Version of the row schema that the row was written in.", required_type=int)
    yield Column("run_id", "identity", "Fingerprint, method digest and seed.", required_type=str)
    yield Column("fingerprint", "identity", "First 8 hex digits of the digest of all shared columns.", required_type=str)
    yield Column("method_digest", "identity", "First 8 hex digits of the digest of all `loss_*` columns.", required_type=str)
    yield Column("status", "identity", "`ok`, `failed` (see `reason`), or `missing` (the run has no row).", required_type=str)
    yield Column("reason", "identity", "Why the run failed or has no row; null if it is `ok`.")
    yield Column("seed", "identity", "Seed of initialisation, data order and augmentation.", required_type=int)
    yield Column("dataset_label", "identity", "Name of the data set in print.")
    yield Column("trunk_label", "identity", "Name of the trunk in print.")
    yield Column(
        "trunk_weights", "identity", "Name of the pretrained weights; comparisons use their digest, `trunk_weights_sha256`."
    )
    yield Column("loss_label", "identity", "Name of the method in print.")
    yield Column("parent", "identity", "For rows of `dmlbench evaluate`: the `run_id` of the run that was evaluated again.")


def _shared() -> Iterator[Column]:
    yield Column("dataset", "shared", "Data set.", required_type=str, caption="{}", brings="split_")
    yield Column("trunk", "shared", "Trunk (backbone).", required_type=str, caption="{}", brings="trunk_")
    yield Column("preset", "shared", "Preset, or `none`.", caption="{}", brings="preset_")
    yield Column(
        "protocol",
        "shared",
        "Protocol; `external` for external embeddings.",
        required_type=str,
        caption="{}",
        brings="protocol_",
    )
    yield Column("optimizer", "shared", "Optimizer.", caption="{}", brings="optimizer_")
    yield Column("sampler", "shared", "Batch sampler.", brings="sampler_")
    yield Column(
        "precision", "shared", "`fp32`; `bf16_training`: trained in bfloat16, embedded in float32; `bf16`: both in bfloat16."
    )
    rates = (
        "Source of the learning rates of trunk and head: the `protocol`, or each `method` (`loss_lr`, `loss_head_lr_scale`). "
        "For tuned rows, followed by what differs from the search that all methods have, as in `method: lr not searched`."
    )
    of_protocol: dict[str, Any] = {"group": "protocol", "since": 3, "before": "protocol"}
    yield Column("lr_from", "shared", rates, "source of the learning rates", **of_protocol)
    yield Column("split_*", "shared", "Split of the data set: digest over paths, labels and roles, rule, seed, values of k.")
    trunk = "Constructor arguments, input convention, and digests of weights and source of the trunk."
    yield Column("trunk_*", "shared", trunk, group="trunk")
    yield Column("optimizer_*", "shared", "Constructor and arguments of the optimizer.")
    yield Column("sampler_*", "shared", "Constructor and arguments of the sampler; references to the method are kept as text.")
    yield Column(
        "evaluation_*", "shared", "Settings of `dmlbench evaluate` that differ from those of training runs.", group="evaluation"
    )
    yield from _of_schema("trunk", "shared", Trunk)
    yield from _of_schema("protocol", "shared", Protocol)
    yield from _of_schema("tuning", "shared", Tuning)
    yield Column("protocol_*", "shared", "Field of a protocol that this version does not know.", group="protocol")
    yield Column("tuning_*", "shared", "Field of a tuning budget that this version does not know.", group="tuning")


def _of_schema(group: str, role: Role, cls: type) -> Iterator[Column]:
    """Yield the columns of the fields of a configuration class: one per field, or one per key of a mapping."""
    meanings = _args_of(cls)
    for field in row_fields(cls):
        name, meaning = f"{group}_{field.name}", meanings[field.name]
        is_mapping, may_be_none = "dict[" in str(field.type), "None" in str(field.type)
        if is_mapping:
            yield Column(f"{name}_*", role, meaning, group=group)
        if may_be_none or not is_mapping:
            since, before = field.metadata.get("since", 1), field.metadata.get("before", UNSET)
            caption = field.metadata.get("caption") or ""
            yield Column(name, role, meaning, caption=caption, since=since, before=before, group=group)


def _method() -> Iterator[Column]:
    yield Column("loss", "method", "Method: stem of its file in `conf/loss/`.", required_type=str, caption="{}", brings="loss_")
    yield from _of_schema("loss", "method", Method)
    yield Column("loss_*", "method", "Hyper-parameter of a method that this version does not know.", group="loss")


def _results() -> Iterator[Column]:
    yield Column("selected_epoch", "result", "Epoch of the reported model; a list for several models.")
    metric = "(`protocol_selection_metric`, MAP@R by default)"
    yield Column("selected_score", "result", f"Validation score of the reported model {metric}.", "validation score", "%")
    yield Column("untrained_score", "result", f"Validation score before training {metric}.", "before training", "%")
    yield Column("untrained_trunk_score", "result", f"Validation score of the trunk {metric}.", "untrained trunk", "%")
    yield Column("oracle_map_at_r", "result", "MAP@R of the epoch that is best on the test set.", "oracle", "%", evaluated=True)
    yield Column("oracle_epoch", "result", "Epoch that is best on the test set.", evaluated=True)
    yield Column("final_loss", "result", "Mean loss of the last epoch.")
    yield Column("n_proxies", "result", "Proxies (class weights) of the method, summed over models.")
    yield Column("n_dead_proxies", "result", "Proxies that did not move during training, summed over models.")
    turn = "Mean angle by which proxies turned in the first 20 steps, or in all if there are fewer; mean over models."
    yield Column("proxy_turn_degrees", "result", turn, "proxies turned", "°", since=3, before=None)
    memory = "Steps in which the loss used its memory of earlier batches, summed over models; only for losses with one."
    yield Column("n_memory_steps", "result", memory, since=3, before=None)
    yield Column("n_tied_queries", "result", "Queries with ties among their first ranks.", evaluated=True)
    yield Column("n_clusters", "result", "Clusters of k-means.", evaluated=True)
    yield Column("n_clusterings", "result", "Runs of k-means.", evaluated=True)
    yield Column("cluster_*", "result", "Initialisation and seed of k-means.", evaluated=True)
    shared = "Mean share of the test images that have an attribute: about the mean average precision of a random order."
    yield Column("attribute_prevalence", "result", shared)
    yield Column("n_evaluated_attributes", "result", "Attributes whose prediction was evaluated.")
    without = "Attributes that no test image has, which are left out of the means."
    yield Column("n_attributes_without_positives", "result", without)
    untrained = "Evaluated attributes that no training image has, so their prediction cannot be learned."
    yield Column("n_attributes_without_training", "result", untrained, since=3, before=None)
    yield Column("*_std", "result", "Standard deviation over several runs of k-means.", evaluated=True)
    yield Column(
        "separated_*",
        "result",
        "With one model per fold: mean over the models, equal to the column without the prefix.",
        evaluated=True,
    )
    yield Column("fold*_map_at_r", "result", "MAP@R of the model of one fold.", evaluated=True)
    yield Column("concatenated_dim", "result", "Size of the concatenated embedding.", evaluated=True)


def _costs() -> Iterator[Column]:
    def cost(name: str, meaning: str, label: str, unit: str = "", **more: Any) -> Column:
        return Column(name, "cost", meaning, label, unit, **{"reproducible": False, "evaluated": True, **more})

    yield cost("train_seconds", "Time spent in training, over all models.", "Train", "s", in_tables=True)
    yield cost("evaluate_seconds", "Time spent in embedding and evaluation.", "Evaluation", "s")
    yield cost("features_seconds", "Time spent on the features of a frozen trunk; null without one.", "Features", "s")
    yield cost("*_seconds", "Time spent in a part of the run.", "", "s")
    yield cost(
        "images_per_second", "Training images per second, median over epochs.", "Images/s", in_tables=True, needs="training"
    )
    yield cost(
        "memory_gib",
        "Peak memory of the process (CPU) or of the device (CUDA); on Linux and CUDA since the run began.",
        "Mem.",
        "GiB",
        in_tables=True,
    )
    parameters = {"scale": 1e6, "per_machine": False, "reproducible": True, "evaluated": False}
    yield cost("n_model_parameters", "Parameters of trunk and head.", "Model parameters", "M", **parameters)
    yield cost("n_loss_parameters", "Parameters of the loss.", "Loss parameters", "M", **parameters)
    both = ("n_model_parameters", "n_loss_parameters")
    yield cost("n_parameters", "Parameters of model and loss.", "Par.", "M", sum_of=both, in_tables=True, **parameters)
    yield cost("tuned_hours", "Time spent in tuning trials.", "Tuning", "h", in_tables=True, needs="tuning")


def _provenance() -> Iterator[Column]:
    def record(name: str, meaning: str, label: str = "", **more: Any) -> Column:
        return Column(name, "provenance", meaning, label, **more)

    yield record("selected_on", "How the reported model was chosen: `last` epoch, `validation`, or `none`.", "model selection")
    yield record("n_models", "Number of models: one, or one per fold.", "models")
    yield record("embedding_dim", "Size of the embedding.", "embedding size", reproducible=True)
    files = "SHA-256 of the file of embeddings, or of the SHA-256 of several files (one per model)."
    yield record("embeddings_sha256", files, reproducible=False, evaluated=True)
    scores = "SHA-256 of the file with the scores of each query."
    yield record("per_query_sha256", scores, reproducible=False, evaluated=True, since=3, before=None)
    weights = "SHA-256 of the file of the model, or of the SHA-256 of several files (one per model)."
    yield record("model_sha256", weights, reproducible=False, since=3, before=None)
    yield record("n_images", "Images of the data set, over all roles.", "images")
    yield record("n_train_images", "Training images.", "training images")
    yield record("n_train_classes", "Training classes.", "training classes")
    yield record("n_query_images", "Images that are queries.", "query images")
    yield record("n_gallery_images", "Images in the gallery.", "gallery images")
    yield record("n_queries", "Evaluated queries.", "number of queries", evaluated=True, must_agree=True)
    yield record("n_excluded", "Queries without a relevant item, which are excluded.", "excluded queries", evaluated=True)
    yield record("n_gallery", "Items in the gallery.", "gallery items", evaluated=True)
    yield record("n_test_classes", "Test classes.", "number of test classes", must_agree=True)
    full = "Items in the gallery of training and test images."
    yield record("full_n_gallery", full, "items in the full gallery", evaluated=True)
    yield record("n_images_skipped", "Images skipped because they could not be read.", "skipped images")
    overlap = "Classes that have both training and test images."
    yield record("n_shared_classes", overlap, "classes in training and test", since=3, before=None)
    since_3: dict[str, Any] = {"since": 3, "before": None}
    kind = "What the groups of classes are, such as `alphabet`; null if the data set has no groups."
    yield record("class_group_kind", kind, "kind of groups", must_agree=True, **since_3)
    covered = "Digest of the groups of the test classes; the split digest does not cover them."
    yield record("class_groups_digest", covered, "groups of the test classes", must_agree=True, **since_3)
    yield record("n_test_groups", "Groups of the test classes.", "groups of test classes", **since_3)
    spanning = "Groups of the test classes that also occur in training."
    yield record("n_shared_groups", spanning, "groups in training and test", **since_3)
    duplicates = "Test images that equal a training image, byte by byte or nearly."
    yield record("n_duplicates_across_split", duplicates, "duplicates across the split", since=3, before=None)
    attributes = "Binary attributes of the data set; null if it has none, or if they were not read."
    yield record("n_attributes", attributes, "attributes", since=3, before=None)
    contents = "Digest of the contents of all images; null for generated images."
    yield record("images_digest", contents, "contents of the images", must_agree=True, since=3, before=None)
    yield record("tuned_*", "Result of the hyper-parameter search.")
    yield record("n_tuning_*", "Trials and epochs of the hyper-parameter search.")
    yield record("device", "Kind of device.", "device", must_agree=True)
    kernels = "Instruction set of the CPU that torch uses, such as `AVX2`; `ATEN_CPU_CAPABILITY` limits it."
    yield record("cpu_capability", kernels, "CPU instruction set", must_agree=True, since=3, before=None)
    libraries = "Versions of the libraries for matrix products and convolutions on the CPU, with which torch was built."
    yield record("cpu_libraries", libraries, "CPU libraries of torch", must_agree=True, since=3, before=None)
    for name in ("dmlbench", "torch", "pytorch_metric_learning"):
        library = name.replace("_", "-")
        yield record(f"{name}_version", f"Version of {library}.", f"version of {library}", must_agree=True)
    yield record("*_version", "Version of a library.")
    yield record("code_revision", "Git revision of dmlbench, if it runs from a checkout.", "revision")
    per_execution: dict[str, Any] = {"reproducible": False, "evaluated": True}
    yield record("hostname", "Name of the machine.", "machine", **per_execution)
    yield record("cpu_model", "Model of the CPU.", "CPU", **per_execution, since=3, before=None)
    yield record("finished_at", "When the run ended, in UTC.", "finished", **per_execution)
    yield record("n_resumed", "How often training resumed from a checkpoint.", "resumed", **per_execution)
    since_2: dict[str, Any] = {"reproducible": False, "since": 2, "before": None}
    yield record("overrides", "Overrides of the command line that changed a value (JSON list).", **since_2)
    yield record("config_files", "Chosen and inherited configuration files, each with its SHA-256 (JSON object).", **since_2)
    chunks = "Images per chunk, if batches are embedded in chunks; the results differ by rounding only."
    yield record("chunk_size", chunks, "images per chunk", reproducible=False, since=3, before=None)
    together = "Processes that trained together; the results differ by rounding only."
    yield record("n_processes", together, "processes", reproducible=False, since=3, before=1)
    compiled = "Whether the trunk was compiled; the results differ by rounding only."
    yield record("compiled", compiled, "compiled", reproducible=False, since=3, before=False)
    source = "Directory and manifest of the images, and the arguments of the data set's constructor (JSON object)."
    yield record("dataset_source", source, reproducible=False, since=3, before=None)
    sampler = "Constructor and arguments of the sampler, with the values of the method that they refer to (JSON object)."
    yield record("resolved_sampler", sampler, reproducible=False, since=3, before=None)


def _args_of(cls: type) -> dict[str, str]:
    """Return the descriptions in the `Args` section of a class, by field."""
    text = inspect.getdoc(cls) or ""
    section = text.partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.+?)(?=^    \w+: |\Z)", section + "\n", re.MULTILINE | re.DOTALL)
    return {name: " ".join(meaning.split()) for name, meaning in entries}


COLUMNS: tuple[Column, ...] = (*_identity(), *_shared(), *_method(), *_results(), *_costs(), *_provenance())
