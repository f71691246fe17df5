"""`dmlbench data`: checks and preparation by name. Data sets themselves are specified in tests/data."""

from __future__ import annotations

import pytest
from cli_helpers import Photos, refused

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
