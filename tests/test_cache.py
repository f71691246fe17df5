"""The decoded cache: the same pixels, written once, never half, and never stale."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from dmlbench import experiment
from dmlbench.data import cache
from dmlbench.data.cache import INDEX, MADE, PIXELS, cached
from dmlbench.data.images import ResizedImages
from dmlbench.data.loader import Batches
from dmlbench.errors import UserError
from dmlbench.launch import compose, prepare
from dmlbench.plan import Protocol

PX = 24
# width, height: lying, standing, square, already of the right size, smaller
SHAPES = [(50, 37), (31, 64), (40, 40), (PX, PX), (12, 15), (33, 24)]
FORK = multiprocessing.get_context("fork")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def images(tmp_path: Path) -> ResizedImages:
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    paths = []
    for number, (width, height) in enumerate(2 * SHAPES):
        paths.append(folder / f"{number}.bmp")  # its size in bytes depends on the shape alone
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(paths[-1])
    return ResizedImages(paths, PX)


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    return tmp_path / "caches"


def left(caches: Path) -> list[str]:
    """What lies in the folder of caches beside the locks, which hold nothing."""
    return sorted(path.name for path in caches.iterdir() if path.suffix != ".lock")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that a cache is written."""
    written: list[int] = []
    write = cache._write_pixels

    def counting(*args: Any) -> np.ndarray:
        written.append(1)
        return write(*args)

    monkeypatch.setattr(cache, "_write_pixels", counting)
    return written


def assert_holds(opened: cache.CachedImages, images: ResizedImages) -> None:
    """Compare with Pillow's pixels, resized by torchvision from memory laid out channel by channel."""
    assert len(opened) == len(images)
    for image_id, path in enumerate(images.paths):
        planes = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).contiguous()
        assert torch.equal(opened[image_id], v2.Resize(PX, antialias=True)(planes)), path


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cached_image_equals_the_resized_one_pixel_for_pixel(images: ResizedImages, caches: Path, workers: int) -> None:
    opened = cached(images, caches, workers)
    assert_holds(opened, images)
    assert all(torch.equal(opened[image_id], images[image_id]) for image_id in range(len(images)))


def test_the_file_holds_one_byte_a_value_and_nothing_else(images: ResizedImages, caches: Path) -> None:
    cached(images, caches)
    (name,) = left(caches)
    values = sum(images[image_id].numel() for image_id in range(len(images)))
    assert (caches / name / PIXELS).stat().st_size == values
    assert sorted(path.name for path in (caches / name).iterdir()) == sorted((PIXELS, INDEX, MADE))


def protocol(**changes: Any) -> Protocol:
    given = {"name": "tiny", "version": 1, "epochs": 1, "batch_size": 4, "embedding_dim": 8, "image_px": 16, "resize_px": PX}
    return Protocol(**(given | changes))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("crop", ["random_resized", "random", "center"])
def test_batches_with_and_without_the_cache_are_equal(images: ResizedImages, caches: Path, crop: str, workers: int) -> None:
    with_it = Batches(images.paths, protocol(train_crop=crop), workers, cache=caches)
    without = Batches(images.paths, protocol(train_crop=crop))
    rows = [[0, 1, 2, 2], [3, 4, 5, 6]]
    for first, second in zip(with_it.training(iter(rows), seed=1), without.training(iter(rows), seed=1), strict=True):
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])
    for first, second in zip(with_it.test(range(12)), without.test(range(12)), strict=True):
        assert torch.equal(first[0], second[0])


def test_a_run_with_the_cache_gives_the_row_of_a_run_without(tmp_path: Path) -> None:
    words = ["loss=softtriple", "protocol.epochs=2", f"paths.data={tmp_path / 'data'}", "dataset.make.images_per_class=4"]
    words += ["dataset.train_images=200", "dataset.query_images=200", "dataset.gallery_images=200"]
    rows = []
    for choice in ("none", "memmap"):
        plan, split = prepare(*compose([*words, f"dataset.cache={choice}", f"paths.runs={tmp_path / choice}"]))
        plan.folder.mkdir(parents=True)
        assert not (tmp_path / "data" / "cache").exists()
        rows.append(experiment.run(plan, split))
    assert left(tmp_path / "data" / "cache")  # it was used
    assert rows[0]["status"] == "ok"
    assert rows[0].outcome == rows[1].outcome


def test_a_second_job_reads_no_image_file(images: ResizedImages, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached(images, caches)

    def refused(path: Path) -> torch.Tensor:
        raise AssertionError(f"{path} is read")

    monkeypatch.setattr("dmlbench.data.images.read_image", refused)
    second = cached(images, caches)
    assert all(torch.equal(first[image_id], second[image_id]) for image_id in range(len(images)))


def test_another_resize_has_a_cache_of_its_own(images: ResizedImages, caches: Path) -> None:
    cached(images, caches)
    assert min(cached(ResizedImages(images.paths, PX + 1), caches)[0].shape[1:]) == PX + 1
    assert len(left(caches)) == 2


def test_a_file_that_was_replaced_by_one_of_equal_size_has_the_cache_written_again(images: ResizedImages, caches: Path) -> None:
    before = cached(images, caches)[0].clone()
    path = images.paths[0]
    size, modified = path.stat().st_size, path.stat().st_mtime_ns
    Image.new("RGB", SHAPES[0], (1, 2, 3)).save(path)
    os.utime(path, ns=(modified, modified + 1))
    assert path.stat().st_size == size
    opened = cached(images, caches)
    assert not torch.equal(opened[0], before)
    assert_holds(opened, images)
    assert len(left(caches)) == 1


def test_another_version_of_a_library_has_the_cache_written_again(
    images: ResizedImages, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(images, caches)
    written = counted(monkeypatch)
    cached(images, caches)
    assert not written
    monkeypatch.setattr(cache, "version", lambda name: "0.0")
    assert_holds(cached(images, caches), images)
    assert written


@pytest.mark.parametrize("name", [PIXELS, INDEX, MADE])
@pytest.mark.parametrize("content", [None, b"", b"half"])
def test_a_cache_that_lost_a_part_is_written_again(
    images: ResizedImages, caches: Path, name: str, content: bytes | None
) -> None:
    cached(images, caches)
    (folder,) = left(caches)
    part = caches / folder / name
    part.unlink()
    if content is not None:
        part.write_bytes(content)
    assert_holds(cached(images, caches), images)


def test_two_processes_at_once_write_one_cache_and_both_read_it(
    images: ResizedImages, caches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier, write = FORK.Barrier(2), cache._write_pixels

    def noting(*args: Any) -> np.ndarray:
        (tmp_path / f"written by {os.getpid()}").touch()
        return write(*args)

    def job() -> None:
        barrier.wait(30)
        assert_holds(cached(images, caches), images)

    monkeypatch.setattr(cache, "_write_pixels", noting)
    both = [FORK.Process(target=job) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(list(tmp_path.glob("written by *"))) == 1
    assert len(left(caches)) == 1


class Fatal(ResizedImages):
    """Kills its process in the middle of the writing, which reads each image a second time."""

    reads = 0

    def __getitem__(self, image_id: int) -> torch.Tensor:
        type(self).reads += 1
        if self.reads > len(self) + 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(image_id)


def test_what_a_killed_writer_left_is_removed_by_the_next(images: ResizedImages, caches: Path) -> None:
    process = FORK.Process(target=cached, args=(Fatal(images.paths, PX), caches))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    (leftover,) = left(caches)
    assert leftover.endswith(".tmp")
    assert_holds(cached(images, caches), images)
    (folder,) = left(caches)
    assert not folder.endswith(".tmp")


def test_a_disk_that_is_too_small_is_refused_before_writing_with_what_would_work(
    images: ResizedImages, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40 - 2**14, 2**14))
    written = counted(monkeypatch)
    expected = (
        r"^the decoded cache of 12 images needs about 2\.\d+e-05 GiB, but .*caches has 1\.53e-05 GiB free; make room, name a "
        r"folder on another disk with paths\.data=FOLDER, resize to less than protocol\.resize_px=24, or go without: "
        r"dataset\.cache=none$"
    )
    with pytest.raises(UserError, match=expected):
        cached(images, caches)
    assert not written
    assert not left(caches)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow past 10,000 bytes: a write that fails in the middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_a_write_that_fails_in_the_middle_is_one_sentence_and_leaves_nothing(images: ResizedImages, caches: Path) -> None:
    with pytest.raises(UserError, match=r"^the decoded cache .* cannot be used: File too large; it needs about .*cache=none$"):
        cached(images, caches)
    assert not left(caches)


def test_a_place_that_cannot_be_written_is_one_sentence(images: ResizedImages, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be used: .*paths\.data=FOLDER"):
        cached(images, tmp_path / "file" / "caches")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_is_one_sentence_and_leaves_nothing(
    images: ResizedImages, caches: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    images.paths[7].write_bytes(b"no image")
    monkeypatch.setattr(cache, "SAMPLED", 2)  # so that it is met in the writing
    with pytest.raises(UserError, match=r"^[^\n]*7\.bmp cannot be read as an image[^\n]*$"):
        cached(images, caches, workers)
    assert not left(caches)


def in_a_small_disk(mounted: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a disk of 1 MiB at a place that nobody else sees, and list what it left there."""
    mounted.mkdir()
    alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = 'mount -t tmpfs -o size=1m tmpfs "$0"'
    if not shutil.which("unshare") or subprocess.run([*alone, mount, str(mounted)], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    script = mount + ' && { "$@"; status=$?; find "$0"/cache ! -name "*.lock"; exit $status; }'
    return subprocess.run([*alone, script, str(mounted), *command], capture_output=True, text=True, timeout=120)


def photos(folder: Path) -> ResizedImages:
    """80 images, 5 MB once they are resized to 144 px."""
    generator = np.random.default_rng(0)
    paths = [folder / f"{number % 4}" / f"{number}.png" for number in range(80)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return ResizedImages(paths, 144)


def test_on_a_small_disk_the_command_says_one_sentence_exits_2_and_leaves_nothing(tmp_path: Path) -> None:
    photos(tmp_path / "images")
    words = ["loss=triplet", "dataset=folder", f"dataset.root={tmp_path / 'images'}", "dataset.cache=memmap", "trunk=convnet"]
    words += ["protocol=quick", "protocol.image_px=128", f"paths.data={tmp_path / 'disk'}", f"paths.runs={tmp_path / 'runs'}"]
    ended = in_a_small_disk(tmp_path / "disk", sys.executable, "-m", "dmlbench", "train", *words)
    sentences = [line for line in ended.stderr.splitlines() if "decoded cache" in line]
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(sentences) == 1
    assert "needs about 0.00463 GiB" in sentences[0]  # 80 images of 144 x 144 x 3 bytes
    assert ended.stdout.splitlines()[-1:] == [str(tmp_path / "disk/cache")]
    assert not list((tmp_path / "runs").rglob("row.json"))


def test_a_disk_that_fills_up_while_writing_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    photos(tmp_path / "images")
    code = (
        "import shutil, sys; from pathlib import Path; from types import SimpleNamespace;"
        "from dmlbench.data.cache import cached; from dmlbench.data.images import ResizedImages;"
        "shutil.disk_usage = lambda path: SimpleNamespace(free=2**40);"  # as if another job had taken the room since
        f"cached(ResizedImages(sorted(Path({str(tmp_path / 'images')!r}).rglob('*.png')), 144), Path(sys.argv[1]))"
    )
    ended = in_a_small_disk(tmp_path / "disk", sys.executable, "-c", code, str(tmp_path / "disk/cache"))
    assert "cannot be used: No space left on device; it needs about 0.00463 GiB" in ended.stderr.splitlines()[-1]
    assert "UserError" in ended.stderr.splitlines()[-1]
    assert ended.stdout.splitlines() == [str(tmp_path / "disk/cache")]
