"""The provenance of a report: what was equal, commands that make the rows again, and warnings."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_pages import Node, report, write_run, write_study

from dmlbench.cli import run
from dmlbench.report.commands import commands_of
from dmlbench.results.row_files import read_rows
from dmlbench.tables.table import compare

TINY = (
    *("dataset=folder", "dataset.root=photos", "protocol=quick", "trunk=convnet", "trunk.make.channels=[4,8]"),
    *("protocol.epochs=1", "protocol.batch_size=8", "protocol.embedding_dim=8"),
)


def commands(page: Node) -> list[str]:
    [block] = [pre for pre in page.all("pre") if "data-source" not in pre.attributes]
    return block.raw.splitlines()


def test_the_command_of_a_report_names_the_run_that_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    for label in range(8):
        Path(f"photos/class {label}").mkdir(parents=True)
        for k in range(4):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"photos/class {label}/{k}.png")
    assert run(["train", "loss=arcface", "loss.make.scale=32", "seed=3", *TINY]) == 0
    before = sorted(Path("runs").rglob("*"))
    [line] = commands(report())
    capsys.readouterr()
    assert run(shlex.split(line)[1:]) == 0
    assert "already done" in capsys.readouterr().out
    assert sorted(Path("runs").rglob("*")) == before


def test_overrides_of_somebody_else_are_quoted_for_a_shell() -> None:
    hostile = "dataset.root=$(touch pwned) `id`; rm -rf ~ '\"\n#"
    write_run(Path("runs"), "triplet", 0, overrides=json.dumps(["loss=triplet", hostile]))
    [line] = commands(report())
    words = shlex.split(line)
    assert words[:2] == ["dmlbench", "train"]
    assert words[2] == hostile.replace("\n", "?")
    assert words[3:] == ["loss=triplet", "seed=0"]


def test_methods_with_other_overrides_or_seeds_have_a_command_of_their_own(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, "triplet", seed, overrides='["loss=triplet", "protocol.epochs=6"]')
        write_run(tmp_path, "arcface", seed, overrides='["protocol.epochs=6", "loss=arcface"]')
    write_run(tmp_path, "cosface", 0, overrides='["loss=cosface", "loss.make.margin=0.1"]')
    write_run(tmp_path, "proxy_nca", 0, overrides=None)
    [table] = compare(read_rows(tmp_path)[0])
    found = commands_of(table)
    assert list(found.lines) == [
        "dmlbench sweep protocol.epochs=6 loss=triplet,arcface seed=0,1",
        "dmlbench train loss.make.margin=0.1 loss=cosface seed=0",
    ]
    assert list(found.missing) == ["Proxy-NCA: the overrides of its command were not recorded."]


def test_everything_that_was_equal_is_listed_with_versions_that_differ() -> None:
    write_run(Path("runs"), "triplet", 0, torch_version="2.11.0")
    write_run(Path("runs"), "arcface", 0, torch_version="2.12.0")
    page = report()
    facts = {fact.one("dt").text: fact.one("dd").text for listed in page.all("dl") for fact in listed.all("div")}
    assert facts["protocol_epochs"] == "6"
    assert facts["optimizer_weight_decay"] == "0.0001"
    assert facts["torch_version"] == "2.11.0 | 2.12.0"
    assert "loss_make_neg_margin" not in facts


def test_warnings_name_the_methods_that_they_concern() -> None:
    write_study(Path("runs"), ("contrastive", "triplet"))
    write_run(Path("runs"), "proxy_nca", 0, n_proxies=9, n_dead_proxies=2, effective_rank=1.2)
    write_run(Path("runs"), "arcface", 0, status="failed", reason="the loss is not finite")
    items = [item.text for item in report().all("li")]
    assert "Proxy-NCA : 2 of 9 proxies (seed 0) did not move during training." in items
    assert "Proxy-NCA : the embedding is nearly one-dimensional: effective rank 1.2 (seed 0)." in items
    assert "ArcFace : seed 0 failed: the loss is not finite." in items
