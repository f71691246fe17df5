"""Entries and runs that a reviewer made: each was accepted, crashed a reader, or replaced another result."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from honest_runs import honest_run
from mutations import sign
from safetensors.numpy import load, save

from dmlbench.cli import run
from dmlbench.publication import entries as entries_module
from dmlbench.publication.entries import NO_SCORES, read_entries, read_entry, refusals
from dmlbench.publication.layout import entry_path
from dmlbench.publication.scrub import HOST, LOCAL, scrubbed
from dmlbench.results import compact_scores, run_files
from dmlbench.results.columns import run_id
from dmlbench.results.compact_scores import CompactScores
from dmlbench.results.row import Row
from dmlbench.results.row_files import read_row

WHO = ("--who", "Jane Doe")
SCORES = run_files.COMPACT_SCORES


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def the_entry(root: str = "results") -> Path:
    (claim,) = Path(root).rglob("claim.yaml")
    return claim.parent


def published(loss: str = "triplet", **columns: Any) -> Path:
    honest_run(Path("runs"), loss, **columns)
    assert run(["publish", *WHO]) == 0
    return the_entry()


def change_row(entry: Path, **columns: Any) -> None:
    file = entry / run_files.ROW
    file.write_text(json.dumps({**json.loads(file.read_text()), **columns}))


def of_seed(folder: Path, seed: int) -> Path:
    """Copy a run or an entry as that of another seed, with its run id computed again."""
    columns = {**json.loads((folder / run_files.ROW).read_text()), "seed": seed}
    columns["run_id"] = run_id(columns["fingerprint"], columns["method_digest"], seed)
    copy = shutil.copytree(folder, folder.with_name(columns["run_id"]))
    change_row(copy, **columns)
    return copy


# --- scores that are too many


def test_scores_that_no_column_needs_are_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = published()
    arrays = {"first_id": np.zeros(1, np.uint8), "labels": np.zeros(2, np.uint8)}
    arrays |= {f"hits_at_{k}": np.ones(2, np.uint8) for k in range(1, 12_001)}
    arrays |= {"best_rank": np.ones(2, np.uint8), "n_relevant": np.ones(2, np.uint8)}
    (entry / SCORES).write_bytes(save(arrays))
    sign(entry)
    monkeypatch.setattr(CompactScores, "_restored", lambda *_: pytest.fail("it was computed"))
    (skipped,) = read_entries(Path("results")).skipped
    assert skipped.reason == f"{SCORES}: no column of the row needs its array 'hits_at_10'"
    assert run(["publish", "--check", "results"]) == 1
    assert run(["verify", "results"]) == 1


def test_scores_that_are_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    published()
    monkeypatch.setattr(compact_scores, "MAX_SCORES", 100)
    (skipped,) = read_entries(Path("results")).skipped
    assert "for 60 queries, which are too many" in skipped.reason


def test_an_entry_for_which_memory_is_missing_is_refused_and_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    honest_run(Path("runs"), "triplet")
    honest_run(Path("runs"), "contrastive")
    assert run(["publish", *WHO]) == 0
    verify = entries_module.verify_row

    def without_memory(row: Row, scores: object) -> object:
        if row["loss"] == "triplet":
            raise MemoryError
        return verify(row, scores)  # type: ignore[arg-type]

    monkeypatch.setattr(entries_module, "verify_row", without_memory)
    found = read_entries(Path("results"))
    assert [entry.row["loss"] for entry in found.entries] == ["contrastive"]
    assert [one.reason for one in found.skipped] == ["it is too large"]


# --- the same scores as another seed


def encoded_again(content: bytes) -> bytes:
    """The same scores in another order and with larger integers."""
    arrays = load(content)
    ids = np.arange(len(arrays["labels"]))[::-1] + int(arrays.pop("first_id")[0])
    changed = {name: values[::-1].astype("u2" if values.dtype == np.uint8 else values.dtype) for name, values in arrays.items()}
    return save({**{name: values.copy() for name, values in changed.items()}, "ids": ids.copy()})


@pytest.mark.parametrize("is_encoded", [False, True], ids=["copied", "encoded again"])
def test_scores_of_another_seed_are_found_in_any_encoding(is_encoded: bool) -> None:
    entry = published()
    copy = of_seed(entry, 7)
    change_row(copy, embeddings_sha256="0" * 64, model_sha256="1" * 64)
    if is_encoded:
        (copy / SCORES).write_bytes(encoded_again((copy / SCORES).read_bytes()))
    sign(copy)
    assert read_entry(copy).verdict.consistent
    found = read_entries(Path("results"))
    assert found.entries == ()
    assert all(one.is_duplicate and "its scores are those of another seed" in one.reason for one in found.apart)


def test_a_file_of_scores_with_other_bytes_than_dmlbench_writes_is_refused() -> None:
    entry = published()
    (entry / SCORES).write_bytes(save(load((entry / SCORES).read_bytes()), metadata={"other": "bytes"}))
    sign(entry)
    (skipped,) = read_entries(Path("results")).skipped
    assert skipped.reason == f"{SCORES}: it is not in the form that dmlbench writes"


def test_the_same_scores_with_two_seeds_are_not_published(capsys: pytest.CaptureFixture[str]) -> None:
    of_seed(honest_run(Path("runs")), 7)
    assert run(["publish", *WHO]) == 2
    assert "its scores are those of another seed, runs/digits/triplet/" in capsys.readouterr().err
    assert not Path("results").exists()


def test_scores_that_were_published_as_another_seed_are_not_published_again(capsys: pytest.CaptureFixture[str]) -> None:
    of_seed(honest_run(Path("runs")), 7).rename("other")
    assert run(["publish", *WHO]) == 0
    assert run(["publish", "other", *WHO]) == 2
    assert "its scores are those of another seed" in capsys.readouterr().err
    assert len(read_entries(Path("results")).entries) == 1


# --- an entry is never replaced by other results


def test_two_runs_with_one_run_id_and_other_results_are_not_published(capsys: pytest.CaptureFixture[str]) -> None:
    honest_run(Path("a"))
    honest_run(Path("b"), noise=2.0)
    assert run(["publish", "a", "b", *WHO]) == 2
    assert "are other results of the same run; publish one of them" in capsys.readouterr().err
    assert not Path("results").exists()


def test_two_copies_of_one_run_are_published_once(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(honest_run(Path("a")), "b")
    assert run(["publish", "a", "b", *WHO]) == 0
    assert "1 written, 1 unchanged" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["system file", "newer format", "no row", "unknown file", "temporary file"])
def test_an_entry_that_cannot_be_read_is_not_replaced_by_other_results(damage: str) -> None:
    entry = published()
    before = (entry / SCORES).read_bytes()
    if damage == "system file":
        (entry / ".DS_Store").write_bytes(b"x")
    elif damage == "temporary file":
        (entry / ".row.json.0a1b2c3d.tmp").write_bytes(b"x")
    elif damage == "newer format":
        (entry / "claim.yaml").write_text((entry / "claim.yaml").read_text().replace("format: '1'", "format: '2'", 1))
        assert "'2'" in (entry / "claim.yaml").read_text()
    elif damage == "no row":
        (entry / "row.json").write_text("{")
    else:
        (entry / "notes.txt").write_text("x")
    honest_run(Path("elsewhere"), noise=2.0)
    assert run(["publish", "elsewhere", *WHO]) == 2
    assert (entry / SCORES).read_bytes() == before


@pytest.mark.parametrize("name", [".DS_Store", ".row.json.0a1b2c3d.tmp", ".scores.safetensors.17.tmp"])
def test_files_that_a_system_or_a_killed_write_leaves_are_ignored_and_removed(name: str) -> None:
    entry = published()
    (entry / name).write_bytes(b"x")
    (entry.parent / ".DS_Store").write_bytes(b"x")
    assert run(["publish", "--check", "results"]) == 0
    assert run(["publish", *WHO]) == 0
    assert not (entry / name).exists()


def test_nothing_is_written_behind_a_link_above_the_entry(capsys: pytest.CaptureFixture[str]) -> None:
    honest_run(Path("runs"))
    Path("outside").mkdir()
    Path("results").mkdir()
    Path("results/digits").symlink_to(Path("outside").resolve())
    assert run(["publish", *WHO]) == 2
    assert "results/digits is a link" in capsys.readouterr().err
    assert not list(Path("outside").iterdir())


# --- what publish writes is what everybody accepts


def with_class_name(folder: Path, name: str) -> None:
    file = folder / run_files.CLASSES
    file.write_text(json.dumps({**json.loads(file.read_text()), "3": name}))


@pytest.mark.parametrize("name", ["x" * 501, "\u202ecod", "Foo\u2800"])
def test_a_name_that_the_check_refuses_is_not_published(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with_class_name(honest_run(Path("runs")), name)
    assert run(["publish", *WHO]) == 1
    assert "its classes.json has a name that has" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["\u9c7c\u3000\u7c7b", "Citro\u00ebn\u00a0C4"])
def test_names_of_classes_with_other_spaces_are_published_and_accepted(name: str) -> None:
    with_class_name(honest_run(Path("runs")), name)
    assert run(["publish", *WHO]) == 0
    assert run(["publish", "--check", "results"]) == 0


def test_a_greek_letter_that_resembles_no_latin_one_is_published() -> None:
    entry = published(loss_label="\u03b2VAE")
    assert read_row(entry / run_files.ROW)["loss_label"] == "\u03b2VAE"
    assert run(["publish", "--check", "results"]) == 0


def test_a_failed_run_whose_reason_has_several_lines_is_published_in_one() -> None:
    from rows_factory import make_row

    from dmlbench.results.row_files import write_row

    reason = "the process ended\non node gpu7: see /home/jane/log.txt on secret-machine"
    row = make_row(status="failed", reason=reason, hostname="secret-machine")
    write_row(Path("runs") / str(row["run_id"]), row)
    assert run(["publish", *WHO]) == 0
    text = str(read_row(the_entry() / run_files.ROW)["reason"])
    assert text == f"the process ended on node {HOST}: see {LOCAL}"


def test_a_version_that_is_no_directory_name_is_refused() -> None:
    row = Row({**json.loads((honest_run(Path("runs")) / run_files.ROW).read_text()), "protocol_version": 10**299})
    with pytest.raises(ValueError, match="its protocol_version is 1000"):
        entry_path(row)


# --- local paths


@pytest.mark.parametrize(
    "text",
    [
        *("/.cache/jane/x", "//nas/jane/x", "nas:/home/jane", "data/../../jane", "/home/O'Brien/jane/private"),
        *("/home/jane, smith/x", "see '/home/jane/x.pt'", "file:///home/jane", r"\\nas\jane", r"C:\jane\x"),
    ],
)
def test_a_path_in_text_is_taken_out(text: str) -> None:
    found = scrubbed({"reason": text, "device": text})
    assert not any(re.search("jane|private|smith", str(value)) for value in found.values()), found


@pytest.mark.parametrize(
    "override",
    [
        *("dataset.make={root:/tmp/x/jane_secret}", "dataset.root=//tmp/jane", "trunk.weights=jane/weights.pth"),
        *("dataset.root='/home/jane, smith/x'", "+loss.make.file=~jane/x", "protocol=/home/jane"),
    ],
)
def test_a_path_in_an_override_is_taken_out_by_its_key(override: str) -> None:
    source = json.dumps({"root": "//tmp/jane", "make_root": "jane/photos", "make_target": "dmlbench.data.x", "make_n": 3})
    found = scrubbed(
        {"overrides": json.dumps([override, "preset=paper/cub", "loss.make.margin=0.2"]), "dataset_source": source}
    )
    assert "jane" not in str(found)
    assert json.loads(str(found["overrides"])) == [
        f"{override.partition('=')[0]}={LOCAL}",
        "preset=paper/cub",
        "loss.make.margin=0.2",
    ]
    assert json.loads(str(found["dataset_source"])) == {
        **{"root": LOCAL, "make_root": LOCAL, "make_target": "dmlbench.data.x", "make_n": 3}
    }


# --- tables leave out what the check refuses


def table(capsys: pytest.CaptureFixture[str], place: str = "results") -> tuple[str, str]:
    capsys.readouterr()
    run(["table", place])
    found = capsys.readouterr()
    return found.out, found.err


def test_a_table_of_entries_leaves_out_what_the_check_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        honest_run(Path("runs"), "triplet", seed, noise=0.5)
        honest_run(Path("runs"), "contrastive", seed, noise=1.5)
    assert run(["publish", *WHO]) == 0
    honest, err = table(capsys)
    assert not err
    entry = next(Path("results/digits/quick-v1/triplet").iterdir())
    for seed in (7, 8):
        sign(of_seed(entry, seed))
    change_row(next(Path("results/digits/quick-v1/contrastive").iterdir()), map_at_r=0.99)
    found, err = table(capsys)
    assert found != honest
    assert "99" not in found
    assert err.count("its scores are those of another seed") == 3
    assert "its SHA-256 is not that of claim.yaml" in err


def test_an_entry_without_scores_is_in_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):
        honest_run(Path("runs"), "triplet", seed)
        honest_run(Path("runs"), "contrastive", seed)
    assert run(["publish", *WHO]) == 0
    entry = next(Path("results/digits/quick-v1/triplet").iterdir())
    (entry / SCORES).unlink()
    sign(entry)
    assert [one.reason for one in refusals(read_entries(Path("results")))] == [NO_SCORES]
    assert NO_SCORES in " ".join(table(capsys)[1].split())
    assert run(["publish", str(entry), "--to", "fork", *WHO]) == 1


def test_a_method_without_scores_is_not_tested_and_the_others_are(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        honest_run(Path("runs"), "triplet", seed, noise=0.5)
        honest_run(Path("runs"), "contrastive", seed, noise=1.5)
        forged = honest_run(Path("runs"), "arcface", seed)
        ones = {name: 1.0 for name, value in read_row(forged / run_files.ROW).metrics.items() if isinstance(value, float)}
        change_row(
            forged, **{name: value for name, value in ones.items() if "recall" in name or "precision" in name}, map_at_r=1.0
        )
        (forged / run_files.PER_QUERY).unlink()
    text = " ".join(table(capsys, "runs")[0].split())
    (triplet,) = re.findall(r"\| Triplet \|[^\n]*?\|[^|]*\|", text)
    assert "**" in triplet
    assert "**100.0" not in text
    assert "ArcFace: no scores of single queries, so it is neither tested nor bold" in text


def test_a_forged_method_that_nothing_is_compared_with_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    honest_run(Path("runs"), "contrastive")
    for seed in range(2):
        forged = honest_run(Path("runs"), "triplet", seed)
        row = read_row(forged / run_files.ROW)
        change_row(forged, map_at_r=float(row["r_precision"] or 0) * 0.99)
    assert "inconsistent (see dmlbench verify)" in " ".join(table(capsys, "runs")[0].split())


def test_the_claim_keeps_the_digests_of_the_files() -> None:
    entry = published()
    digests = read_entry(entry).claim.files
    assert digests == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in entry.iterdir() if file.name != "claim.yaml"
    }
