"""The decoded cache changes neither pixels nor rows; it is written once, again when it is stale, and never incompletely."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import zlib
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dmlbench.cli import run
from dmlbench.config.schema import Protocol
from dmlbench.data import decoded_cache as module
from dmlbench.data.decoded_cache import DecodedCache, decoded_cache, name_of
from dmlbench.data.images import crop_to_box
from dmlbench.data.loader import Batches
from dmlbench.data.resized_images import ResizedImages
from dmlbench.errors import UserError
from dmlbench.results.row_files import find_rows, read_row

SIZES = [(50, 40), (40, 50), (64, 64), (33, 90), (48, 36)]  # width, height


def photos(folder: Path, sizes: list[tuple[int, int]] = SIZES) -> list[Path]:
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (width, height) in enumerate(sizes):
        paths.append(folder / f"{number}.png")
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(paths[-1])
    return paths


def protocol(**changes: Any) -> Protocol:
    return Protocol(name="p", version=1, epochs=1, batch_size=2, embedding_dim=2, image_px=24, resize_px=32, **changes)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cached_image_is_bit_equal_to_the_resized_image(workers: int, tmp_path: Path) -> None:
    images = ResizedImages(photos(tmp_path / "photos"), 32)
    cached = decoded_cache(images, tmp_path / "cache", workers)
    assert len(cached) == len(images)
    for image_id in range(len(images)):
        assert torch.equal(cached[image_id], images[image_id])


@pytest.mark.parametrize("train_crop", ["random_resized", "random", "center"])
def test_cached_batches_are_bit_equal_to_uncached_batches(train_crop: Any, tmp_path: Path) -> None:
    paths, ids_of_batches = photos(tmp_path / "photos"), [[0, 3], [4, 1], [2, 2]]
    settings = protocol(train_crop=train_crop)
    batches = [Batches(paths, settings), Batches(paths, settings, cache=tmp_path / "cache")]
    for plain, cached in zip(*(one.training(iter(ids_of_batches), 5) for one in batches), strict=True):
        assert torch.equal(plain[0], cached[0])
        assert torch.equal(plain[1], cached[1])
    for plain, cached in zip(*(one.test(range(5)) for one in batches), strict=True):
        assert torch.equal(plain[0], cached[0])
        assert torch.equal(plain[1], cached[1])


SYNTHETIC = (
    *("dataset=synthetic", "dataset.make.classes=8", "dataset.make.images_per_class=4", "dataset.make.image_px=40"),
    *("protocol.epochs=1", "protocol.batch_size=8"),
)


def test_cached_and_uncached_runs_give_equal_rows_with_the_same_run_id(tmp_path: Path) -> None:
    overrides = [*SYNTHETIC, "loss=softtriple", f"paths.data={tmp_path / 'data'}"]
    rows = []
    for cache in ("none", "memmap"):
        assert run(["train", *overrides, f"dataset.cache={cache}", f"paths.runs={tmp_path / cache}"]) == 0
        rows += [read_row(file) for file in find_rows(tmp_path / cache)]
    assert rows[0].outcome == rows[1].outcome
    assert rows[0]["run_id"] == rows[1]["run_id"]
    assert len(list((tmp_path / "data" / "cache").glob("[0-9]*px-*"))) == 1


def test_a_cache_is_written_once_and_again_after_a_file_was_replaced(tmp_path: Path) -> None:
    paths = photos(tmp_path / "photos")
    images, store = ResizedImages(paths, 32), tmp_path / "cache"
    decoded_cache(images, store)
    [folder] = store.glob("[0-9]*px-*")
    written = (folder / "pixels.bin").stat().st_mtime_ns
    decoded_cache(images, store)
    assert (folder / "pixels.bin").stat().st_mtime_ns == written
    Image.new("RGB", (50, 40), "red").save(paths[0])
    os.utime(paths[0], ns=(1, 1))
    assert torch.equal(decoded_cache(images, store)[0], images[0])
    assert [path.name for path in store.glob("[0-9]*px-*")] == [folder.name]


def test_each_size_and_each_set_of_boxes_has_a_separate_cache(tmp_path: Path) -> None:
    paths = photos(tmp_path / "photos")
    boxes = np.tile([2.0, 3.0, 20.0, 10.0], (len(paths), 1))
    for images in (ResizedImages(paths, 32), ResizedImages(paths, 16), ResizedImages(paths, 32, boxes)):
        assert torch.equal(decoded_cache(images, tmp_path / "cache")[1], images[1])
    assert len(list((tmp_path / "cache").glob("[0-9]*px-*"))) == 3


def _open_and_count_writes(paths: list[Path], store: Path, writes: Any) -> None:
    write = module._write

    def write_and_count(*args: Any) -> Any:
        with writes.get_lock():
            writes.value += 1
        return write(*args)

    module._write = write_and_count
    cached = decoded_cache(ResizedImages(paths, 32), store)
    assert torch.equal(cached[2], ResizedImages(paths, 32)[2])


def test_if_several_jobs_start_at_once_one_writes_and_all_read(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writes = context.Value("i", 0)
    arguments = (photos(tmp_path / "photos"), tmp_path / "cache", writes)
    jobs = [context.Process(target=_open_and_count_writes, args=arguments) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert writes.value == 1


def test_the_leftovers_of_a_killed_writer_are_removed_by_the_next_one(tmp_path: Path) -> None:
    images, store = ResizedImages(photos(tmp_path / "photos"), 32), tmp_path / "cache"
    leftover = store / f".{module.name_of(images)}.12345678.tmp"
    leftover.mkdir(parents=True)
    (leftover / "pixels.bin").write_bytes(b"half")
    decoded_cache(images, store)
    assert not leftover.exists()


Usage = namedtuple("Usage", "total used free")


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = ResizedImages(photos(tmp_path / "photos"), 32)
    needed = sum(images[k].numel() for k in range(len(images)))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, needed - 1))
    with pytest.raises(
        UserError, match=r"does not fit on the disk of .*: it needs .* MiB, and .* MiB are free; .*dataset\.cache=none"
    ):
        decoded_cache(images, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("[0-9]*px-*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, needed))
    assert isinstance(decoded_cache(images, tmp_path / "cache"), DecodedCache)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(directory)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the permission to mount a small file system")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def caches_in(store: Path) -> list[Path]:
    """All files and directories except the locks, which are empty."""
    return [path for path in store.rglob("*") if path.suffix != ".lock"]


def test_a_disk_that_fills_up_during_caching_is_refused_in_one_sentence_and_nothing_is_left(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 2**40))  # another job uses the space meanwhile
    images = ResizedImages(photos(tmp_path / "photos", [(200, 200)] * 4), 150)
    with pytest.raises(UserError, match=f"{os.strerror(errno.ENOSPC)} after .* MiB; free some space"):
        decoded_cache(images, small_disk / "cache")
    assert not caches_in(small_disk / "cache")


@pytest.mark.parametrize("enough_at_first", [False, True])
def test_on_a_small_disk_the_command_prints_one_sentence_and_leaves_neither_cache_nor_row(
    enough_at_first: bool, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if enough_at_first:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 2**40))
    for label in "abcd":
        photos(tmp_path / "photos" / label)
    overrides = ["loss=triplet", "dataset=folder", f"dataset.root={tmp_path / 'photos'}", "dataset.cache=memmap"]
    overrides += ["trunk=convnet", "protocol=quick", "protocol.image_px=64", "protocol.batch_size=8"]
    assert run(["train", *overrides, f"paths.data={small_disk}", f"paths.runs={tmp_path / 'runs'}"]) == 2
    [sentence] = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert "the decoded cache does not fit on the disk of" in sentence
    assert sentence.endswith("dataset.cache=none")
    assert not caches_in(small_disk / "cache")
    assert not list((tmp_path / "runs").rglob("row.json"))


@contextmanager
def limited_file_size() -> Iterator[None]:
    """Limit files to 10,000 bytes, so that a write fails in the middle, also without the permission to mount a disk.

    Used only around the tested call, because pytest's own output may be a larger file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_in_the_middle_is_reported_in_one_sentence_and_nothing_is_left(tmp_path: Path) -> None:
    images = ResizedImages(photos(tmp_path / "photos"), 32)
    with pytest.raises(UserError, match=f"{os.strerror(errno.EFBIG)} after .* MiB; free some space"), limited_file_size():
        decoded_cache(images, tmp_path / "cache")
    assert not caches_in(tmp_path / "cache")


def test_a_path_that_cannot_be_a_directory_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^the decoded cache .* cannot be used: .*paths\.data=DIRECTORY"):
        decoded_cache(ResizedImages(photos(tmp_path / "photos"), 32), tmp_path / "file" / "cache")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("content", [None, b"no image", "cut"])
def test_an_image_that_was_damaged_after_the_check_is_refused_in_one_sentence_and_nothing_is_left(
    tmp_path: Path, content: bytes | str | None, workers: int
) -> None:
    paths = photos(tmp_path / "photos")
    whole = paths[3].read_bytes()
    paths[3].unlink()
    if content is not None:
        paths[3].write_bytes(whole[:2000] if content == "cut" else content)
    with pytest.raises(UserError, match=r"^[^\n]*3\.png cannot be read as an image[^\n]*$"):
        decoded_cache(ResizedImages(paths, 32), tmp_path / "cache", workers)
    assert not caches_in(tmp_path / "cache")


@pytest.mark.parametrize("name", ["pixels.bin", "index.npy", "stamp.json"])
@pytest.mark.parametrize("content", [None, b"", b"half"])
def test_an_incomplete_cache_is_written_again(tmp_path: Path, name: str, content: bytes | None) -> None:
    images, store = ResizedImages(photos(tmp_path / "photos"), 32), tmp_path / "cache"
    decoded_cache(images, store)
    [file] = store.rglob(name)
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    cached = decoded_cache(images, store)
    assert all(torch.equal(cached[image_id], images[image_id]) for image_id in range(len(images)))


@pytest.mark.parametrize("name", ["pixels.bin", "index.npy", "stamp.json"])
def test_a_fifo_or_a_link_in_the_place_of_a_file_is_replaced(tmp_path: Path, name: str) -> None:
    images, store = ResizedImages(photos(tmp_path / "photos"), 32), tmp_path / "cache"
    for replace in (os.mkfifo, lambda path: path.symlink_to(tmp_path / "photos" / "0.png")):
        decoded_cache(images, store)
        [file] = store.rglob(name)
        file.unlink()
        replace(file)
        assert torch.equal(decoded_cache(images, store)[1], images[1])


def test_damaged_pixels_are_reported_in_one_sentence_that_names_the_directory(tmp_path: Path) -> None:
    images, store = ResizedImages(photos(tmp_path / "photos"), 32), tmp_path / "cache"
    decoded_cache(images, store)
    [file] = store.rglob("pixels.bin")
    content = bytearray(file.read_bytes())
    content[images[0].numel() + 100] ^= 1
    file.write_bytes(content)
    cached = decoded_cache(images, store)
    assert torch.equal(cached[0], images[0])
    with pytest.raises(UserError, match=f"^the decoded cache {file.parent} is damaged.*remove this directory"):
        _ = cached[1]


def rewrite_index(folder: Path, change: Any) -> None:
    index = np.load(folder / "index.npy")
    np.save(folder / "index.npy", change(index))


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index[:-1],
        lambda index: index[:0],
        lambda index: index[:, [0, 2, 1, 3]],  # exchanges heights and widths
        lambda index: index[::-1].copy(),
        lambda index: index.astype(np.float64),
        lambda index: index * 2**60,
        lambda index: -index,
        lambda index: index[0],
    ],
)
def test_a_damaged_index_is_reported_and_the_cache_is_written_again(
    tmp_path: Path, change: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    images, store = ResizedImages(photos(tmp_path / "photos"), 32), tmp_path / "cache"
    decoded_cache(images, store)
    [folder] = store.glob("[0-9]*px-*")
    rewrite_index(folder, change)
    cached = decoded_cache(images, store)
    assert all(torch.equal(cached[image_id], images[image_id]) for image_id in range(len(images)))
    assert capsys.readouterr().err == f"the decoded cache {folder} is damaged; it is written again\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index[:-1],
        lambda index: index[:0],
        lambda index: index[0],
        lambda index: index.astype(np.float64),
        lambda index: index * 2**60,
        lambda index: -index,
        lambda index: np.concatenate([index, index + 1]),
    ],
)
def test_a_forged_index_never_reads_beyond_the_pixels(tmp_path: Path, change: Any) -> None:
    """Its checksum fits, because the stamp is forged as well."""
    images, store = ResizedImages(photos(tmp_path / "photos"), 32), tmp_path / "cache"
    decoded_cache(images, store)
    [folder] = store.glob("[0-9]*px-*")
    rewrite_index(folder, change)
    stamp = json.loads((folder / "stamp.json").read_text())
    stamp["index_sha256"] = hashlib.sha256((folder / "index.npy").read_bytes()).hexdigest()
    (folder / "stamp.json").write_text(json.dumps(stamp))
    cached = decoded_cache(images, store)
    assert all(torch.equal(cached[image_id], images[image_id]) for image_id in range(len(images)))


def test_a_cache_of_turned_images_is_another_cache(tmp_path: Path) -> None:
    paths = photos(tmp_path / "photos")
    names = {name_of(ResizedImages(paths, 32, upright=upright)) for upright in (False, True)}
    assert len(names) == 2


def test_a_cache_is_written_again_after_a_library_was_updated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, store = ResizedImages(photos(tmp_path / "photos"), 32), tmp_path / "cache"
    decoded_cache(images, store)
    [before] = [file.stat().st_mtime_ns for file in store.rglob("pixels.bin")]
    monkeypatch.setattr(module, "version", lambda name: "0.0")
    decoded_cache(images, store)
    [after] = [file.stat().st_mtime_ns for file in store.rglob("pixels.bin")]
    assert after != before


def test_a_file_that_was_replaced_by_one_of_equal_size_makes_the_cache_stale(tmp_path: Path) -> None:
    path, store = tmp_path / "a.bmp", tmp_path / "cache"
    images = ResizedImages([path], 32)
    for colour, modified in (("red", 1), ("blue", 2)):
        Image.new("RGB", (50, 40), colour).save(path)  # the size of a BMP file depends only on its width and height
        os.utime(path, ns=(1, modified))
        assert torch.equal(decoded_cache(images, store)[0], images[0])


def test_a_cache_that_is_larger_than_the_memory_can_be_read(tmp_path: Path) -> None:
    height = 2**20
    width = 2 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (3 * height)
    begin = 3 * height * width
    last = bytes(range(18))
    with (tmp_path / "pixels.bin").open("wb") as file:  # a sparse file, which takes no space
        file.seek(begin)
        file.write(last)
    index = np.array([[0, height, width, 0], [begin, 2, 3, zlib.crc32(last)]])
    assert DecodedCache(tmp_path, index)[1].permute(1, 2, 0).flatten().tolist() == list(last)


def test_images_are_cropped_to_their_boxes_before_resizing(tmp_path: Path) -> None:
    paths = photos(tmp_path / "photos")
    boxes = np.tile([3.4, 5.6, 20.0, 14.0], (len(paths), 1))
    with Image.open(paths[0]) as image:
        stored = np.array(image)
    assert np.array_equal(crop_to_box(stored, boxes[0]), stored[6:20, 3:23])  # from round(5.6) to round(19.6)
    assert ResizedImages(paths, 28, boxes)[0].shape == (3, 28, 40)


@pytest.mark.parametrize("box", [(-5, -5, 500, 500), (49, 39, 0, 0), (100, 100, 10, 10)])
def test_a_crop_to_a_box_beyond_the_image_is_never_empty(box: tuple[float, ...]) -> None:
    crop = crop_to_box(np.zeros((40, 50, 3), dtype=np.uint8), np.array(box, dtype=float))
    assert crop.size > 0


def test_crop_to_box_changes_the_fingerprint_and_the_result(tmp_path: Path) -> None:
    overrides = [*SYNTHETIC, "loss=triplet", f"paths.data={tmp_path}", f"paths.runs={tmp_path / 'runs'}"]
    assert run(["train", *overrides]) == 0
    assert run(["train", *overrides, "protocol.crop_to_box=true"]) == 0
    first, second = (read_row(file) for file in find_rows(tmp_path / "runs"))
    assert first["fingerprint"] != second["fingerprint"]
    assert first["map_at_r"] != second["map_at_r"]


def test_crop_to_box_is_refused_if_the_data_set_has_no_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in "abcd":
        photos(tmp_path / "photos" / label)
    overrides = ["dataset=folder", f"dataset.root={tmp_path / 'photos'}", f"paths.data={tmp_path}"]
    assert run(["train", *overrides, "loss=triplet", "protocol.crop_to_box=true"]) == 2
    assert f"protocol.crop_to_box is true, but the images under {tmp_path / 'photos'} have no boxes" in capsys.readouterr().err
