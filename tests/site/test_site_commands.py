"""The command that makes an entry again."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

from published_study import publish, read, site
from report_pages import Node, write_run

from dmlbench.config.compose import compose
from dmlbench.publication.scrub import LOCAL
from dmlbench.report.commands import commands_of
from dmlbench.results.row_files import read_rows
from dmlbench.tables.table import compare

LOSS_FILE = Path(__file__).parents[2] / "conf/loss/triplet.yaml"


def section(**columns: Any) -> Node:
    """The section of the page of an entry that has the command."""
    entry = publish("triplet", 0, **columns)
    page = read(site("results"), f"entries/digits/quick-v1/triplet/{entry.name}.html")
    return page.one("section", aria_labelledby="again-title")


def test_local_paths_become_a_placeholder_that_can_be_parsed_and_is_explained() -> None:
    overrides = ["dataset=digits", "loss=triplet", f"trunk.weights={LOCAL}", "dataset.root=.cache/images", f"+a.b=[{LOCAL},1]"]
    weights = {"trunk_weights": "weights.pth", "trunk_weights_sha256": "a" * 64}
    found = section(overrides=json.dumps(overrides), **weights)
    words = shlex.split(found.one("pre", data_source="command").raw)
    assert words[:2] == ["dmlbench", "train"]
    assert {"trunk.weights=PATH", "dataset.root=PATH", "+a.b=[PATH,1]", "loss=triplet", "seed=0"} <= set(words)
    compose([one for one in words[2:] if not one.startswith("+a.b")])
    sentences = [one.text for one in found.all("p")]
    assert (
        f"Replace PATH in trunk.weights=PATH by the path of a file on your machine: weights.pth, SHA-256 {'a' * 64}."
        in sentences
    )
    assert (
        "Replace PATH in dataset.root=PATH by the directory of the data set digits (split_digest 0123456789abcdef)."
        in sentences
    )
    assert "Replace PATH in +a.b=[PATH,1] by the path of a file on your machine, which the run did not record." in sentences


def test_a_shipped_file_that_has_changed_since_is_a_warning(tmp_path: Path) -> None:
    own = hashlib.sha256(LOSS_FILE.read_bytes()).hexdigest()
    for digest, expected in (
        (own, []),
        (
            "0" * 64,
            ["loss/triplet.yaml changed since the run, so the command may make another run than the one that is shown."],
        ),
    ):
        write_run(
            tmp_path / digest, "triplet", 0, overrides='["loss=triplet"]', config_files=json.dumps({"loss/triplet": digest})
        )
        [table] = compare(read_rows(tmp_path / digest)[0])
        assert list(commands_of(table).missing) == expected
