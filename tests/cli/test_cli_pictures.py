"""`dmlbench show RUN --pictures`: what is drawn, what is printed, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import refused
from PIL import Image
from rows_factory import make_row

from dmlbench.cli import draw, run
from dmlbench.pictures import run_pictures
from dmlbench.pictures.run_pictures import Pictures
from dmlbench.pictures.sheet import SheetRow
from dmlbench.results.row_files import write_row


@pytest.fixture
def one_run(swept: Path, runs: Path, tmp_path: Path) -> Path:
    """The directory of a run on 20 test images of four classes, whose images are in photos/."""
    (tmp_path / "photos").symlink_to(swept / "photos")
    return next(file.parent for file in sorted(runs.rglob("row.json")))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Pictures]:
    """What the commands of the test draw, instead of files."""
    found: list[Pictures] = []

    def keep(pictures: Pictures, out: Path) -> list[Path]:
        found.append(pictures)
        return [out]

    monkeypatch.setattr(run_pictures, "draw", keep)
    return found


def show(one_run: Path, *argv: str) -> None:
    assert run(["show", str(one_run), "--pictures", "out.png", "dataset.root=photos", *argv]) == 0


def ids(row: SheetRow) -> str:
    return row.tiles[0].detail


def test_one_command_draws_queries_and_a_projection_into_one_file(one_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(one_run)
    captured = capsys.readouterr()
    assert captured.out == "out.png shows 8 queries with their nearest images and a projection of 4 classes\n"
    assert captured.err == ""
    with Image.open("out.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(2**24)}
    assert {(0x1A, 0x7F, 0x37), (0xC4, 0x16, 0x1C), (255, 255, 255)} <= colours  # frames, and a background in any style


@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
def test_the_same_command_gives_the_same_file(one_run: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    pictures = []
    for name, style in (("first", "white"), ("second", "black")):
        monkeypatch.setitem(matplotlib.rcParams, "figure.facecolor", style)  # the style of the user
        argv = ["--queries", "worst:1", "dataset.root=photos"]
        assert run(["show", str(one_run), "--pictures", name + suffix, *argv]) == 0
        pictures.append(Path(name + suffix).read_bytes())
    assert pictures[0] == pictures[1]


def test_a_directory_receives_two_files(one_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(one_run), "--pictures", "drawn", "dataset.root=photos", "--queries", "best:1", "--k", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "drawn/queries.png shows 1 query with its nearest images",
        "drawn/projection.png shows a projection of 4 classes",
    ]
    assert sorted(path.name for path in Path("drawn").iterdir()) == ["projection.png", "queries.png"]
    assert run(["show", str(one_run), "--pictures", "drawn", "dataset.root=photos", "--classes", "0"]) == 0


def test_tiles_have_the_neighbours_of_the_metrics_and_the_names_of_their_classes(one_run: Path, drawn: list[Pictures]) -> None:
    show(one_run, "--queries", "random:20", "--k", "4")
    [pictures] = drawn
    row = json.loads((one_run / "row.json").read_text())
    hits = [[tile.relevant for tile in row.tiles[1:]] for row in pictures.rows]
    assert len(hits) == row["n_queries"] == 20
    assert np.mean([hit[0] for hit in hits]) == pytest.approx(row["recall_at_1"])
    assert np.mean(hits) == pytest.approx(row["precision_at_4"])
    for each in pictures.rows:
        assert [tile.relevant for tile in each.tiles] == [None, *(tile.name == each.tiles[0].name for tile in each.tiles[1:])]
        assert {tile.thumbnail.problem for tile in each.tiles} == {""}
    assert row["loss_label"] in pictures.title
    assert row["run_id"] in pictures.title


def test_queries_are_ordered_by_their_score_and_named_by_path_or_id(one_run: Path, drawn: list[Pictures]) -> None:
    images = json.loads((one_run / "images.json").read_text())
    show(one_run, "--queries", f"worst:1,best:1,{images['paths'][3]},{images['ids'][7]}")
    [worst, best, by_path, by_id] = drawn[0].rows
    assert [row.title for row in drawn[0].rows] == ["worst", "best", "named", "named"]
    assert (ids(by_path), ids(by_id)) == (f"id {images['ids'][3]}", f"id {images['ids'][7]}")
    scores = [float(row.details[0].removeprefix("MAP@R ").removesuffix(" %")) for row in (worst, best)]
    assert scores[0] <= scores[1]


def test_the_seed_chooses_random_queries_and_classes(one_run: Path, drawn: list[Pictures]) -> None:
    for seed in ("1", "1", "2"):
        show(one_run, "--queries", "random:5", "--classes", "2", "--seed", seed)
    first, same, other = ([ids(row) for row in one.rows] for one in drawn)
    assert first == same != other
    classes = [one.projection.classes for one in drawn if one.projection is not None]
    assert classes[0] == classes[1]


def test_whole_images_are_drawn_on_request(one_run: Path, drawn: list[Pictures]) -> None:
    show(one_run, "--queries", "random:1")
    show(one_run, "--queries", "random:1", "--crop", "whole")
    sizes = [one.rows[0].tiles[0].thumbnail.pixels.shape for one in drawn]  # type: ignore[union-attr]
    assert sizes == [(21, 21, 3), (24, 24, 3)]
    assert [one.about_rows.split()[2] for one in drawn] == ["what", "whole;"]


def test_missing_changed_and_damaged_images_are_drawn_as_such(
    one_run: Path, swept: Path, tmp_path: Path, drawn: list[Pictures]
) -> None:
    images = json.loads((one_run / "images.json").read_text())
    (tmp_path / "photos").unlink()
    for number, path in enumerate(images["paths"]):
        copy = tmp_path / "photos" / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        if number == 1:
            copy.write_text("no image")
        elif number == 2:
            copy.mkdir()
        elif number:
            copy.write_bytes((swept / "photos" / path).read_bytes())
    show(one_run, "--queries", ",".join(str(images["ids"][number]) for number in range(4)))
    problems = [row.tiles[0].thumbnail.problem for row in drawn[0].rows]
    assert problems == ["missing", "changed", "unreadable", ""]


def test_images_that_are_elsewhere_are_drawn_empty_and_a_sentence_says_what_to_type(
    one_run: Path, drawn: list[Pictures], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["show", str(one_run), "--pictures", "out.png"]) == 0
    error = capsys.readouterr().err
    assert error.startswith("dmlbench: the images are drawn empty: ")
    assert "type dataset.root=" in error
    assert {tile.thumbnail.problem for row in drawn[0].rows for tile in row.tiles} == {"not found"}
    assert drawn[0].projection is not None


def test_the_data_set_of_a_run_of_an_earlier_version_is_read_again(
    one_run: Path, drawn: list[Pictures], capsys: pytest.CaptureFixture[str]
) -> None:
    show(one_run, "--queries", "random:3")
    (one_run / "images.json").unlink()
    show(one_run, "--queries", "random:3")
    listed, read_again = ([tile for row in one.rows for tile in row.tiles] for one in drawn)
    for first, second in zip(listed, read_again, strict=True):
        assert first.thumbnail.path == second.thumbnail.path
        assert np.array_equal(first.thumbnail.pixels, second.thumbnail.pixels)  # type: ignore[arg-type]
    capsys.readouterr()
    argv = ["show", str(one_run), "--pictures", "out.png", "dataset.root=nowhere"]
    assert run(argv) == 2
    assert "nowhere" in capsys.readouterr().err
    assert run([*argv[:-1], "dataset.rot=photos"]) == 2
    assert "rot" in capsys.readouterr().err


def test_pictures_of_a_run_with_a_list_of_images_need_neither_torch_nor_hydra(one_run: Path) -> None:
    code = "import sys; from dmlbench.cli import run; print(run(sys.argv[1:]), 'torch' in sys.modules, 'hydra' in sys.modules)"
    argv = ["show", str(one_run), "--pictures", "out.png", "dataset.root=photos", "--queries", "worst:1"]
    done = subprocess.run([sys.executable, "-c", code, *argv], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 False False"


def test_names_with_any_characters_are_drawn_without_a_warning(
    one_run: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    names = ["$x_{1$", "ア" * 60 + "𓀀", "a\x1b[31m\nb", "Supercalifragilisticexpialidocious" * 9]
    classes = json.loads((one_run / "classes.json").read_text())
    (one_run / "classes.json").write_text(json.dumps(dict(zip(classes, names, strict=True))))
    show(one_run, "--queries", "random:12", "--k", "8")
    assert capfd.readouterr().err == ""
    assert not recwarn.list


def test_a_file_of_embeddings_has_a_projection_only_and_a_sentence_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 8))
    np.savez("theirs.npz", embeddings=rows, labels=np.arange(40) % 4)
    assert run(["show", "theirs.npz", "--pictures", "out.png"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "out.png shows a projection of 4 classes\n"
    assert captured.err == (
        "dmlbench: theirs.npz contains embeddings without images, so only the projection is drawn, of rows scaled to unit "
        "length\n"
    )
    for argv, message in (
        (["--queries", "worst"], "--queries is for runs; theirs.npz contains embeddings without images"),
        (["--k", "3"], "--k is for runs; "),
        (["dataset.root=."], "dataset.root=. is for runs; "),
        (["--classes", "0"], "--classes 0 leaves nothing to draw of theirs.npz"),
    ):
        assert refused(capsys, "show", "theirs.npz", "--pictures", "out.png", *argv).startswith(message)
    assert "theirs.npy does not exist" in refused(capsys, "show", "theirs.npy", "--pictures", "out.png")


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run(["show", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("dmlbench: ").strip()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--pictures", "out.jpg"], "--pictures out.jpg needs one of the suffixes .png, .svg, .pdf"),
        (["--pictures", "nowhere/out.png"], "--pictures nowhere/out.png: nowhere is not a directory"),
        (["--pictures", "nowhere/drawn"], "--pictures nowhere/drawn: nowhere is not a directory"),
        (["--pictures", "file"], "--pictures file is a file; name a directory, or a file that ends in .png, .svg or .pdf"),
        (["--pictures", "out.png", "--k", "0"], "--k is '0', but must be a whole number from 1 to 20"),
        (["--pictures", "out.png", "--k", "21"], "--k is '21', but must be a whole number from 1 to 20"),
        (["--pictures", "out.png", "--classes", "x"], "--classes is 'x', but must be a whole number from 0 to 20"),
        (["--pictures", "out.png", "--seed", "-1"], "--seed is '-1', but must be a whole number from 0 to 9007199254740992"),
        (["--pictures", "out.png", "--crop", "box"], "--crop box is not known; known: model, whole"),
        (
            ["--pictures", "out.png", "--queries", "wurst:2", "dataset.root=photos"],
            "--queries wurst:2 is neither worst, median, best, random nor a query of the run",
        ),
        (["--pictures", "out.png", "--queries", "random:41"], "--queries is 'random:41', which requests 41 queries; a picture"),
        (["--queries", "worst"], "--queries is for pictures; add --pictures FILE, such as --pictures queries.png"),
        (["dataset.root=photos"], "dataset.root=photos is for pictures; add --pictures FILE"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    one_run: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    assert refusal(capsys, str(one_run), *argv).startswith(message)
    assert not Path("out.png").exists()


def test_runs_without_embeddings_are_one_sentence(one_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(one_run), "--ks", "1"]) == 0
    [evaluation] = one_run.glob("evaluate-*")
    capsys.readouterr()
    assert f"name its run, {one_run}" in refusal(capsys, str(evaluation), "--pictures", "out.png")
    (one_run / "embeddings.safetensors").unlink()
    assert "does not exist, so there is nothing to draw" in refusal(capsys, str(one_run), "--pictures", "out.png")
    failed = Path("runs/digits/triplet/failed-0")
    write_row(failed, make_row(status="failed", reason="the loss is nan"))
    assert refusal(capsys, str(failed), "--pictures", "out.png").endswith("because the run failed: the loss is nan")
    begun = Path("runs/digits/triplet/begun-0")
    begun.mkdir()
    (begun / "history.jsonl").write_text("")
    assert refusal(capsys, str(begun), "--pictures", "out.png").startswith(f"{begun} has no embeddings to draw: ")


def test_missing_matplotlib_is_one_sentence_with_the_command(
    one_run: Path, capsys: pytest.CaptureFixture[str], without_module: Callable[[str], None]
) -> None:
    without_module("matplotlib")
    message = refusal(capsys, str(one_run), "--pictures", "out.png")
    assert message == "--pictures needs matplotlib: pip install 'dmlbench[pictures]' (No module named 'matplotlib')"


def test_damaged_scores_leave_random_and_named_queries(
    one_run: Path, drawn: list[Pictures], capsys: pytest.CaptureFixture[str]
) -> None:
    (one_run / "per_query.safetensors").write_text("damaged")
    assert "so no query is the worst" in refusal(capsys, str(one_run), "--pictures", "out.png", "dataset.root=photos")
    show(one_run, "--queries", "random:3")
    assert [row.details[0] for row in drawn[0].rows] == ["not scored"] * 3


HOSTILE: dict[str, dict[str, Any]] = {
    "other ids": {"ids": np.arange(20, dtype=np.uint64) + np.uint64(2**63)},
    "equal ids": {"ids": np.full(20, 25)},
    "scores that are not finite": {"map_at_r": np.resize([np.nan, np.inf, -np.inf, 0.5], 20)},
    "no query": {name: np.zeros(0, dtype=np.int64) for name in ("ids", "labels", "map_at_r")},
}


@pytest.mark.parametrize("changed", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_scores_are_drawn_or_refused(
    one_run: Path, changed: dict[str, Any], drawn: list[Pictures], capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.numpy import load_file, save_file

    file = one_run / "per_query.safetensors"
    save_file({**load_file(file), **changed}, file)
    assert run(["show", str(one_run), "--pictures", "out.png", "dataset.root=photos"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert all(len({ids(row) for row in one.rows}) == len(one.rows) for one in drawn)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.json", json.dumps({"4": "x" * 5000, "²": "y", "9" * 5000: "z", "5": ["a"]})),
        ("images.json", '{"root": "photos", "ids": [20], "paths": ["a"], "boxes": [[NaN, 0, 1, 1]]}'),
        ("images.json", '{"root": "/", "ids": [20], "paths": ["etc/passwd"]}'),
    ],
)
def test_hostile_names_and_images_are_drawn_or_refused(
    one_run: Path, name: str, text: str, drawn: list[Pictures], capsys: pytest.CaptureFixture[str]
) -> None:
    (one_run / name).write_text(text)
    row = json.loads((one_run / "row.json").read_text())
    changed = {"loss_label": "a\x1b[2J\n" * 900, "protocol_image_px": 10**250, "protocol_resize_px": True}
    (one_run / "row.json").write_text(json.dumps({**row, **changed}))
    assert run(["show", str(one_run), "--pictures", "out.png"]) == 0
    assert capsys.readouterr().err.startswith("dmlbench: the images are drawn empty: ")
    assert {tile.thumbnail.problem for row in drawn[0].rows for tile in row.tiles} == {"not found"}


def test_the_suffixes_of_embeddings_are_those_of_evaluate() -> None:
    from dmlbench.cli.evaluate import EMBEDDING_SUFFIXES

    assert draw.EMBEDDING_SUFFIXES == EMBEDDING_SUFFIXES
