"""Pairs of digits: no sample on both sides, no image twice, the same files for the same arguments."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from dmlbench.data.datasets.digits import CANVAS_PX, digits
from dmlbench.data.datasets.generated import LISTING, generated
from dmlbench.data.images import read_image
from dmlbench.data.split import Split
from dmlbench.errors import UserError

PER_CLASS = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return digits(str(tmp_path_factory.mktemp("digits")), images_per_class=PER_CLASS)


@pytest.fixture(scope="module")
def sources(made: Split) -> pd.DataFrame:
    """The listing that is written beside the images: path, left and right sample."""
    return pd.read_csv(made.root / Path(made.frame["path"][0]).parts[0] / LISTING)


def test_the_first_fifty_numbers_train_and_the_rest_are_unseen(made: Split) -> None:
    assert made.facts == {
        "images": 100 * PER_CLASS,
        "train_classes": 50,
        "train_images": 50 * PER_CLASS,
        "test_classes": 50,
        "query_images": 50 * PER_CLASS,
        "gallery_images": 50 * PER_CLASS,
    }
    assert set(made.labels("train")) == set(range(50))
    assert set(made.labels("query")) == set(made.labels("gallery")) == set(range(50, 100))
    assert (made.frame["class_name"].astype(int) == made.frame["label"]).all()


def test_no_source_digit_stands_on_both_sides(made: Split, sources: pd.DataFrame) -> None:
    train = made.frame["train"].to_numpy()
    used = sources[["left", "right"]].to_numpy()
    assert not set(used[train].ravel()) & set(used[~train].ravel())


def test_the_two_samples_are_of_the_classs_two_digits(made: Split, sources: pd.DataFrame) -> None:
    target = load_digits().target
    assert (10 * target[sources["left"]] + target[sources["right"]] == made.frame["label"]).all()


def test_within_a_class_no_sample_stands_twice_at_its_place_or_beside_itself(made: Split, sources: pd.DataFrame) -> None:
    for place in ("left", "right"):
        assert not sources.assign(label=made.frame["label"]).duplicated(["label", place]).any()
    assert (sources["left"] != sources["right"]).all()


def test_no_image_repeats_in_the_whole_set(made: Split) -> None:
    assert len({path.read_bytes() for path in made.paths()}) == len(made.frame)


def test_an_image_is_square_and_shows_its_two_samples_in_order(made: Split, sources: pd.DataFrame) -> None:
    images = load_digits().images
    for image_id in (0, 137, 599):
        pixels = read_image(made.paths()[image_id])[0].numpy().astype(float)
        assert pixels.shape == (CANVAS_PX, CANVAS_PX)
        for place, half in (("left", pixels[4:32, 2:18]), ("right", pixels[4:32, 18:34])):
            # the mean over the pixels that a source pixel was enlarged to, bands of 28 / 8 x 16 / 8
            rows = np.array_split(half, 8, axis=0)
            small = np.array([[cell.mean() for cell in np.array_split(row, 8, axis=1)] for row in rows])
            likeness = [np.corrcoef(small.ravel(), image.ravel())[0, 1] for image in images]
            assert int(np.argmax(likeness)) == sources[place][image_id]


def test_the_same_arguments_give_the_same_bytes_and_digest_elsewhere(made: Split, tmp_path: Path) -> None:
    again = digits(str(tmp_path), images_per_class=PER_CLASS)
    assert again.digest == made.digest
    assert [p.read_bytes() for p in again.paths()] == [p.read_bytes() for p in made.paths()]


def test_another_split_seed_gives_another_digest_and_other_pairs(made: Split, tmp_path: Path) -> None:
    other = digits(str(tmp_path), split_seed=1, images_per_class=PER_CLASS)
    assert other.digest != made.digest
    same = [a.read_bytes() == b.read_bytes() for a, b in zip(other.paths(), made.paths(), strict=True)]
    assert sum(same) < len(same) / 20


def test_a_complete_folder_is_listed_and_not_written_again(made: Split) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.paths()}
    assert digits(str(made.root), images_per_class=PER_CLASS).digest == made.digest
    assert {path: path.stat().st_mtime_ns for path in made.paths()} == before


def test_listing_a_complete_folder_imports_no_scikit_learn(made: Split) -> None:
    code = (
        "import sys; from dmlbench.data.datasets.digits import digits;"
        f"digits({str(made.root)!r}, images_per_class={PER_CLASS}); assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_that_lost_an_image_is_named_and_how_to_mend_it(tmp_path: Path) -> None:
    split = digits(str(tmp_path), images_per_class=2)
    split.paths()[3].unlink()
    with pytest.raises(UserError, match=r"lacks 1 of its 200 generated images, such as 01/01\.png; delete the folder"):
        digits(str(tmp_path), images_per_class=2)


@pytest.mark.parametrize("count", [1, 88, "many", True, 2.5])
def test_a_number_of_images_out_of_range_is_refused_with_the_range(tmp_path: Path, count: int) -> None:
    with pytest.raises(UserError, match=r"dataset/digits: images_per_class is .*whole number from 2 to 87"):
        digits(str(tmp_path), images_per_class=count)
    assert not list(tmp_path.iterdir())


def test_the_largest_number_of_images_is_possible_in_every_class() -> None:
    target = load_digits().target
    assert min(np.bincount(target)) // 2 == 87


def _generate(root: Path, barrier: multiprocessing.synchronize.Barrier) -> None:
    def generate(folder: Path) -> pd.DataFrame:
        barrier.wait(30)  # both have found no folder
        (folder / "a.txt").write_text("whole")
        return pd.DataFrame({"path": ["a.txt"]})

    generated(root, "set", {"version": 1}, generate)


def test_two_processes_that_generate_at_once_both_end_well_and_leave_one_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    both = [context.Process(target=_generate, args=(tmp_path, barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", LISTING]


def test_a_generator_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def generate(folder: Path) -> pd.DataFrame:
        (folder / "a.txt").write_text("half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        generated(tmp_path, "set", {"version": 1}, generate)
    assert not list(tmp_path.iterdir())
