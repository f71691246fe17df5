"""From a published archive to a result row, with the commands of a user. A failure on the way leaves nothing."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import annotation_factory as make
import pytest

from dmlbench.cli import run
from dmlbench.config.compose import compose
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.runs.prepare import prepare

# Facts of the small data sets, which replace the published ones.
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
    *("trunk=convnet", "loss=triplet", "protocol.epochs=1", "protocol.batch_size=16", "protocol.image_px=16"),
    *("protocol.embedding_dim=8", "protocol.freeze_batch_norm=false", "loss.samples_per_class=2"),
]


def facts(name: str) -> list[str]:
    return [f"dataset.{fact}={count}" for fact, count in FACTS[name].items()]


def make_archive(name: str, tmp_path: Path) -> Path:
    LAYOUTS[name](tmp_path / "made")
    return make.pack(tmp_path / "made", tmp_path / f"{name}.{SUFFIX[name]}")


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_archive_can_be_prepared_checked_and_trained_on(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*facts(name), f"paths.data={tmp_path / 'data'}", f"paths.runs={tmp_path / 'runs'}"]
    assert run(["data", "prepare", name, f"dataset.archive={make_archive(name, tmp_path)}", *overrides]) == 0
    out = capsys.readouterr().out
    assert f"unpacked to {tmp_path / 'data' / name}" in out
    assert "training and test share no class" in out
    assert "no two images are byte-identical" in out
    shutil.rmtree(tmp_path / "made")
    assert run(["data", "check", name, *overrides]) == 0
    assert run(["train", f"dataset={name}", *overrides, *QUICK]) == 0
    [row] = [read_row(file) for file in find_rows(tmp_path / "runs")]
    assert row["n_images"] == FACTS[name]["images"]
    assert row["n_query_images"] == FACTS[name]["query_images"]
    assert 0 <= float(row["recall_at_1"]) <= 1  # type: ignore[arg-type]


def test_a_data_set_that_exists_is_only_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make.sop(tmp_path / "data" / "sop")
    assert run(["data", "prepare", "sop", *facts("sop"), f"paths.data={tmp_path / 'data'}"]) == 0
    assert f"{tmp_path / 'data' / 'sop'} exists already, and was verified" in capsys.readouterr().out


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which a command is refused."""
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def test_an_archive_of_another_data_set_is_refused_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = make_archive("sop", tmp_path)
    err = refused(["data", "prepare", "sop", f"dataset.archive={file}", f"paths.data={tmp_path / 'data'}"], capsys)
    assert "images is declared as 120,053 but the files under Stanford_Online_Products have 54" in err
    assert "the unpacked files were removed" in err
    assert [path.name for path in (tmp_path / "data").iterdir()] in ([], ["checked"])


def test_an_archive_of_cub_with_missing_images_is_refused_with_both_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = make.cub(tmp_path / "made")
    for number in (7, 150):
        shutil.rmtree(directory / "images" / f"{number:03d}.Bird_{number}")
    file = make.pack(tmp_path / "made", tmp_path / "cub.tgz")
    arguments = ["data", "prepare", "cub", *facts("cub"), f"dataset.archive={file}", f"paths.data={tmp_path / 'data'}"]
    err = refused(arguments, capsys)
    assert "lists 400 images, but 396 are under" in err
    assert not list((tmp_path / "data").glob("*"))


def test_a_truncated_image_in_an_archive_is_refused_by_name_or_skipped_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = make.sop(tmp_path / "made")
    image = next(iter((directory / "mug_final").iterdir()))
    image.write_bytes(image.read_bytes()[:600])
    file = make.pack(tmp_path / "made", tmp_path / "sop.zip")
    arguments = ["data", "prepare", "sop", f"dataset.archive={file}", *facts("sop"), f"paths.data={tmp_path / 'data'}"]
    err = refused(arguments, capsys)
    assert f"mug_final/{image.name} cannot be read as an image" in err
    assert not (tmp_path / "data" / "sop").exists()
    assert run([*arguments, "dataset.on_unreadable=skip"]) == 0
    assert "unreadable images that are skipped: 1" in capsys.readouterr().out


def test_inshop_cannot_be_downloaded_and_the_error_says_where_to_request_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = refused(["data", "prepare", "inshop", f"paths.data={tmp_path / 'data'}"], capsys)
    assert "dataset/inshop cannot be downloaded: " in err
    assert "mmlab.ie.cuhk.edu.hk" in err


def test_inshop_is_unpacked_from_an_archive_of_images_and_a_list(tmp_path: Path) -> None:
    make.inshop(tmp_path / "made")
    images = make.pack(tmp_path / "made" / "Img", tmp_path / "img.zip")
    partition = tmp_path / "made" / "Eval" / "list_eval_partition.txt"
    overrides = [f"dataset.archive=[{images},{partition}]", *facts("inshop"), f"paths.data={tmp_path / 'data'}"]
    assert run(["data", "prepare", "inshop", *overrides]) == 0


def test_a_missing_archive_and_an_existing_directory_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "prepare", "sop", f"paths.data={tmp_path / 'data'}"]
    missing = refused([*arguments, "dataset.archive=missing.zip"], capsys)
    assert "dataset.archive is 'missing.zip', which does not exist" in missing
    (tmp_path / "data" / "sop").mkdir(parents=True)
    (tmp_path / "data" / "sop" / "x").touch()
    existing = refused([*arguments, f"dataset.archive={make_archive('sop', tmp_path)}"], capsys)
    assert "exists already; remove it, or unpack into another directory with dataset.root=DIRECTORY" in existing


def test_a_generated_data_set_has_nothing_to_prepare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing to prepare" in refused(["data", "prepare", "digits", f"paths.data={tmp_path}"], capsys)


def test_a_full_disk_is_reported_in_one_sentence_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the permission to mount a small file system")
    try:
        overrides = [f"dataset.archive={make_archive('sop', tmp_path)}", *facts("sop"), f"paths.data={small / 'data'}"]
        err = refused(["data", "prepare", "sop", *overrides], capsys)
        assert "cannot be unpacked" in err
        assert "No space left on device" in err
        assert not list((small / "data").glob("*"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_download_is_verified_and_unpacked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make_archive("sop", tmp_path)
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{http.server_address[1]}/sop.zip"
        arguments = ["data", "prepare", "sop", *facts("sop"), f"paths.data={tmp_path / 'data'}"]
        err = refused([*arguments, f"dataset.downloads=[{{url: '{url}', md5: '{'0' * 32}'}}]"], capsys)
        assert f"the download of {url} is not the published file: its md5 is {md5}" in err
        assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert run([*arguments, f"dataset.downloads=[{{url: '{url}', md5: {md5}}}]"]) == 0
        http.shutdown()
    out = capsys.readouterr().out
    assert f"downloaded {tmp_path / 'data' / 'archives' / 'sop.zip'}" in out
    assert f"unpacked to {tmp_path / 'data' / 'sop'}" in out


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_data_set_keeps_its_name_in_any_directory(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path / "my pictures")
    overrides = [f"dataset={name}", f"dataset.root={tmp_path / 'my pictures'}", *facts(name), *QUICK, f"paths.data={tmp_path}"]
    plan, _ = prepare(compose(overrides))
    assert plan.shared["dataset"] == name
