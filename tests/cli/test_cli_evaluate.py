"""`dmlbench evaluate`: its options. Re-evaluation itself is specified in tests/runs/test_reevaluate.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_helpers import rows_below

from dmlbench.cli import run


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["--ks", "1,x"], "--ks is 'x', but a whole number is needed"),
        (["--ks", "0"], "--ks is 0; it needs one or more values of at least 1"),
        (["--clusters", "-1"], "--clusters is -1; it must be at least 0"),
        (["--whiten", "1.5"], "--whiten is '1.5', but a whole number is needed"),
        (["--beta", "x"], "--beta is 'x', but a number is needed"),
        (["--beta", "inf"], "--beta is inf; it must be at least 0"),
        (["--distance", "cosin"], "--distance cosin is not known; did you mean 'cosine'?"),
        (["--layer", "poled"], "--layer poled is not known; did you mean 'pooled'?"),
        (["--rerank.k1", "3"], "--rerank.k1 needs --rerank k_reciprocal"),
        (["--name", "X"], "--name is for files of embeddings"),
        (["whitten=8"], "dmlbench evaluate does not know 'whitten=8'; did you mean '--whiten 8'?"),
    ],
    ids=lambda option: " ".join(option) if isinstance(option, list) else "",
)
def test_a_wrong_option_is_refused_before_anything_is_evaluated(
    option: list[str], sentence: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(rows_below(runs))
    assert run(["evaluate", "arcface", *option]) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert len(rows_below(runs)) == before


def test_options_may_be_written_as_key_value(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for argv in (["--ks", "1,3", "--distance", "cosine"], ["ks=1,3", "distance=cosine"]):
        assert run(["evaluate", "arcface", *argv]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert outputs[0].count("ArcFace on ") == 2


def test_a_file_of_embeddings_becomes_a_row_below_the_directory_of_runs(capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    np.savez("theirs.npz", embeddings=generator.normal(size=(20, 4)).astype(np.float32), labels=np.arange(20) % 5)
    assert run(["evaluate", "theirs.npz", "--name", "Their method", "--runs", "results"]) == 0
    [row] = rows_below("results")
    assert (row["loss_label"], row["protocol"], row["dataset"]) == ("Their method", "external", "theirs")
    assert "Their method on theirs: R@1" in capsys.readouterr().out
