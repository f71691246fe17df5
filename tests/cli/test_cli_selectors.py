"""`table`, `compare`, `show` and `evaluate` name runs in the same way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dmlbench.cli import run
from dmlbench.results.row_files import find_rows


def run_directory(loss: str, seed: int = 0) -> Path:
    [directory] = Path("runs/photos", loss).glob(f"*-{seed}")
    return directory


def selectors_of_one_run() -> list[str]:
    directory = run_directory("arcface")
    run_id = directory.name
    return [
        str(directory),
        f"{directory}/",
        str(directory / "row.json"),
        run_id,
        f"arcface/{run_id}",
        f"photos/arcface/{run_id}",
    ]


def selectors_of_one_method() -> list[str]:
    run_id = run_directory("arcface").name
    return ["runs/photos/arcface", "photos/arcface", "arcface", run_id.rpartition("-")[0], str(run_directory("arcface"))[:-2]]


def output_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run(argv) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_every_command_takes_every_name_of_one_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for selector in selectors_of_one_run():
        assert "ArcFace" in output_of(capsys, "show", selector)
        assert re.search(r"\| ArcFace( \[1\])? \| 1 \|", output_of(capsys, "table", selector, "--no-test"))
        assert "A  ArcFace · photos · seed 0 ·" in output_of(capsys, "compare", selector, "contrastive")
        assert output_of(capsys, "evaluate", selector, "--ks", "1,3").count("ArcFace on ") == 1


def test_every_command_takes_every_name_of_one_method_and_show_lists_its_runs(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for selector in selectors_of_one_method():
        assert run(["show", selector]) == 2
        error = capsys.readouterr().err
        assert f"{selector} names 2 runs; name one of them:" in error
        assert all(run_directory("arcface", seed).name in error for seed in (0, 1))
        assert re.search(r"\| ArcFace( \[1\])? \| 2 \|", output_of(capsys, "table", selector, "--no-test"))
        assert "A  ArcFace · photos · seeds 0, 1 ·" in output_of(capsys, "compare", selector, "contrastive")
        assert output_of(capsys, "evaluate", selector, "--ks", "1,3").count("ArcFace on ") == 2


@pytest.mark.parametrize("argv", [["table"], ["compare", "contrastive"], ["show"], ["evaluate"]], ids=lambda argv: argv[0])
def test_every_command_refuses_an_unknown_name_with_a_similar_one(
    argv: list[str], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*argv, "photos/arcfac_"]) == 2
    assert capsys.readouterr().err == "dmlbench: photos/arcfac_ names no run below runs; did you mean 'photos/arcface'?\n"


@pytest.mark.parametrize("argv", [["table"], ["compare", "a"], ["show"], ["evaluate"]], ids=lambda argv: argv[0])
def test_every_command_says_that_there_are_no_runs_and_how_to_name_another_directory(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*argv, "arcface"]) == 2
    assert (
        "there is no run below runs; name a directory that contains runs, or set it with --runs DIR" in capsys.readouterr().err
    )


def test_runs_in_another_directory_are_named_with_an_option(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    for command in (["table", "arcface", "--no-test"], ["compare", "arcface", "contrastive"], ["evaluate", "arcface"]):
        assert "ArcFace" in output_of(capsys, *command, "--runs", "elsewhere")
    assert len(list(find_rows(Path("elsewhere")))) == 10


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["show"], "dmlbench show needs one run, not 0: a run directory, its row.json, or the beginning of a run id"),
        (["show", "a", "b"], "dmlbench show needs one run, not 2"),
        (["compare", "a"], "dmlbench compare needs two methods, not 1, such as `dmlbench compare triplet arcface`"),
        (["evaluate"], "dmlbench evaluate needs runs or a file of embeddings, such as runs/omniglot or theirs.npz"),
        (["evaluate", "theirs.npz"], "theirs.npz does not exist; name a file of embeddings, or runs"),
    ],
    ids=lambda argv: " ".join(argv) if isinstance(argv, list) else "",
)
def test_a_command_without_its_runs_is_refused_with_what_it_needs(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 2
    assert sentence in capsys.readouterr().err
