"""`dmlbench verify` refuses no honest row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rows_factory import make_row, make_study
from safetensors.numpy import load_file, save_file

from dmlbench.cli import run
from dmlbench.results.columns import SCHEMA_VERSION, column
from dmlbench.results.row import MISSING, Row
from dmlbench.results.row_files import find_rows, read_row, read_rows, write_row
from dmlbench.verification import Tier, verify_row, verify_run
from dmlbench.verification.row_checks import NO_SCORES


def test_runs_of_all_kinds_are_consistent(honest: Path) -> None:
    rows, skipped = read_rows(honest / "runs")
    assert not skipped
    kinds = [(row["loss"], row["status"], row.get("protocol_fold"), row.get("parent") is None) for row in rows]
    assert len(set(kinds)) >= 8
    assert {row["protocol"] for row in rows} == {"quick", "external"}
    verdicts = [verify_run(row) for row in rows]
    assert [(verdict.row.folder, verdict.findings) for verdict in verdicts if verdict.findings] == []
    assert {verdict.tier for verdict in verdicts} == {Tier.CONSISTENT}
    [failed] = [verdict for verdict in verdicts if not verdict.row.ok]
    assert failed.why_not_next == "it has no results: failed"


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_rows_of_earlier_versions_are_consistent(runs: Path, version: int) -> None:
    for file in find_rows(runs):
        columns = json.loads(file.read_text())
        if columns.get("preset") is None or columns.get("parent") is not None:
            continue  # of an external file, or an evaluation, which has the version of dmlbench that made it
        kept = {
            name: value for name, value in columns.items() if column(name).since <= version or not is_as_before(name, value)
        }
        file.write_text(json.dumps({**kept, "schema_version": version}))
        verdict = verify_run(read_row(file))
        assert verdict.findings == ()


def is_as_before(name: str, value: object) -> bool:
    """Whether a later column has the value that describes older rows, or is not part of the identity of a run."""
    one = column(name)
    return one.role not in ("shared", "method") or one.before == value


def test_scores_of_single_precision_are_compared_with_a_larger_tolerance(runs: Path) -> None:
    [file, *_] = find_rows(runs / "photos" / "contrastive")
    columns = json.loads(file.read_text())
    del columns["per_query_sha256"]  # of a version that saved scores in single precision
    file.write_text(json.dumps(columns))
    scores = file.with_name("per_query.safetensors")
    save_file({name: each.astype("f4") if each.dtype == "f8" else each for name, each in load_file(scores).items()}, scores)
    assert verify_run(read_row(file)).findings == ()


def test_a_row_without_scores_is_claimed_and_not_inconsistent(runs: Path) -> None:
    [file, *_] = find_rows(runs / "photos" / "contrastive")
    file.with_name("per_query.safetensors").unlink()
    verdict = verify_run(read_row(file))
    assert (verdict.tier, verdict.findings, verdict.why_not_next) == (Tier.CLAIMED, (), NO_SCORES)
    assert verify_row(read_row(file), None) == verdict


def test_rows_of_the_other_tests_are_consistent() -> None:
    for row in (*make_study(), make_row(status="failed", reason="nan"), make_row(0.3, n_queries=7, protocol_epochs=9)):
        assert verify_row(row, None).findings == ()


def test_a_run_that_has_not_finished_is_not_verified(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [file, *_] = find_rows(runs / "photos" / "arcface")
    columns = {**json.loads(file.read_text()), "status": MISSING, "reason": "not finished"}
    write_row(runs / "photos" / "arcface" / "other", Row({**columns, "run_id": "other"}), "plan.json")
    assert run(["verify", str(runs)]) == 0
    assert "; 1 not finished" in capsys.readouterr().out


def test_the_package_imports_neither_torch_nor_hydra(honest: Path) -> None:
    code = (
        "import sys; from dmlbench.cli import run; assert run(['verify', sys.argv[1]]) == 0; "
        "assert not {'torch', 'hydra', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, honest / "runs"], check=True, capture_output=True)


def test_a_study_of_five_hundred_rows_has_no_false_alarm() -> None:
    generator = np.random.default_rng(0)
    for seed in range(500):
        recall = np.sort(generator.uniform(0.2, 1, 4))
        first = {"recall_at_1": recall[0], "precision_at_1": recall[0]}
        others = {f"recall_at_{k}": value for k, value in zip((2, 4, 8), recall[1:], strict=True)}
        low, high = np.sort(generator.uniform(0, 1, 2))
        row = make_row(0.5, seed=seed, loss_make_margin=float(low), **first, **others, map_at_r=low, r_precision=high)
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.columns.items()}
        assert verify_row(Row(plain), None).findings == ()
