"""`dmlbench data`: checks and preparation by name. Data sets themselves are specified in tests/data."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_helpers import Photos, on_photos, refused, rows_below

from dmlbench.cli import run


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "dmlbench data needs to know what to do; use `dmlbench data prepare NAME` or `dmlbench data check NAME`"),
        (["cub"], "dmlbench data does not know 'cub'; use `dmlbench data prepare cub` or `dmlbench data check cub`"),
        (["prove", "digits"], "dmlbench data does not know 'prove'; use `dmlbench data prepare NAME` or"),
        (["chek", "digits"], "dmlbench data does not know 'chek'; did you mean 'check'?"),
        (["check"], "dmlbench data check needs the name of a data set; `dmlbench list datasets` prints them"),
        (["check", "digit"], "dataset=digit is not known; did you mean 'digits'?"),
        (["check", "folder", "dataset.rot=x"], "dataset.rot is not known; did you mean 'dataset.root'?"),
        (["check", "folder", "dataset.root=a,b"], "'dataset.root=a,b' names several values"),
        (["check", "folder", "dataset.root=nowhere"], "dataset.root is 'nowhere', which does not exist"),
        (
            ["check", "folder", "dataset.root=.", "dataset.name=../../x"],
            "dataset.name is '../../x', but it is the name of a dir",
        ),
        (["check", "folder", "--root", "photos"], "does not know '--root'; set a value of the configuration without dashes"),
        (
            ["check", "cub"],
            "dataset.root is 'data/cub', which does not exist; get the data set with `dmlbench data prepare cub`",
        ),
    ],
    ids=lambda argv: " ".join(argv) if isinstance(argv, list) else "",
)
def test_a_wrong_argument_is_refused_with_what_would_work(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused(capsys, "data", *argv)


def test_a_directory_without_its_key_is_refused_with_the_key(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    photos()
    sentence = refused(capsys, "data", "check", "folder", "photos")
    assert sentence == "'photos' is not KEY=VALUE; did you mean 'dataset.root=photos'?"


def test_a_check_prints_counts_and_duplicate_images(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    (root / "class07" / "copy.png").write_bytes((root / "class06" / "0.png").read_bytes())
    assert run(["data", "check", "folder", f"dataset.root={root}"]) == 0
    output = capsys.readouterr().out
    assert "20 images of 4 classes" in output
    assert "byte-identical" in output
    assert run(["data", "check", "dataset=folder", f"dataset.root={root}"]) == 0  # as every other command spells it
    assert capsys.readouterr().out == output


def test_a_check_reads_the_images_again_and_names_the_damaged_ones(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    arguments = ["data", "check", "folder", f"dataset.root={root}"]
    assert run(arguments) == 0
    path = root / "class03" / "1.png"
    path.write_bytes(bytes(path.stat().st_size))
    capsys.readouterr()
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert "unreadable 1 image:" in captured.out
    assert "class03/1.png cannot be read as an image" in captured.err
    assert run([*arguments, "dataset.on_unreadable=skip"]) == 0
    assert "skipped    1 image:" in capsys.readouterr().out


def test_names_of_files_cannot_move_the_cursor(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    (root / "class00").rename(root / "a\x1b[2J\nb")
    (root / "class07" / "x\x9b\ny.png").write_bytes(b"no image")
    assert run(["data", "check", "folder", f"dataset.root={root}", "dataset.on_unreadable=skip"]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert any("a?[2J?b to" in line for line in lines)
    assert any("x??y.png cannot be read" in line for line in lines)


def test_a_home_directory_is_expanded_in_every_path(
    photos: Photos, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    photos(root="home/photos")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run(["data", "check", "folder", "dataset.root=~/photos", "paths.data=~/data"]) == 0
    assert f"under {tmp_path / 'home/photos'}" in capsys.readouterr().out
    assert (tmp_path / "home/data/contents").is_dir()


def test_a_directory_of_two_classes_has_no_second_unseen_class_and_is_refused_with_a_way_out(
    photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = on_photos(photos(classes=2))
    for argv in (["train", "loss=triplet"], ["data", "check"]):
        sentence = refused(capsys, *argv, *overrides)
        assert "the test images have a single class, 'class01', so every embedding would score 100 %" in sentence
        assert "dataset.split=half_per_class" in sentence
    assert run(["train", "loss=contrastive", *overrides, "dataset.split=half_per_class"]) == 0


def write_attributes(value: str = "1") -> str:
    """Write a CSV file with two attributes of one image per class, and return the override that reads it."""
    file = Path(f"attributes_{value}.csv")
    lines = [f"class{label:02}/0.png,{label % 2},{value}" for label in range(8)]
    file.write_text("\n".join(["path,odd,noisy", *lines]) + "\n")
    return f"dataset.attributes={file}"


def test_attributes_of_a_csv_file_are_counted_and_recorded_and_change_no_result(
    photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    root = photos()
    attributes = write_attributes()
    assert run(["data", "check", "folder", f"dataset.root={root}", attributes]) == 0
    output = capsys.readouterr().out
    assert (
        "attributes 2 attributes; 75.0 % of the known values are 1, 50.0 to 100.0 % per attribute; missing values: 64" in output
    )
    assert run(["train", "loss=contrastive", *on_photos(root, attributes, "paths.runs=with")]) == 0
    assert run(["train", "loss=contrastive", *on_photos(root, "paths.runs=without")]) == 0
    [described], [plain] = rows_below("with"), rows_below("without")
    assert described["n_attributes"] == 2
    assert "n_attributes" not in plain
    assert described["run_id"] == plain["run_id"]
    assert described["map_at_r"] == plain["map_at_r"]


def test_wrong_attributes_are_refused_in_one_sentence(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    for attributes, sentence in (
        (write_attributes("0"), "no image has the attribute 'noisy' of attributes_0.csv (8 values are 0 and 32 are"),
        (write_attributes("red"), "'noisy' of attributes_red.csv has the value 'red'; attributes must be 0, 1, or empty"),
        ("dataset.attributes=[has_*]", "dataset.attributes=[has_*] needs dataset.manifest=FILE"),
        ("dataset.attributes=gone.csv", "dataset.attributes 'gone.csv' does not exist, neither as a path nor under"),
        ("dataset.attributes=true", "dataset.attributes is true, but text or a list of texts or null is needed"),
        ("dataset.atributes=x.csv", "did you mean 'dataset.attributes'?"),
    ):
        assert sentence in refused(capsys, "train", "loss=contrastive", *on_photos(root, attributes))
    assert "dataset.attributes=a.csv has no effect with dataset/digits" in refused(
        capsys, "data", "check", "digits", "dataset.attributes=a.csv"
    )
