"""A new optional field of the protocol keeps existing results valid, and can be used everywhere.

The tests run a copy of the package in which the field `cutout_px` was added to `Protocol`; see `grown_package`.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from grown_package import Grown

from dmlbench.results.columns import SCHEMA_VERSION
from dmlbench.results.row_files import read_rows


def columns_of(folder: Path) -> list[dict[str, object]]:
    """Read the rows of runs as plain columns, because this version of dmlbench refuses rows of a newer schema."""
    return [json.loads(path.read_text()) for path in sorted((folder / "runs").rglob("row.json"))]


def test_a_finished_run_is_skipped(grown: Grown, small_run: Path) -> None:
    [row], _ = read_rows(small_run / "runs")
    step = grown.steps["same run"]
    assert step.status == 0
    assert f"(already done: runs/synthetic/untrained/{row['run_id']})" in step.out


def test_the_row_of_the_finished_run_is_unchanged(grown: Grown, small_run: Path) -> None:
    [path] = (small_run / "runs").rglob("row.json")
    assert (grown.folder / path.relative_to(small_run)).read_bytes() == path.read_bytes()


def test_a_new_run_has_the_same_fingerprint_and_the_new_column(grown: Grown) -> None:
    old, new = (next(one for one in columns_of(grown.folder) if one["seed"] == seed) for seed in (0, 1))
    assert (old["schema_version"], new["schema_version"]) == (SCHEMA_VERSION, SCHEMA_VERSION + 1)
    assert (new["fingerprint"], new["method_digest"]) == (old["fingerprint"], old["method_digest"])
    assert "protocol_cutout_px" not in old
    assert new["protocol_cutout_px"] == 0


def test_an_old_and_a_new_row_are_in_one_table(grown: Grown) -> None:
    table = grown.steps["table"]
    assert table.status == 0
    assert "2 tables" not in table.out
    assert table.out.count("| Untrained trunk ") == 1
    [line] = csv.DictReader(io.StringIO(grown.steps["csv"].out))
    assert (line["n"], line["seeds"], line["protocol_cutout_px"]) == ("2", "0 1", "0")


def test_another_value_of_the_new_field_is_another_run_in_another_table(grown: Grown) -> None:
    assert grown.steps["other value"].status == 0
    assert "already done" not in grown.steps["other value"].out
    fingerprints = {one.get("protocol_cutout_px", 0): one["fingerprint"] for one in columns_of(grown.folder)}
    assert len(set(fingerprints.values())) == 2
    assert "Tables 1 and 2 differ in 1 column:\n  protocol_cutout_px  0 | 4\n" in grown.steps["explanation"].out


def test_this_version_skips_rows_of_the_newer_schema_with_a_reason(grown: Grown) -> None:
    rows, skipped = read_rows(grown.folder / "runs")
    assert [row["schema_version"] for row in rows] == [SCHEMA_VERSION]
    assert {one.reason.partition(";")[0] for one in skipped} == {
        f"a row of schema {SCHEMA_VERSION + 1} was written by a newer dmlbench"
    }


def test_a_new_field_can_be_overridden_and_is_part_of_the_row(grown: Grown) -> None:
    assert grown.steps["other value"].status == 0
    rows = [json.loads(path.read_text()) for path in (grown.folder / "runs").rglob("row.json")]
    [row] = [row for row in rows if row.get("protocol_cutout_px") == 4]
    assert "protocol.cutout_px=4" in json.loads(row["overrides"])


def test_the_range_of_a_new_field_is_checked(grown: Grown) -> None:
    step = grown.steps["too small"]
    assert step.status == 2
    assert step.err == "dmlbench: protocol.cutout_px is -1; it must be at least 0\n"


def test_a_new_field_can_be_the_axis_of_a_table(grown: Grown) -> None:
    out = grown.steps["vary"].out
    assert grown.steps["vary"].status == 0
    assert "rows differ in protocol.cutout_px only" in " ".join(out.split())
    assert [line.split("|")[1].split(" [")[0].strip() for line in out.splitlines() if "cutout_px =" in line] == [
        "cutout_px = 0",
        "cutout_px = 4",
    ]


def test_the_caption_lists_an_override_of_a_new_field(grown: Grown) -> None:
    assert "protocol.cutout_px=4," in " ".join(grown.steps["caption"].out.split())


def test_the_documentation_describes_a_new_field(grown: Grown) -> None:
    [line] = [line for line in grown.steps["documentation"].out.splitlines() if "`protocol_cutout_px`" in line]
    assert "Side of a random square that is masked in training images, in pixels; 0 for none." in line
    assert str(SCHEMA_VERSION + 1) in line.split("|")[-2]
