"""A caption names what its rows have otherwise than the files they name, and nothing where they have it so."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rows_factory import make_row

from dmlbench.build import build
from dmlbench.configs import conf_dir
from dmlbench.deviations import deviations, sampler_of
from dmlbench.launch import compose, shared_columns
from dmlbench.plan import Dataset, Protocol, Trunk, typed
from dmlbench.rows import Row
from dmlbench.table import compare

NAMES = ("protocol", "optimizer", "sampler", "trunk")


def files(group: str) -> list[str]:
    return sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def made(data: Path, *words: str) -> Row:
    """A row with the shared columns of a run of these words, which is not run: no weights are needed."""
    cfg, choices = compose(["dataset=synthetic", "loss=triplet", *words, f"paths.data={data}"])

    def plain(group: str) -> dict[str, Any]:
        return {str(key): value for key, value in OmegaConf.to_container(cfg[group], resolve=True).items()}  # type: ignore[union-attr]

    dataset = typed(Dataset, "dataset", {**plain("dataset"), "name": "synthetic", "label": "Synthetic"})
    protocol = typed(Protocol, "protocol", {"name": choices["protocol"], **plain("protocol")}).resolved
    trunk = typed(Trunk, "trunk", {"label": choices["trunk"], **plain("trunk"), "name": choices["trunk"]})
    split = build("dataset/synthetic", dataset.make)
    columns = shared_columns(cfg, choices, dataset, split, trunk, protocol, "fp32")
    row = make_row(**{"trunk_label": trunk.label, **columns})
    made_up = {name for name in row.columns if name.startswith(("sampler_", "optimizer_"))} - set(columns)
    return Row({name: value for name, value in row.columns.items() if name not in made_up})


def caption(*rows: Row, vary: str = "loss") -> str:
    [table] = compare(list(rows), vary=vary, tested=False)
    return table.caption


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in NAMES for name in files(group)])
def test_a_row_of_a_shipped_file_as_it_is_differs_from_it_in_nothing(data: Path, group: str, name: str) -> None:
    row = made(data, f"{group}={name}")
    assert row[group] == name
    assert {found: deviations(row, found) for found in NAMES} == {found: {} for found in NAMES}
    assert "changed" not in caption(row)


def test_the_caption_says_that_the_trunk_was_frozen_and_not_what_follows_from_it(data: Path) -> None:
    said = caption(made(data, "protocol.trunk_frozen=true", "protocol=standard"))
    assert "adamw; trunk frozen. Selected" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["protocol.lr=1e30"], "32 px, adamw; changed from its file: lr=1e+30."),
        (["protocol.flip=true", "protocol.trunk_frozen=true"], "adamw; trunk frozen."),
        (
            ["protocol.resize_px=50", "protocol.epochs=2"],
            "2 epochs, batch 64, 64-d embedding, 32 px, adamw; changed from its file: resize",
        ),
        (["protocol.image_px=64"], "64-d embedding, 64 px, adamw. Selected"),  # the resize follows
        (["protocol.head_layers=[8]"], "changed from its file: head_layers=[8]."),
        (["protocol=best_practice", "protocol.flip=false"], "changed from its file: flip=false."),  # its parent's
        (["optimizer.weight_decay=0.5"], "adamw; changed from the optimizer's file: weight_decay=0.5."),
        (["+optimizer.amsgrad=true"], "changed from the optimizer's file: amsgrad=true."),
        (["~optimizer.eps"], "changed from the optimizer's file: eps left out."),
        (["sampler.samples_per_class=8"], "changed from the sampler's file: samples_per_class=8."),
        (["sampler=shuffle"], "adamw; sampler shuffle."),
        (["trunk.make.channels=[8,16]"], "Trunk ConvNet, without pretrained weights; changed from its file: channels=[8, 16]."),
        (["trunk.input_range=255"], "without pretrained weights; changed from its file: input_range=255.0."),
    ],
)
def test_the_caption_names_each_value_that_is_not_its_files(data: Path, words: list[str], sentence: str) -> None:
    assert sentence in caption(made(data, *words))


def test_what_the_lines_differ_in_is_not_told_as_equal(data: Path) -> None:
    rows = [made(data, f"protocol.lr={lr}", "optimizer.weight_decay=0.5") for lr in (0.1, 0.2)]
    said = caption(*rows, vary="protocol.lr")
    assert "weight_decay=0.5" in said
    assert "lr=" not in said


def test_a_file_of_the_users_own_is_not_compared(data: Path) -> None:
    row = made(data, "protocol.lr=1e30")
    assert deviations(Row({**row.columns, "protocol": "mine"}), "protocol") == {}
    assert deviations(Row({**row.columns, "protocol": "../protocol/quick"}), "protocol") == {}
    assert sampler_of("mine") is None
    assert "trunk frozen" in caption(Row({**row.columns, "protocol": "mine", "protocol_trunk_frozen": True}))


def test_a_preset_changes_the_files_itself_and_its_name_stands_for_that(data: Path) -> None:
    said = caption(Row({**made(data, "protocol.lr=1e30").columns, "preset": "paper"}))
    assert "preset paper" in said
    assert "changed" not in said


def test_the_protocols_fields_are_all_compared(data: Path) -> None:
    row = made(data)
    fields = [spec.name for spec in dataclasses.fields(Protocol) if spec.name not in ("name", "resize_px")]
    for name in fields:
        other = Row({**row.columns, f"protocol_{name}": "another"})
        assert deviations(other, "protocol") == {f"protocol_{name}": "another"}
