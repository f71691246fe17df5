"""From a published archive to a trained row, as a user types it; and what stops on the way leaves nothing behind."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import published_factory as make
import pytest
from dmlbench.launch import compose, prepare

from dmlbench.cli import run
from dmlbench.results.row_files import find_rows, read_row

# Each small data set's own facts, in place of the published ones.
FACTS = {
    "cub": {"images": 400, "train_images": 200, "query_images": 200, "gallery_images": 200},
    "cars": {"images": 392, "train_images": 196, "query_images": 196, "gallery_images": 196},
    "sop": {
        "images": 54,
        "train_classes": 10,
        "train_images": 30,
        "test_classes": 8,
        "query_images": 24,
        "gallery_images": 24,
    },
    "inshop": {
        "images": 72,
        "train_classes": 10,
        "train_images": 40,
        "test_classes": 8,
        "query_images": 8,
        "gallery_images": 24,
    },
}
LAYOUTS: dict[str, Callable[[Path], Path]] = {"cub": make.cub, "cars": make.cars, "sop": make.sop, "inshop": make.inshop}
SUFFIX = {"cub": "tgz", "cars": "zip", "sop": "zip", "inshop": "zip"}
QUICK = [
    "trunk=convnet",
    "loss=triplet",
    "protocol.epochs=1",
    "protocol.batch_size=16",
    "protocol.image_px=16",
    "protocol.embedding_dim=8",
    "protocol.freeze_batch_norm=false",
    "loss.samples_per_class=2",
]


def facts(name: str) -> list[str]:
    return [f"dataset.{fact}={count}" for fact, count in FACTS[name].items()]


def archive(name: str, tmp_path: Path) -> Path:
    LAYOUTS[name](tmp_path / "made")
    return make.packed(tmp_path / "made", tmp_path / f"{name}.{SUFFIX[name]}")


@pytest.mark.parametrize("name", LAYOUTS)
def test_prepare_check_and_train_on_an_archive(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [f"paths.data={tmp_path / 'data'}", f"paths.runs={tmp_path / 'runs'}"]
    words = [*facts(name), *places]
    assert run(["data", "prepare", name, f"dataset.archive={archive(name, tmp_path)}", *words]) == 0
    out = capsys.readouterr().out
    assert f"unpacked to {tmp_path / 'data' / name}" in out
    assert "training and test share none" in out
    assert "no two images are byte-identical" in out
    shutil.rmtree(tmp_path / "made")
    assert run(["data", "check", name, *words]) == 0
    assert run(["train", f"dataset={name}", *words, *QUICK]) == 0
    [row] = [read_row(file) for file in find_rows(tmp_path / "runs")]
    assert row["n_images"] == FACTS[name]["images"]
    assert row["n_query_images"] == FACTS[name]["query_images"]
    assert 0 <= float(row["recall_at_1"]) <= 1  # type: ignore[arg-type]


def test_preparing_what_is_there_already_only_verifies_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make.sop(tmp_path / "data" / "sop")
    assert run(["data", "prepare", "sop", *facts("sop"), f"paths.data={tmp_path / 'data'}"]) == 0
    assert "is there already, and is what it should be" in capsys.readouterr().out


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a refused command."""
    assert run(words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def test_an_archive_that_is_another_data_set_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "prepare", "sop", f"dataset.archive={archive('sop', tmp_path)}", f"paths.data={tmp_path / 'data'}"]
    err = said(words, capsys)
    assert "images is declared as 120,053 but the files under its folder" in err
    assert "nothing was kept" in err
    assert [path.name for path in (tmp_path / "data").iterdir()] in ([], ["checked"])


def test_an_archive_of_cub_with_missing_images_says_both_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = make.cub(tmp_path / "made")
    for number in (7, 150):
        shutil.rmtree(place / "images" / f"{number:03d}.Bird_{number}")
    file = make.packed(tmp_path / "made", tmp_path / "cub.tgz")
    err = said(["data", "prepare", "cub", *facts("cub"), f"dataset.archive={file}", f"paths.data={tmp_path / 'data'}"], capsys)
    assert "lists 400 images, but 396 are under" in err
    assert not list((tmp_path / "data").glob("*"))


def test_an_image_that_is_cut_short_in_the_archive_is_named_and_nothing_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = make.sop(tmp_path / "made")
    file = next(iter((place / "mug_final").iterdir()))
    file.write_bytes(file.read_bytes()[:600])
    words = [*facts("sop"), f"paths.data={tmp_path / 'data'}"]
    packed = make.packed(tmp_path / "made", tmp_path / "sop.zip")
    err = said(["data", "prepare", "sop", f"dataset.archive={packed}", *words], capsys)
    assert f"{file.name} cannot be read as an image" in err
    assert not (tmp_path / "data" / "sop").exists()
    assert run(["data", "prepare", "sop", f"dataset.archive={packed}", "dataset.on_unreadable=skip", *words]) == 0
    assert "skipped   1 images that cannot be read" in capsys.readouterr().out


def test_inshop_says_where_to_ask_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = said(["data", "prepare", "inshop", f"paths.data={tmp_path / 'data'}"], capsys)
    assert "cannot be downloaded: ask its authors at mmlab.ie.cuhk.edu.hk" in err


def test_inshop_is_made_of_its_images_archive_and_its_list(tmp_path: Path) -> None:
    make.inshop(tmp_path / "made")
    images = make.packed(tmp_path / "made" / "Img", tmp_path / "img.zip")
    partition = tmp_path / "made" / "Eval" / "list_eval_partition.txt"
    words = [f"dataset.archive=[{images},{partition}]", *facts("inshop"), f"paths.data={tmp_path / 'data'}"]
    assert run(["data", "prepare", "inshop", *words]) == 0


def test_an_archive_that_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "prepare", "cub", f"paths.data={tmp_path / 'data'}"]
    assert "dataset.archive is 'nowhere.tgz', which does not exist" in said([*words, "dataset.archive=nowhere.tgz"], capsys)
    (tmp_path / "data" / "cub").mkdir(parents=True)
    (tmp_path / "data" / "cub" / "x").touch()
    assert "is there already; remove it" in said([*words, f"dataset.archive={archive('cub', tmp_path)}"], capsys)


def test_a_data_set_that_is_generated_needs_no_preparing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing to prepare" in said(["data", "prepare", "digits", f"paths.data={tmp_path}"], capsys)


def test_a_full_disk_is_one_sentence_and_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a small file system here")
    try:
        words = [f"dataset.archive={archive('sop', tmp_path)}", *facts("sop"), f"paths.data={small / 'data'}"]
        err = said(["data", "prepare", "sop", *words], capsys)
        assert "cannot be unpacked" in err
        assert "No space left on device" in err
        assert not list((small / "data").glob("*"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_prepare_downloads_verifies_and_unpacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = archive("sop", tmp_path)
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{http.server_address[1]}/sop.zip"
        words = ["data", "prepare", "sop", *facts("sop"), f"paths.data={tmp_path / 'data'}"]
        err = said([*words, f"dataset.downloads=[{{url: '{url}', md5: '{'0' * 32}'}}]"], capsys)
        assert f"what came from {url} is not the published file: its md5 is {md5}" in err
        assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert run([*words, f"dataset.downloads=[{{url: '{url}', md5: {md5}}}]"]) == 0
        http.shutdown()
    out = capsys.readouterr().out
    assert "fetched" in out
    assert "unpacked to" in out


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_benchmark_keeps_its_name_whatever_the_folder_is_called(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path / "my pictures")
    words = [f"dataset={name}", f"dataset.root={tmp_path / 'my pictures'}", *facts(name), *QUICK, f"paths.data={tmp_path}"]
    assert prepare(*compose(words))[0].shared["dataset"] == name
