"""Groups of classes and random class splits on the command line: files and rows of runs, notes, refusals, and the sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_helpers import TINY, Photos, on_photos, refused, rows_below

from dmlbench.cli import run

SYNTHETIC = (
    "dataset=synthetic",
    *("dataset.make.classes=24", "dataset.make.images_per_class=4", "dataset.make.image_px=16"),
    *TINY,
)


def manifest(root: Path, groups: str) -> list[str]:
    """Overrides for a manifest of the photos, in which each class has one letter as its group."""
    lines = ["path,label,kind"]
    for label, group in enumerate(groups):
        lines += [f"class{label:02}/{k}.png,class{label:02},{group.strip()}" for k in range(5)]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return on_photos(root, "dataset.manifest=labels.csv", "dataset.group=kind")


def test_a_run_writes_the_groups_of_its_test_classes_and_records_what_they_are(
    photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "loss=untrained", *manifest(photos(), "aabbbccd")]) == 0
    output = capsys.readouterr().out
    assert "note      1 of 3 groups of the test classes also occur in training, such as 'b'" in output
    [row] = rows_below("runs")
    assert (row["class_group_kind"], row["n_test_groups"], row["n_shared_groups"]) == ("kind", 3, 1)
    [file] = Path("runs").rglob("class_groups.json")
    assert json.loads(file.read_text()) == {"4": "b", "5": "c", "6": "c", "7": "d"}
    assert list(json.loads(file.with_name("classes.json").read_text())) == ["4", "5", "6", "7"]
    assert run(["data", "check", "folder", *manifest(Path("photos"), "aabbbccd")[1:2], "dataset.manifest=labels.csv"]) == 0
    assert "groups  " not in capsys.readouterr().out


def test_a_finished_run_without_groups_receives_them_and_keeps_them(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    grouped = manifest(root, "aabbbccd")
    assert run(["train", "loss=untrained", *grouped[:-1]]) == 0
    assert not list(Path("runs").rglob("class_groups.json"))
    assert run(["train", "loss=untrained", *grouped]) == 0
    assert "now has the groups of its test classes (kind)" in capsys.readouterr().out
    [file] = Path("runs").rglob("class_groups.json")
    assert json.loads(file.read_text())["7"] == "d"
    (row,) = rows_below("runs")
    before = file.read_text()
    changed = (root / "labels.csv").read_text().replace("class07,d", "class07,z")
    (root / "labels.csv").write_text(changed)
    assert run(["train", "loss=untrained", *grouped]) == 0
    assert "keeps other groups of its test classes" in capsys.readouterr().out
    assert (file.read_text(), rows_below("runs")) == (before, [row])


def test_wrong_groups_are_refused_with_one_sentence(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    assert "1 of 8 classes have images without a group, such as 'class03'" in refused(
        capsys, "train", "loss=untrained", *manifest(root, "aab ccdd")
    )
    lines = (root / "labels.csv").read_text().replace("class03,\n", "class03,x\n", 1).replace("class03,\n", "class03,y\n")
    (root / "labels.csv").write_text(lines)
    arguments = on_photos(root, "dataset.manifest=labels.csv")
    assert "the images of 1 of 8 classes have different groups, such as 'x' and 'y' in class 'class03'" in refused(
        capsys, "train", "loss=untrained", *arguments, "dataset.group=kind"
    )
    assert "has no column 'kinds'; did you mean 'kind'" in refused(
        capsys, "train", "loss=untrained", *arguments, "dataset.group=kinds"
    )


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("dataset=omniglot", "dataset.group=x"), "dataset.group has no effect with dataset=omniglot"),
        (("dataset=digits", "dataset.split=random"), "dataset.split has no effect with dataset=digits"),
        (("dataset=omniglot", "dataset.split_seed=3"), "dataset.split_seed=3 has no effect with dataset.split=alphabets"),
        ((*SYNTHETIC, "dataset.split=random_groups"), "dataset.split=random_groups needs two or more groups"),
    ],
)
def test_groups_and_splits_without_effect_are_refused(
    capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...], sentence: str, generated: Path
) -> None:
    assert sentence in refused(capsys, "train", "loss=untrained", *overrides, f"paths.data={generated}")


def test_a_sweep_over_splits_ends_in_a_table_of_methods_over_splits(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (*SYNTHETIC, "dataset.make.groups=6", "loss=untrained,raw_pixels,proxy_nca", "dataset.split_seed=0,1")
    assert run(["sweep", "+sweep=splits", *arguments]) == 0
    assert len({row["split_digest"] for row in rows_below("runs")}) == 2
    capsys.readouterr()
    assert run(["table", "--by", "split"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")] == [
        *("Method", "Raw pixels", "Untrained trunk", "Proxy-NCA")
    ]
    assert run(["table", "--by", "split", "--format", "csv", "--metrics", "recall_at_1"]) == 0
    assert capsys.readouterr().out.count(",recall_at_1,") == 3 * 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--format", "latex"), "--by split is printed as markdown or csv, not as latex"),
        (("--metrics", "map_at_r,recall_at_1"), "--by split prints one metric; use --metrics map_at_r"),
        (("--picture", "a.png"), "--picture draws tables and --by lr, but not --by split"),
        (("--oracle",), "--by split prints one metric of methods, without --vary, --explain and --oracle"),
    ],
)
def test_options_that_a_table_over_splits_does_not_have_are_refused(
    capsys: pytest.CaptureFixture[str], swept: Path, options: tuple[str, ...], sentence: str
) -> None:
    assert run(["table", str(swept / "runs"), "--by", "split", *options]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("dataset", ["omniglot", "cub"])
def test_the_sweep_over_splits_has_five_random_splits(dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", "sweep=splits", f"dataset={dataset}", "loss=raw_pixels,untrained", "--cfg", "job"]) == 0
    output = capsys.readouterr().out
    assert output.count("\n  split: random\n") == 10
    assert all(output.count(f"\n  split_seed: {seed}\n") == 2 for seed in range(5))
