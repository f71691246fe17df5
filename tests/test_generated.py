"""The data sets that dmlbench writes itself: digits and synthetic."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dmlbench.data import synthetic as synthetic_module
from dmlbench.data.digits import digits
from dmlbench.data.generated import LISTING
from dmlbench.data.split import BOX, Split
from dmlbench.data.synthetic import ATTRIBUTES, synthetic
from dmlbench.errors import UserError

Make = Callable[..., Split]
BOTH = pytest.mark.parametrize("make", [digits, synthetic], ids=["digits", "synthetic"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("data"))


def pixels(split: Split) -> list[bytes]:
    return [Image.open(path).tobytes() for path in split.paths()]


def small(make: Make, root: object, **changes: int) -> Split:
    return make(str(root), **({"images_per_class": 3} | changes))


def test_digits_are_a_hundred_classes_of_which_the_first_fifty_train(root: str) -> None:
    split = digits(root)
    assert split.facts == {
        "train_classes": 50,
        "train_images": 1200,
        "test_classes": 50,
        "query_images": 1200,
        "gallery_images": 1200,
    }
    train = split.frame[split.frame["train"]]
    assert set(train["class_name"]) == {f"{n:02d}" for n in range(50)}
    assert (split.frame["query"] == ~split.frame["train"]).all()


def test_no_source_digit_stands_on_both_sides_and_none_twice_at_a_place_of_a_class(root: str) -> None:
    split = digits(root)
    listing = pd.read_csv(Path(root, split.frame["path"][0]).parents[1] / LISTING, dtype={"path": str})
    side = listing["path"].str[:2].astype(int) < 50
    sources = [set(part[["left", "right"]].to_numpy().ravel()) for _, part in listing.groupby(side)]
    assert not sources[0] & sources[1]
    for _, part in listing.groupby(listing["path"].str[:2]):
        assert part["left"].is_unique
        assert part["right"].is_unique
        assert (part["left"] != part["right"]).all()


def test_the_two_digits_of_an_image_are_those_of_its_class(root: str) -> None:
    from sklearn.datasets import load_digits

    target = load_digits().target
    split = digits(root)
    listing = pd.read_csv(Path(root, split.frame["path"][0]).parents[1] / LISTING, dtype={"path": str})
    said = [f"{target[left]}{target[right]}" for left, right in zip(listing["left"], listing["right"], strict=True)]
    assert said == list(listing["path"].str[:2])


def test_synthetic_has_at_least_forty_classes_of_which_any_two_differ_in_two_attributes_or_more() -> None:
    chosen = synthetic_module._combinations()
    assert len(chosen) == 48
    assert min(sum(a != b for a, b in zip(one, other, strict=True)) for one, other in combinations(chosen, 2)) == 2


def test_synthetic_boxes_lie_around_the_shape_and_within_the_image(root: str) -> None:
    frame = small(synthetic, root).frame
    x, y, width, height = (frame[side] for side in BOX)
    assert (x >= 0).all()
    assert (y >= 0).all()
    assert (x + width <= 64).all()
    assert (y + height <= 64).all()
    by_size = frame.assign(area=width * height).groupby("attribute_size")["area"].mean()
    assert by_size["large"] > 1.5 * by_size["small"]


def test_unseen_synthetic_classes_show_attributes_that_training_classes_show_too(root: str) -> None:
    frame = synthetic(root).frame
    for name in ATTRIBUTES:
        values = [set(part[f"attribute_{name}"]) for _, part in frame.groupby("train")]
        assert values[0] == values[1]


@BOTH
def test_the_same_arguments_give_the_same_images_and_digest_and_another_seed_others(make: Make, tmp_path: Path) -> None:
    first, again, other = small(make, tmp_path / "1"), small(make, tmp_path / "2"), small(make, tmp_path, split_seed=1)
    assert pixels(first) == pixels(again)
    assert first.digest == again.digest
    assert pixels(first) != pixels(other)
    assert first.digest != other.digest


@BOTH
def test_no_two_images_are_alike(make: Make, root: str) -> None:
    images = pixels(small(make, root))
    assert len(set(images)) == len(images)


@BOTH
def test_images_are_written_once_and_listed_afterwards(make: Make, tmp_path: Path) -> None:
    first = small(make, tmp_path)
    before = [path.stat().st_mtime_ns for path in first.paths()]
    assert small(make, tmp_path).frame.equals(first.frame)
    assert [path.stat().st_mtime_ns for path in first.paths()] == before
    first.paths()[5].unlink()
    with pytest.raises(UserError, match=r"lacks 1 of its .* delete the folder and it is made again"):
        small(make, tmp_path)


@BOTH
def test_two_processes_at_once_leave_one_whole_copy(make: Make, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=small, args=(make, tmp_path)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1
    assert all(path.is_file() for path in small(make, tmp_path).paths())


@BOTH
@pytest.mark.parametrize("value", [1, 10_000, "many", True])
def test_a_number_of_images_out_of_range_is_refused(make: Make, tmp_path: Path, value: object) -> None:
    with pytest.raises(UserError, match=r"images_per_class is .*, but must be a whole number from 2 to"):
        make(str(tmp_path), images_per_class=value)


def test_digits_look_like_two_digits_on_black(root: str) -> None:
    image = np.asarray(Image.open(digits(root).paths()[0]))
    assert image.shape == (36, 36)
    assert image[:4].max() == 0
    assert min(image[4:32, 2:18].max(), image[4:32, 18:34].max()) > 200
