"""The classes of the configuration: types, ranges, defaults, and fields that were added later."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

from dmlbench.config.identity import columns_of
from dmlbench.config.schema import GROUPS, NO_DEFAULT, UNSET, Dataset, Method, Protocol, defaults, row_fields, setting
from dmlbench.config.typed import typed
from dmlbench.errors import UserError

GIVEN: dict[str, Any] = {
    "name": "mine",
    "version": 1,
    "epochs": 3,
    "batch_size": 8,
    "embedding_dim": 16,
    "image_px": 227,
}


def protocol(**changes: Any) -> Protocol:
    return typed(Protocol, "protocol", GIVEN | changes)


# Types and ranges


def test_an_unknown_field_is_refused_with_a_similar_name() -> None:
    with pytest.raises(UserError, match=r"protocol\.epoch is not known; did you mean 'epochs'\?"):
        protocol(epoch=3)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("epochs", "many", "protocol.epochs is 'many', but a whole number is needed"),
        ("epochs", 2.5, "protocol.epochs is 2.5, but a whole number is needed"),
        ("epochs", True, "protocol.epochs is true, but a whole number is needed"),
        ("lr", "fast", "protocol.lr is 'fast', but a number is needed"),
        ("lr", False, "protocol.lr is false, but a number is needed"),
        ("flip", 1, "protocol.flip is 1, but true or false is needed"),
        ("pooling", "average", r"protocol.pooling is 'average', but 'avg' or 'max' or 'avg\+max' or 'mixed' is needed"),
        ("schedule", "cosin", "did you mean 'cosine'"),
        ("crop_scale", [0.1], r"protocol.crop_scale is \[0.1\], but a list of 2 numbers is needed"),
        ("clip_grad_norm", "none", "protocol.clip_grad_norm is 'none', but a number or null is needed"),
        ("epochs", -1, "protocol.epochs is -1; it must be at least 0"),
        ("lr", float("nan"), "protocol.lr is nan; it must be at least 0"),
        ("resize_px", 200, "protocol.resize_px is 200, smaller than the crop protocol.image_px=227"),
        ("crop_scale", [0.5, 0.1], r"protocol.crop_scale is \(0.5, 0.1\); it needs 0 < smallest <= largest <= 1"),
        ("clip_grad_norm", 0, "protocol.clip_grad_norm is 0.0; it must be above 0"),
        ("patience", 3, "protocol.patience needs protocol.selection=validation"),
        ("head_layers", [0], r"protocol.head_layers is \[0\]; each hidden layer needs a size of 1 to 65536"),
        ("head_layers", [10**11], r"protocol.head_layers is \[100000000000\]; each hidden layer needs a size of 1 to 65536"),
        ("embedding_dim", 99999999999, "protocol.embedding_dim is 99999999999; it must be at most 65536"),
        ("image_px", 10**6, "protocol.image_px is 1000000; it must be at most 8192"),
        ("threads", 100_000, "protocol.threads is 100000; it must be at most 1024"),
        ("warmup_epochs", 4, "protocol.warmup_epochs is 4, but protocol.epochs is 3; training would end during the warm-up"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_refused_in_one_sentence(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        protocol(**{field: value})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(UserError, match=r"protocol\.epochs is missing; it needs a whole number"):
        typed(Protocol, "protocol", {key: value for key, value in GIVEN.items() if key != "epochs"})


def test_a_whole_float_is_accepted_as_a_whole_number_and_a_whole_number_as_a_float() -> None:
    made = protocol(epochs=4.0, lr=1)
    assert (made.epochs, type(made.epochs), made.lr, type(made.lr)) == (4, int, 1.0, float)


def test_images_are_resized_in_the_ratio_256_to_227_of_the_crop_unless_a_size_is_given() -> None:
    assert [protocol(image_px=px).resized_px for px in (227, 224, 96)] == [256, 253, 108]
    assert protocol(image_px=96, resize_px=112).resized_px == 112


def test_a_protocol_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol().epochs = 5  # type: ignore[misc]


def test_a_protocol_without_training_may_have_a_warm_up() -> None:
    assert protocol(epochs=0, warmup_epochs=1).warmup_epochs == 1
    assert protocol(warmup_epochs=3).warmup_epochs == 3


def test_the_weight_decay_of_a_loss_is_not_negative() -> None:
    with pytest.raises(UserError, match=r"loss\.weight_decay is -1\.0; it must be at least 0, or null"):
        Method("x", "X", "pair", weight_decay=-1.0, make={"_target_": "a.B"})


@pytest.mark.parametrize(
    ("ks", "sentence"),
    [((), "it needs one or more"), ((0, 1), "values of at least 1"), ((1, 2, 1), r"\[1, 2, 1\]; it needs .* different")],
)
def test_values_of_k_are_positive_and_different(ks: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=f"dataset.recall_at is .*{sentence}"):
        Dataset(ks, {}, name="x", label="X")


def test_only_a_method_of_kind_none_has_no_loss() -> None:
    with pytest.raises(UserError, match="kind is 'pair', so `make` must be given"):
        Method("x", "X", "pair")
    with pytest.raises(UserError, match="kind is 'none', so `make` must not be given"):
        Method("x", "X", "none", make={"_target_": "a.B"})


# Defaults


def test_defaults_have_the_form_of_yaml_and_leave_out_required_and_computed_fields() -> None:
    @dataclass
    class Example:
        required: int
        computed: str | None = setting(None, in_config=False)
        number: float = setting(0.5, at_least=0)
        sizes: tuple[int, ...] = (1, 2)
        mapping: dict[str, Any] = dataclasses.field(default_factory=dict)
        passed_by_the_code: int = setting(3, config_default=None)

    assert defaults(Example) == {"number": 0.5, "sizes": [1, 2], "mapping": {}, "passed_by_the_code": None}


def test_digests_of_sources_and_weights_cannot_be_configured() -> None:
    computed = {"source_sha256", "weights_sha256"}
    assert not computed & {name for cls in GROUPS.values() for name in defaults(cls)}


# Fields that were added after the first version of the row schema


@pytest.mark.parametrize("arguments", [{"since": 2}, {"before": 1}, {"since": 1, "before": None}])
def test_a_field_that_was_added_later_needs_the_value_of_earlier_rows_and_no_other_field_has_one(
    arguments: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match="a field with `since` > 1 needs `before`"):
        setting(1, **arguments)
    setting(1, since=2, before=1)
    setting(None, since=2, before=None)


def changed_behaviour(group: str, configuration_class: type) -> list[str]:
    """One sentence for each field whose default differs from the value that describes rows from before the field existed."""
    sentences = []
    for field in dataclasses.fields(configuration_class):
        before = field.metadata.get("before", UNSET)
        config_default = field.metadata.get("config_default", UNSET)
        default = field.default if config_default is UNSET else config_default
        if isinstance(default, str) and default.startswith("${dataset."):  # the default of data sets that do not set it
            default = defaults(Dataset)[default.removeprefix("${dataset.").rstrip("}")]
        if before is not UNSET and (default is NO_DEFAULT or type(default) is not type(before) or default != before):
            shown = "no default" if default is NO_DEFAULT else f"the default {default!r}"
            sentences.append(
                f"{group}.{field.name} has {shown}, but earlier rows were made with {before!r}: existing results would be "
                f"compared with different ones; use the default {before!r}, and to change the behaviour, set another value in "
                "the protocols and raise the version of every protocol"
            )
    return sentences


@pytest.mark.parametrize("group", GROUPS)
def test_the_default_of_a_field_that_was_added_later_describes_earlier_rows(group: str) -> None:
    assert not changed_behaviour(group, GROUPS[group])


def test_a_default_that_differs_from_earlier_rows_is_found() -> None:
    @dataclass
    class Example:
        same: int = setting(1, since=2, before=1)
        changed: int = setting(2, since=2, before=1)
        other_type: float = setting(1.0, since=2, before=True)
        in_files: int = setting(1, since=2, before=1, config_default=5)
        old: int = 7

    sentences = changed_behaviour("protocol", Example)
    assert [sentence.partition(",")[0] for sentence in sentences] == [
        "protocol.changed has the default 2",
        "protocol.other_type has the default 1.0",
        "protocol.in_files has the default 5",
    ]
    assert all("raise the version of every protocol" in sentence for sentence in sentences)


# Fields that are part of the identity of a run


def test_every_field_is_part_of_the_identity_of_a_run_unless_it_is_declared_otherwise() -> None:
    left_out = {
        group: {one.name for one in dataclasses.fields(cls)} - {one.name for one in row_fields(cls)}
        for group, cls in GROUPS.items()
        if group != "dataset"  # the split digest identifies it
    }
    assert left_out == {
        "trunk": {"name", "label", "weights", "published"},
        "loss": {"name", "label", "search"},
        "protocol": {"name", "chunk_size", "split", "recall_at"},
        "tuning": {"only"},
    }


def test_a_new_field_is_a_column_and_a_field_outside_of_the_row_is_not() -> None:
    @dataclass
    class Budget:
        make: dict[str, Any]
        sobol: bool = True
        note: str = setting("", in_row=False)

    assert columns_of("tuning", Budget({"_target_": "a.B"})) == {"tuning_make_target": "a.B", "tuning_sobol": True}
