"""`dmlbench evaluate`: its options. Re-evaluation itself is specified in tests/runs/test_reevaluate.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import rows_below
from safetensors.numpy import load_file

from dmlbench.cli import run


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["--ks", "1,x"], "--ks is '1,x', but 'x' is not a whole number of at least 1"),
        (["--ks", "0"], "--ks is '0', but '0' is not a whole number of at least 1"),
        (["ks=1,-5"], "--ks is '1,-5', but '-5' is not a whole number of at least 1"),
        (["ks=1.5"], "--ks is '1.5', but '1.5' is not a whole number of at least 1"),
        (["ks=1,,5"], "--ks is '1,,5', but '' is not a whole number of at least 1"),
        (["--ks", ""], "--ks needs a value, such as --ks 1,5,20"),
        (["--ks", "5,1,5"], "--ks is '5,1,5', which contains 5 twice; name each value once"),
        (["--ks", "1,999999999999999999"], "ks=999999999999999999: runs/photos/arcface/"),
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


def test_a_csv_file_is_refused_because_it_contains_labels_only(capsys: pytest.CaptureFixture[str]) -> None:
    Path("hist.csv").write_text("labels\n0\n")
    assert run(["evaluate", "hist.csv"]) == 2
    assert "hist.csv is a CSV file, which can contain labels only; name the file of embeddings" in capsys.readouterr().err


def test_the_embeddings_of_a_run_and_other_embeddings_of_the_same_items_share_a_table(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = next(runs.glob("*/arcface/*/embeddings.safetensors"))
    saved = load_file(file)
    noisy = saved["embeddings"] + np.random.default_rng(0).normal(0, 0.1, saved["embeddings"].shape).astype(np.float32)
    np.savez("theirs.npz", **{**saved, "embeddings": noisy})
    for name, one in (("Theirs", "theirs.npz"), ("ArcFace", str(file))):
        assert run(["evaluate", one, "--name", name, "--dataset", "shared", "--runs", "beside"]) == 0
    capsys.readouterr()
    assert run(["table", "beside"]) == 0
    table = capsys.readouterr().out
    assert "| Theirs" in table
    assert "| ArcFace" in table
    assert "2 tables" not in table
    assert run(["compare", "theirs", "arcface", "--runs", "beside"]) == 0
    assert "Both contain external embeddings: nothing is known about their training." in capsys.readouterr().out


def test_a_file_of_embeddings_becomes_a_row_below_the_directory_of_runs(capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    np.savez("theirs.npz", embeddings=generator.normal(size=(20, 4)).astype(np.float32), labels=np.arange(20) % 5)
    assert run(["evaluate", "theirs.npz", "--name", "Their method", "--runs", "results"]) == 0
    [row] = rows_below("results")
    assert (row["loss_label"], row["protocol"], row["dataset"]) == ("Their method", "external", "theirs")
    assert "Their method on theirs: R@1" in capsys.readouterr().out


def test_the_requested_values_of_k_are_printed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "arcface", "ks=10,1"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert re.search(r": R@1 [\d.]+%  R@10 [\d.]+%  MAP@R [\d.]+%  \(", first)


def test_a_wrong_key_is_answered_with_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    np.savez("x.npz", embeddings=generator.normal(size=(20, 4)).astype(np.float32), labels=np.arange(20) % 5)
    for key, meant in (("k=1", "'--ks 1'"), ("cluster=2", "'--clusters 2'"), ("layers=pooled", "'--layer pooled'")):
        assert run(["evaluate", "x.npz", key]) == 2
        assert f"dmlbench evaluate does not know '{key}'; did you mean {meant}?" in capsys.readouterr().err
    assert run(["evaluate", "x.npz", "zzz=1"]) == 2
    assert "dmlbench evaluate does not know 'zzz=1'; known: --ks, --clusters, " in capsys.readouterr().err


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_file_in_which_all_embeddings_are_equal_is_refused(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("x.npz", embeddings=np.full((20, 4), value, np.float32), labels=np.arange(20) % 5)
    assert run(["evaluate", "x.npz"]) == 2
    assert "x.npz: the embedding collapsed: all 20 embeddings are" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_file_whose_gallery_has_one_class_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    generator, is_query = np.random.default_rng(0), np.arange(20) < 10
    labels = np.where(is_query, np.arange(20) % 2, 1)
    embeddings = generator.normal(size=(20, 4)).astype(np.float32)
    np.savez("x.npz", embeddings=embeddings, labels=labels, is_query=is_query)
    assert run(["evaluate", "x.npz"]) == 2
    assert "x.npz: all 10 items of the gallery are of class 1; retrieval needs two classes" in capsys.readouterr().err


def test_control_characters_of_a_row_do_not_reach_the_terminal(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in runs.rglob("row.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "loss_label": "Loss\x1b[2J\nforged"}))
    assert run(["evaluate", "arcface"]) == 0
    assert capsys.readouterr().out.startswith("Loss?[2J?forged on ")
