"""Pairs of digits: training and test share no sample, no image repeats, and equal arguments give equal files."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from dmlbench.config.compose import compose, resolve
from dmlbench.data.datasets.digits import CANVAS_PX, MOST_IMAGES_PER_CLASS, digits
from dmlbench.data.datasets.generated import LISTING, generate_once
from dmlbench.data.images import read_image
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.runs.prepare import load_split

PER_CLASS = 6


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return digits(str(tmp_path_factory.mktemp("digits")), images_per_class=PER_CLASS)


@pytest.fixture(scope="module")
def samples(split: Split) -> pd.DataFrame:
    """The listing next to the images: path, left and right sample of each image."""
    return pd.read_csv(split.root / Path(split.frame["path"][0]).parts[0] / LISTING)


def test_pairs_of_0_to_4_are_training_classes_and_pairs_of_5_to_9_are_test_classes(split: Split) -> None:
    assert split.facts == {
        "images": 50 * PER_CLASS,
        "train_classes": 25,
        "train_images": 25 * PER_CLASS,
        "test_classes": 25,
        "query_images": 25 * PER_CLASS,
        "gallery_images": 25 * PER_CLASS,
    }
    names, train = split.frame["class_name"], split.frame["train"]
    assert set(names[train]) == {f"{left}{right}" for left in range(5) for right in range(5)}
    assert set(names[~train]) == {f"{left}{right}" for left in range(5, 10) for right in range(5, 10)}
    assert names.groupby(split.frame["label"]).nunique().tolist() == [1] * 50


@pytest.mark.parametrize("place", [0, 1], ids=["left", "right"])
def test_no_digit_of_a_test_class_was_seen_in_its_place_in_training(split: Split, place: int) -> None:
    digit, train = split.frame["class_name"].str[place], split.frame["train"]
    assert digit[train].nunique() == digit[~train].nunique() == 5
    assert not set(digit[train]) & set(digit[~train])


def test_the_declared_counts_are_those_of_the_files(tmp_path: Path) -> None:
    dataset = resolve(compose(["dataset=digits", f"paths.data={tmp_path}"])).dataset
    facts = load_split(dataset, tmp_path).facts
    assert (facts["train_images"], facts["query_images"]) == (dataset.train_images, 1200) == (1200, 1200)


def test_training_and_test_share_no_handwritten_sample(split: Split, samples: pd.DataFrame) -> None:
    train = split.frame["train"].to_numpy()
    used = samples[["left", "right"]].to_numpy()
    assert not set(used[train].ravel()) & set(used[~train].ravel())


def test_the_two_samples_of_an_image_show_the_digits_of_its_class(split: Split, samples: pd.DataFrame) -> None:
    target = load_digits().target
    assert (10 * target[samples["left"]] + target[samples["right"]] == split.frame["class_name"].astype(int)).all()


def test_within_a_class_no_sample_repeats_on_the_same_side_or_is_paired_with_itself(
    split: Split, samples: pd.DataFrame
) -> None:
    for side in ("left", "right"):
        assert not samples.assign(label=split.frame["label"]).duplicated(["label", side]).any()
    assert (samples["left"] != samples["right"]).all()


def test_no_image_repeats_in_the_data_set(split: Split) -> None:
    assert len({path.read_bytes() for path in split.paths()}) == len(split.frame)


def test_an_image_is_square_and_shows_its_left_and_its_right_sample(split: Split, samples: pd.DataFrame) -> None:
    images = load_digits().images
    for image_id in (0, 137, 299):
        pixels = read_image(split.paths()[image_id])[0].numpy().astype(float)
        assert pixels.shape == (CANVAS_PX, CANVAS_PX)
        for side, half in (("left", pixels[4:32, 2:18]), ("right", pixels[4:32, 18:34])):
            # the mean over the enlarged pixels of each original pixel, which are bands of 28 / 8 x 16 / 8
            rows = np.array_split(half, 8, axis=0)
            small = np.array([[cell.mean() for cell in np.array_split(row, 8, axis=1)] for row in rows])
            correlations = [np.corrcoef(small.ravel(), image.ravel())[0, 1] for image in images]
            # some samples of a digit are almost equal, so the best one per cent of 1,797 count
            assert samples[side][image_id] in np.argsort(correlations)[-18:]


def test_equal_arguments_give_the_same_bytes_and_digest_in_another_directory(split: Split, tmp_path: Path) -> None:
    again = digits(str(tmp_path), images_per_class=PER_CLASS)
    assert again.digest == split.digest
    assert [p.read_bytes() for p in again.paths()] == [p.read_bytes() for p in split.paths()]


def test_another_split_seed_gives_another_digest_and_other_pairs(split: Split, tmp_path: Path) -> None:
    other = digits(str(tmp_path), split_seed=1, images_per_class=PER_CLASS)
    assert other.digest != split.digest
    same = [a.read_bytes() == b.read_bytes() for a, b in zip(other.paths(), split.paths(), strict=True)]
    assert sum(same) < len(same) / 20


def test_a_complete_directory_is_listed_and_not_written_again(split: Split) -> None:
    before = {path: path.stat().st_mtime_ns for path in split.paths()}
    assert digits(str(split.root), images_per_class=PER_CLASS).digest == split.digest
    assert {path: path.stat().st_mtime_ns for path in split.paths()} == before


def test_listing_a_complete_directory_does_not_import_scikit_learn(split: Split) -> None:
    code = (
        "import sys; from dmlbench.data.datasets.digits import digits;"
        f"digits({str(split.root)!r}, images_per_class={PER_CLASS}); assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_directory_with_a_missing_image_is_refused_with_what_to_do(tmp_path: Path) -> None:
    digits(str(tmp_path), images_per_class=2).paths()[3].unlink()
    with pytest.raises(UserError, match=r"lacks 1 of its 100 generated images, such as 01/001\.png; delete the directory"):
        digits(str(tmp_path), images_per_class=2)


@pytest.mark.parametrize("count", [1, 175, "many", True, 2.5])
def test_a_number_of_images_out_of_range_is_refused_with_the_range(tmp_path: Path, count: int) -> None:
    with pytest.raises(UserError, match=r"dataset/digits: images_per_class is .*whole number from 2 to 174"):
        digits(str(tmp_path), images_per_class=count)
    assert not list(tmp_path.iterdir())


def test_the_largest_number_of_images_is_the_number_of_samples_of_the_rarest_digit(tmp_path: Path) -> None:
    assert min(np.bincount(load_digits().target)) == MOST_IMAGES_PER_CLASS
    whole = digits(str(tmp_path), images_per_class=MOST_IMAGES_PER_CLASS)
    assert len(whole.frame) == 50 * MOST_IMAGES_PER_CLASS


def _generate_with_another_process(root: Path, barrier: multiprocessing.synchronize.Barrier) -> None:
    def generate(folder: Path) -> pd.DataFrame:
        barrier.wait(30)  # both processes have found no directory
        (folder / "a.txt").write_text("complete")
        return pd.DataFrame({"path": ["a.txt"]})

    generate_once(root, "set", {"version": 1}, generate)


def test_two_processes_that_generate_at_once_both_succeed_and_leave_one_directory(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    both = [context.Process(target=_generate_with_another_process, args=(tmp_path, barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", LISTING]


def test_a_generator_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def generate(folder: Path) -> pd.DataFrame:
        (folder / "a.txt").write_text("half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        generate_once(tmp_path, "set", {"version": 1}, generate)
    assert not list(tmp_path.iterdir())
