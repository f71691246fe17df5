"""The column `lr_from`: rows whose learning rates were searched in other ranges, or not at all, are in tables of their own."""

from __future__ import annotations

import pytest
from rows_factory import make_row

from dmlbench.cli.sweep import parts
from dmlbench.config.compose import compose, resolve
from dmlbench.tables.table import compare
from dmlbench.tuning.rate_source import rate_source

SEARCHED = ("tuning.trials=2", "protocol.lr=1e-3", "protocol.head_lr_scale=1")


def source(*overrides: str) -> str:
    settings = resolve(compose([f"+{one}" if one.startswith("loss.search") else one for one in overrides]))
    return rate_source(settings.method, settings.protocol, settings.tuning.trials > 0)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["loss=contrastive"], "method"),
        (["loss=proxy_nca"], "method"),
        (["loss=untrained"], "method"),
        (["loss=contrastive", "loss.lr=5e-3"], "method"),  # trial 1 uses this rate, and the search may change it
        (["loss=contrastive", "loss.search.lr={low: 1e-4, high: 1e-2}"], "method"),  # the common range, written out
        (
            ["loss=smooth_ap", "loss.lr=5e-3", "loss.search.lr=null", "loss.search.head_lr_scale=null"],
            "method: lr not searched, head_lr_scale of the protocol",
        ),
        (
            ["loss=multi_similarity", "loss.search.lr={low: 9e-4, high: 1.1e-3}"],
            "method: lr searched from 0.0009 to 0.0011 (log)",
        ),
        (["loss=triplet", "loss.search.lr={choices: [1e-3, 2e-3]}"], "method: lr searched in 0.001|0.002"),
        (["loss=triplet", "loss.search.head_lr_scale=null"], "method: head_lr_scale of the protocol"),
        (["loss=triplet", "loss.head_lr_scale=3", "loss.search.head_lr_scale=null"], "method: head_lr_scale not searched"),
        (["loss=proxy_nca", "loss.search.lr_scale=null"], "method: lr_scale not searched"),
        (["loss=untrained", "loss.search.lr=null"], "method: lr of the protocol"),
        (["loss=triplet", "loss.search.lr=null", "loss.search.head_lr_scale=null"], "protocol"),
        (["loss=proxy_nca", "loss.search.lr=null", "loss.search.head_lr_scale=null"], "protocol"),
        (
            ["loss=proxy_nca", "loss.search.lr=null", "loss.search.head_lr_scale=null", "loss.search.lr_scale=null"],
            "protocol: lr_scale not searched",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_source_of_the_rates_says_in_what_a_search_differs_from_the_common_one(overrides: list[str], expected: str) -> None:
    assert source(*SEARCHED, *overrides) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["loss=contrastive"], "protocol"),
        (["loss=contrastive", "loss.search.lr=null"], "protocol"),
        (["loss=untrained"], "protocol"),
        (["loss=contrastive", "loss.lr=5e-3"], "method"),
        (["loss=contrastive", "loss.head_lr_scale=3"], "method"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_without_a_search_the_source_of_the_rates_is_the_method_or_the_protocol(overrides: list[str], expected: str) -> None:
    assert source(*overrides) == expected


def test_rows_whose_rates_were_searched_differently_are_in_different_tables_and_each_caption_says_how() -> None:
    narrow = "method: lr searched from 0.0009 to 0.0011 (log)"
    sources = {"contrastive": "method", "triplet": "method", "multi_similarity": narrow, "arcface": "protocol"}
    tables = compare([make_row(loss=loss, lr_from=value, fingerprint=value) for loss, value in sources.items()])
    found = {str(table.shared["lr_from"]): table for table in tables}
    assert {value: len(table.rows) for value, table in found.items()} == {"method": 2, narrow: 1, "protocol": 1}
    assert "learning rates of each method (loss.lr, loss.head_lr_scale)" in found["method"].caption
    assert f"learning rates of each method ({narrow.removeprefix('method: ')})" in found[narrow].caption
    assert "learning rates" not in found["protocol"].caption


def test_the_baselines_of_a_sweep_have_its_search_of_the_trunk_and_head_rates() -> None:
    """So they are in the table of the sweep."""
    search = ["loss.search.lr=null", "loss.search.head_lr_scale={low: 1, high: 2}"]
    [baselines, _] = parts([*SEARCHED, "loss=triplet", *search, "loss.search.make.margin=null", "loss.lr=5e-3"], None)
    assert baselines == [*SEARCHED, *search, "loss=raw_pixels,untrained"]
    assert source(*baselines[:-1], "loss=untrained") == source(*SEARCHED, "loss=triplet", *search)
