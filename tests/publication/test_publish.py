"""`dmlbench publish`: from runs to entries."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from honest_runs import honest_run

from dmlbench.cli import run
from dmlbench.publication.entries import read_entries, read_entry
from dmlbench.results import run_files
from dmlbench.results.row_files import read_row
from dmlbench.system.regular_files import read_json
from dmlbench.verification import Tier

WHO = ("--who", "Jane Doe")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(folder: Path, **columns: object) -> None:
    """Change columns of a run without making it consistent again."""
    file = folder / run_files.ROW
    file.write_text(json.dumps({**json.loads(file.read_text()), **columns}))


def the_entry(root: str = "results") -> Path:
    (claim,) = Path(root).rglob("claim.yaml")
    return claim.parent


def test_a_run_becomes_an_entry_in_the_directory_of_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    run_id = honest_run(Path("runs")).name
    assert run(["publish", *WHO]) == 0
    assert the_entry() == Path("results/digits/quick-v1/triplet") / run_id
    assert sorted(file.name for file in the_entry().iterdir()) == [
        *("claim.yaml", "class_groups.json", "classes.json", "eval_results.yaml", "row.json", "scores.safetensors")
    ]
    assert re.fullmatch(r"results has 1 written entry \(0\.\d\d MB\)\n", capsys.readouterr().out)
    entry = read_entry(the_entry())
    assert entry.verdict.tier is entry.tier is Tier.CONSISTENT
    assert (entry.claim.who, entry.claim.licence, entry.claim.commit) == ("Jane Doe", "CC-BY-4.0", "9a58512")


def test_the_row_of_an_entry_is_that_of_the_run_except_for_the_name_of_the_machine() -> None:
    folder = honest_run(Path("runs"))
    assert run(["publish", *WHO]) == 0
    before, after = (read_json(one / run_files.ROW) for one in (folder, the_entry()))
    assert {name for name in before if before[name] != after[name]} == {"hostname"}
    assert after.keys() == before.keys()


def test_the_scores_of_an_entry_are_those_of_the_run() -> None:
    from dmlbench.results.query_scores import read_query_scores

    folder = honest_run(Path("runs"))
    assert run(["publish", *WHO]) == 0
    for metric in ("recall_at_4", "map_at_r", "mean_reciprocal_rank"):
        before, after = read_query_scores(folder / run_files.PER_QUERY, metric), read_entry(the_entry()).query_scores(metric)
        assert before is not None
        assert after is not None
        assert all((one == other).all() for one, other in zip(before, after, strict=True))


def test_tables_of_entries_are_those_of_the_runs_with_the_same_significance(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        honest_run(Path("runs"), "triplet", seed, noise=0.5)
        honest_run(Path("runs"), "contrastive", seed, noise=1.5)
    assert run(["publish", *WHO]) == 0
    capsys.readouterr()
    assert run(["table"]) == 0
    of_runs = capsys.readouterr().out
    assert "**" in of_runs
    assert run(["table", "results"]) == 0
    assert capsys.readouterr().out == of_runs
    assert run(["compare", "triplet", "contrastive"]) == 0
    of_runs = capsys.readouterr().out
    assert run(["compare", "triplet", "contrastive", "--runs", "results"]) == 0
    assert capsys.readouterr().out.replace("digits/quick-v1/", "digits/") == of_runs


def test_costs_of_published_runs_from_different_machines_are_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    for seed, model in enumerate(("EPYC", "Xeon")):
        honest_run(Path("runs"), seed=seed, cpu_model=model)
    assert run(["publish", *WHO]) == 0
    assert run(["table", "results"]) == 0
    assert "not comparable because the rows come from 2 machines" in " ".join(capsys.readouterr().out.split())


def test_local_paths_are_taken_out_and_the_run_id_stays() -> None:
    home = "/home/jane doe/cub"
    overrides = json.dumps(["dataset.root=" + home, "paths.data=~/data", "loss.make.margin=0.2", "dataset.manifest=../m.csv"])
    source = json.dumps({"root": home, "manifest": r"C:\jane\m.csv", "make_split": "zero_shot", "make_root": "data"})
    folder = honest_run(Path("runs"), overrides=overrides, dataset_source=source)
    assert run(["publish", *WHO]) == 0
    text = (the_entry() / run_files.ROW).read_text()
    assert not re.search(r"jane|home|~/|\.\./|secret-machine", text)
    row = read_row(the_entry() / run_files.ROW)
    assert row["run_id"] == folder.name
    assert json.loads(str(row["overrides"])) == [
        *("dataset.root=(local path)", "paths.data=(local path)", "loss.make.margin=0.2", "dataset.manifest=(local path)")
    ]
    assert json.loads(str(row["dataset_source"])) == {
        **{"root": "(local path)", "manifest": "(local path)", "make_split": "zero_shot", "make_root": "data"}
    }


def test_a_local_path_that_the_run_id_depends_on_stays_and_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    honest_run(Path("runs"), loss_make_file="/home/jane/centres.pt")
    assert run(["publish", *WHO]) == 0
    assert "loss_make_file=/home/jane/centres.pt stays in the entries, because the run id" in capsys.readouterr().err


def test_publishing_again_changes_nothing_and_other_options_update_the_claim(capsys: pytest.CaptureFixture[str]) -> None:
    honest_run(Path("runs"))
    assert run(["publish", *WHO]) == 0
    before = {file.name: file.read_bytes() for file in the_entry().iterdir()}
    assert run(["publish", *WHO]) == 0
    assert "results has 1 unchanged entry" in capsys.readouterr().out
    assert {file.name: file.read_bytes() for file in the_entry().iterdir()} == before
    assert run(["publish", *WHO, "--paper-url", "https://example.org/paper"]) == 0
    assert "results has 1 updated entry" in capsys.readouterr().out
    assert read_entry(the_entry()).claim.paper_url == "https://example.org/paper"


def test_an_entry_keeps_its_day_when_its_claim_is_updated() -> None:
    honest_run(Path("runs"))
    assert run(["publish", *WHO]) == 0
    for name in ("claim.yaml", "eval_results.yaml"):
        file = the_entry() / name
        file.write_text(re.sub(r"\d{4}-\d\d-\d\d", "2020-02-20", file.read_text()))
    claim = the_entry() / "claim.yaml"
    import hashlib

    digest = hashlib.sha256((the_entry() / "eval_results.yaml").read_bytes()).hexdigest()
    claim.write_text(re.sub(r"(eval_results.yaml: )\w+", rf"\g<1>{digest}", claim.read_text()))
    assert run(["publish", *WHO, "--paper", "A paper"]) == 0
    entry = read_entry(the_entry())
    assert (entry.claim.published, entry.claim.paper) == ("2020-02-20", "A paper")


def test_a_damaged_entry_is_repaired() -> None:
    honest_run(Path("runs"))
    assert run(["publish", *WHO]) == 0
    (the_entry() / "scores.safetensors").write_bytes(b"damaged")
    assert run(["publish", *WHO]) == 0
    assert read_entry(the_entry()).verdict.consistent


def test_other_results_of_the_same_run_do_not_replace_an_entry(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = honest_run(Path("runs")), honest_run(Path("elsewhere"), noise=2.0)
    assert first.name == second.name
    assert run(["publish", *WHO]) == 0
    assert run(["publish", "elsewhere", *WHO]) == 2
    assert "has other results of the same run" in capsys.readouterr().err
    assert read_entry(the_entry()).row.metrics == read_row(first / run_files.ROW).metrics


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"map_at_r": 0.99, "recall_at_1": 0.9999}, "is not published"),
        ({"protocol_epochs": 800}, "fingerprint is"),
        ({"loss_make_neg_margin": 0.9}, "method_digest is"),
        ({"seed": 5}, "run_id is"),
        ({"dataset_label": "Dig\u0456ts"}, "mixes letters of CYRILLIC and LATIN"),
        ({"loss_label": "Triplet \u202egnirts"}, "U+202E (RIGHT-TO-LEFT OVERRIDE), which cannot be seen"),
    ],
    ids=str,
)
def test_what_verify_refuses_is_not_published_and_then_nothing_is(
    columns: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    honest_run(Path("runs"), seed=1)
    change(honest_run(Path("runs")), **columns)
    assert run(["publish", *WHO]) == 1
    assert message in capsys.readouterr().err
    assert not Path("results").exists()


def test_a_name_that_only_looks_like_another_one_is_not_published(capsys: pytest.CaptureFixture[str]) -> None:
    honest_run(Path("runs"), dataset="dig\u0456ts")
    assert run(["publish", *WHO]) == 1
    assert "its dataset has the letter '\u0456' (CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I)" in capsys.readouterr().err


def test_a_run_without_scores_of_its_queries_is_not_published(capsys: pytest.CaptureFixture[str]) -> None:
    (honest_run(Path("runs")) / run_files.PER_QUERY).unlink()
    assert run(["publish", *WHO]) == 1
    assert "it has no scores of single queries (per_query.safetensors), so nobody could check it" in capsys.readouterr().err


def test_a_failed_run_is_published_without_scores() -> None:
    from rows_factory import make_row

    from dmlbench.results.row_files import write_row

    row = make_row(status="failed", reason="the loss is nan at epoch 1")
    write_row(Path("runs") / str(row["run_id"]), row)
    assert run(["publish", *WHO]) == 0
    entry = read_entry(the_entry())
    assert entry.row["status"] == "failed"
    assert not (the_entry() / run_files.COMPACT_SCORES).exists()


def test_addresses_contain_the_run_id_and_the_digest_of_the_row() -> None:
    run_id = honest_run(Path("runs")).name
    urls = ["--embeddings", "https://example.org/{run_id}.safetensors", "--weights", "https://example.org/{run_id}.pt"]
    assert run(["publish", *WHO, *urls]) == 0
    claim = read_entry(the_entry()).claim
    assert claim.embeddings == (f"https://example.org/{run_id}.safetensors", "e" * 63 + "0")
    assert claim.weights == (f"https://example.org/{run_id}.pt", "d" * 63 + "0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], 'dmlbench publish needs the name of the publisher, such as --who "Jane Doe"'),
        (["--who", "\x1b[31m"], "its who has the character U+001B"),
        ([*WHO, "--code", "javascript:alert(1)"], "it needs an address that begins with https://"),
        ([*WHO, "--licence", "all rights reserved"], "it needs an SPDX identifier, such as CC-BY-4.0"),
        ([*WHO, "--commit", "main branch"], "it needs a revision, such as 9a58512"),
    ],
    ids=str,
)
def test_a_statement_that_is_not_accepted_is_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    honest_run(Path("runs"))
    assert run(["publish", *options]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not Path("results").exists()


def test_runs_that_have_not_finished_are_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    pending = honest_run(Path("runs"), seed=1)
    (pending / run_files.ROW).rename(pending / run_files.PENDING_ROW)
    assert run(["publish", *WHO]) == 2
    assert "there is no finished run below runs" in capsys.readouterr().err
    honest_run(Path("runs"))
    assert run(["publish", *WHO]) == 0
    assert "skipped 1 runs that have not finished" in capsys.readouterr().err


def test_nothing_is_written_behind_a_link(capsys: pytest.CaptureFixture[str]) -> None:
    folder = honest_run(Path("runs"))
    Path("outside").mkdir()
    target = Path("results/digits/quick-v1/triplet") / folder.name
    target.parent.mkdir(parents=True)
    target.symlink_to(Path("outside").resolve())
    assert run(["publish", *WHO]) == 2
    assert "is a link" in capsys.readouterr().err
    assert not list(Path("outside").iterdir())


def test_an_entry_can_be_published_to_another_repository() -> None:
    honest_run(Path("runs"))
    assert run(["publish", *WHO]) == 0
    assert run(["publish", "results", "--to", "fork", *WHO]) == 0
    first, second = (
        {file.relative_to(root): file.read_bytes() for file in Path(root).rglob("*.*") if file.is_file()}
        for root in ("results", "fork")
    )
    assert first == second


def test_the_form_of_the_hugging_face_hub_has_what_it_requires() -> None:
    honest_run(Path("runs"))
    assert run(["publish", *WHO, "--paper", 'A "paper": #1', "--paper-url", "https://example.org/p"]) == 0
    row = read_row(the_entry() / run_files.ROW)
    results = yaml.safe_load((the_entry() / "eval_results.yaml").read_text())
    assert [one["dataset"] for one in results] == [
        {"id": "dmlbench/digits", "task_id": f"quick-v1.{metric}"} for metric in ("recall_at_1", "r_precision", "map_at_r")
    ]
    assert results[2]["value"] == row["map_at_r"]
    assert results[2]["source"] == {"url": "https://example.org/p", "name": 'A "paper": #1'}


def test_publishing_and_checking_need_only_three_libraries(directory: Path) -> None:
    honest_run(Path("runs"))
    program = (
        "import sys, sysconfig; from dmlbench.cli import run\n"
        "assert run(['publish', '--who', 'x']) == 0 and run(['publish', '--check', 'results']) == 0\n"
        "installed = sysconfig.get_paths()['purelib']\n"
        "files = {name: str(getattr(module, '__file__', None)) for name, module in sys.modules.items()}\n"
        "print(*sorted({name.partition('.')[0] for name, file in files.items() if file.startswith(installed)}))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ), check=True)
    libraries = [name for name in found.stdout.splitlines()[-1].split() if not name.startswith("_")]
    assert libraries == ["numpy", "safetensors", "yaml"]  # which .github/workflows/entries.yml installs


def test_the_tier_that_the_embeddings_reach_is_part_of_the_claim(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest_run(Path("runs"))  # without embeddings
    assert run(["publish", *WHO, "--tier", "rescored"]) == 0
    assert "is published as consistent: its embeddings cannot be evaluated" in capsys.readouterr().err
    monkeypatch.setattr("dmlbench.runs.verification.rescored", lambda verdict: replace(verdict, tier=Tier.RESCORED))
    assert run(["publish", *WHO, "--tier", "rescored"]) == 0
    assert read_entry(the_entry()).tier is Tier.RESCORED


def test_an_empty_directory_of_entries_has_no_problem(capsys: pytest.CaptureFixture[str]) -> None:
    Path("results").mkdir()
    assert run(["publish", "--check", "results"]) == 0
    assert capsys.readouterr().out == "results has 0 entries, and no problems\n"
    assert read_entries(Path("results")).entries == ()
    assert run(["publish", "--check", "nowhere"]) == 2
    assert "nowhere is not a directory of entries" in capsys.readouterr().err


def test_checking_prints_each_problem_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    honest_run(Path("runs"))
    assert run(["publish", *WHO]) == 0
    (the_entry() / "notes.txt").write_text("x")
    assert run(["publish", "--check", "results"]) == 1
    printed = capsys.readouterr()
    assert "is refused: it has the file 'notes.txt', which no entry has" in printed.err
    assert "results has 0 entries, and 1 problem\n" in printed.out
