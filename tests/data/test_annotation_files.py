"""CUB, Cars, SOP and In-Shop are read from their published layouts, and everything else is refused."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import annotation_factory as make
import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat

from dmlbench.data.check import check_images
from dmlbench.data.check_report import report
from dmlbench.data.contents import hash_contents
from dmlbench.data.datasets.cars import _class_names, _read_annotations, cars, make_of
from dmlbench.data.datasets.cub import cub
from dmlbench.data.datasets.inshop import inshop
from dmlbench.data.datasets.sop import sop
from dmlbench.data.split import BOX, Split
from dmlbench.errors import UserError

PUBLISHED_LISTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "benchmark_annotations.zip"


@pytest.fixture(scope="module")
def cub_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parent of `CUB_200_2011/`. It must not be changed."""
    return make.cub(tmp_path_factory.mktemp("cub")).parent


@pytest.fixture
def cub_copy(cub_archive: Path, tmp_path: Path) -> Path:
    """A `CUB_200_2011/` that may be changed."""
    return Path(shutil.copytree(cub_archive, tmp_path / "copy")) / "CUB_200_2011"


@pytest.fixture(scope="module")
def cars_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of `cars_annos.mat`. It must not be changed."""
    return make.cars(tmp_path_factory.mktemp("cars"))


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the devkit's form of Cars. It must not be changed."""
    return make.cars_devkit(tmp_path_factory.mktemp("devkit"))


# ---- CUB-200-2011


def test_cub_trains_on_classes_1_to_100_and_tests_on_classes_101_to_200(cub_archive: Path) -> None:
    split = cub(str(cub_archive / "CUB_200_2011"))
    frame = split.frame
    assert split.facts == {
        "images": 400,
        "train_classes": 100,
        "train_images": 200,
        "test_classes": 100,
        "query_images": 200,
        "gallery_images": 200,
    }
    number = frame["class_name"].str[:3].astype(int)
    assert (frame["label"] == number - 1).all()
    assert (frame["train"] == (number <= 100)).all()
    assert (frame["query"] == ~frame["train"]).all()
    assert frame[list(BOX)].iloc[0].tolist() == [2, 3, 30, 20]
    assert not frame["path"].str.contains(r"/\._").any()


def test_cub_is_found_in_the_directory_that_contains_the_unpacked_archive(cub_archive: Path) -> None:
    assert cub(str(cub_archive)).root == cub_archive / "CUB_200_2011"
    assert cub(str(cub_archive)).digest == cub(str(cub_archive / "CUB_200_2011")).digest


def test_grey_images_of_cub_are_readable_and_its_boxes_fit_their_images(cub_archive: Path) -> None:
    assert check_images(cub(str(cub_archive))).errors == {}


def test_half_per_class_trains_on_half_of_the_images_of_each_class(tmp_path: Path) -> None:
    frame = cub(str(make.cub(tmp_path, per_class=4)), split="half_per_class").frame
    assert (frame.groupby("label")["train"].sum() == 2).all()
    assert frame["label"].nunique() == 200


def test_cub_of_2010_is_refused_by_name(tmp_path: Path) -> None:
    make.write(tmp_path / "lists" / "files.txt", "001.Black_footed_Albatross/a.jpg\n")
    make.write(tmp_path / "images" / "001.Black_footed_Albatross" / "a.jpg", make.jpeg(0))
    with pytest.raises(
        UserError, match=r"is CUB-200 of 2010 \(6,033 images\); the benchmark is CUB-200-2011 \(11,788 images\)"
    ):
        cub(str(tmp_path))


def test_listed_images_that_do_not_exist_are_counted_and_one_is_named(cub_copy: Path) -> None:
    shutil.rmtree(cub_copy / "images" / "003.Bird_3")
    with pytest.raises(
        UserError, match=r"images\.txt lists 400 images, but 398 are under .*: 2 are missing or renamed, such as images/003\."
    ):
        cub(str(cub_copy))


def test_an_image_that_is_listed_twice_is_refused_by_name(cub_copy: Path) -> None:
    lines = (cub_copy / "images.txt").read_text().splitlines()
    lines[1] = lines[0].replace("1 ", "2 ", 1)
    make.write(cub_copy / "images.txt", "\n".join(lines))
    with pytest.raises(UserError, match=r"images\.txt repeats 1 of its images, such as images/001\.Bird_1/Bird_1_0000\.jpg"):
        cub(str(cub_copy))


def test_files_of_cub_that_contradict_each_other_are_refused(cub_copy: Path) -> None:
    lines = (cub_copy / "image_class_labels.txt").read_text().splitlines()
    lines[0], lines[-1] = "1 200", "400 1"
    make.write(cub_copy / "image_class_labels.txt", "\n".join(lines))
    with pytest.raises(
        UserError,
        match=r"contradict each other for 2 of 400 images, such as 001\.Bird_1/.*, which has class 200 in image_class",
    ):
        cub(str(cub_copy))
    make.write(cub_copy / "image_class_labels.txt", "\n".join(lines[:-1]))
    with pytest.raises(UserError, match=r"has 399 lines, images\.txt 400; they must list the same images"):
        cub(str(cub_copy))
    make.write(cub_copy / "image_class_labels.txt", "\n".join(["1 one", *lines[1:]]))
    with pytest.raises(UserError, match=r"image_class_labels\.txt: class_id is 'one', but must be a whole number"):
        cub(str(cub_copy))


def test_a_line_with_a_wrong_number_of_fields_is_refused_with_its_number(cub_copy: Path) -> None:
    make.write(cub_copy / "images.txt", "1 a.jpg\n2 b c.jpg\n")
    with pytest.raises(UserError, match=r"images\.txt, line 2: 3 fields, but the published file has 2: image_id path"):
        cub(str(cub_copy))


def test_a_root_that_does_not_exist_or_is_another_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which does not exist; get the data set with `dmlbench data prepare cub`"):
        cub(str(tmp_path / "missing"))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="which is not a directory"):
        cub(str(tmp_path / "file"))
    readers = {
        cub: r"images\.txt",
        sop: r"Ebay_train\.txt",
        inshop: r"list_eval_partition\.txt",
        cars: r"cars_train_annos\.mat",
    }
    for reader, file in readers.items():
        with pytest.raises(UserError, match=rf"does not contain {file}, so it is not the published data set"):
            reader(str(tmp_path))


# ---- Cars-196


def test_cars_are_read_from_the_merged_annotation_file(cars_archive: Path) -> None:
    split = cars(str(cars_archive))
    frame = split.frame
    assert (split.facts["train_classes"], split.facts["test_classes"], split.facts["images"]) == (98, 98, 392)
    assert frame["path"].iloc[0] == "car_ims/000001.jpg"
    assert frame["class_name"].iloc[-1] == "Maker Model 196 2012"
    # MATLAB's corners (3, 4) and (30, 20) are counted from 1, and both are inside the box
    assert frame[list(BOX)].iloc[0].tolist() == [2, 3, 28, 17]
    assert check_images(split).errors == {}


def test_the_two_files_of_the_devkit_give_the_same_cars_as_the_merged_file(cars_archive: Path, devkit: Path) -> None:
    def by_content(split: Split) -> set[tuple[bytes, int, str]]:
        frame = split.frame
        return {
            (path.read_bytes(), label, name)
            for path, label, name in zip(split.paths(), frame["label"], frame["class_name"], strict=True)
        }

    merged, from_devkit = cars(str(cars_archive)), cars(str(devkit))
    assert merged.facts == from_devkit.facts
    assert by_content(merged) == by_content(from_devkit)


def test_the_devkit_is_read_if_the_images_are_those_of_the_devkit(cars_archive: Path, devkit: Path, tmp_path: Path) -> None:
    both = Path(shutil.copytree(devkit, tmp_path / "both"))
    shutil.copy(cars_archive / "cars_annos.mat", both)
    assert cars(str(both)).frame["path"].str.startswith(("cars_train/", "cars_test/")).all()


def test_a_devkit_without_the_labels_of_the_test_images_is_refused_with_the_missing_file(devkit: Path, tmp_path: Path) -> None:
    shutil.copytree(devkit / "devkit", tmp_path / "devkit")
    (tmp_path / "devkit" / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(UserError, match=r"cars_test_annos_withlabels\.mat is not next to"):
        cars(str(tmp_path))


def test_renamed_images_of_cars_count_as_missing(cars_archive: Path, tmp_path: Path) -> None:
    shutil.copytree(cars_archive, tmp_path, dirs_exist_ok=True)
    for number, file in enumerate(sorted((tmp_path / "car_ims").iterdir())):
        file.rename(file.with_name(f"img_{number}.jpg"))
    with pytest.raises(UserError, match=r"lists 392 images, but 0 are under .*: 392 are missing or renamed"):
        cars(str(tmp_path))


def test_boxes_that_extend_beyond_their_images_show_that_boxes_and_images_do_not_match(
    cars_archive: Path, tmp_path: Path
) -> None:
    shutil.copytree(cars_archive, tmp_path, dirs_exist_ok=True)
    content = loadmat(tmp_path / "cars_annos.mat")
    for entry in content["annotations"][0, :40]:
        entry["bbox_x2"] = np.array([[77]])
    savemat(tmp_path / "cars_annos.mat", {key: content[key] for key in ("annotations", "class_names")})
    with pytest.raises(UserError, match="boxes and images do not match: 40 of 392 boxes extend beyond their image"):
        check_images(cars(str(tmp_path)))


def test_a_file_that_is_not_the_published_matlab_file_is_refused(tmp_path: Path) -> None:
    make.write(tmp_path / "cars_annos.mat", b"no matlab")
    with pytest.raises(UserError, match="cannot be read as a MATLAB file"):
        cars(str(tmp_path))
    savemat(tmp_path / "cars_annos.mat", {"other": [1]})
    with pytest.raises(UserError, match="has no variable 'annotations'; it is not the published file"):
        cars(str(tmp_path))


# ---- Stanford Online Products


def test_sop_uses_its_two_official_lists(tmp_path: Path) -> None:
    split = sop(str(make.sop(tmp_path)))
    assert split.facts == {
        "images": 54,
        "train_classes": 10,
        "train_images": 30,
        "test_classes": 8,
        "query_images": 24,
        "gallery_images": 24,
    }
    assert set(split.frame["group"]) == {"bicycle", "chair", "mug"}
    # classes are ordered as numbers: 10 comes after 9, so the training classes come first
    assert split.frame.loc[split.frame["train"], "label"].max() == 9


def test_the_groups_of_sop_and_inshop_are_categories(tmp_path: Path) -> None:
    split = sop(str(make.sop(tmp_path / "sop").parent))
    assert set(split.frame["group"]) == {"bicycle", "chair", "mug"}
    assert (split.group_kind, split.columns["n_shared_groups"]) == ("category", 3)
    shop = inshop(str(make.inshop(tmp_path / "inshop")), "random", 1)
    assert set(shop.frame["group"]) == {"WOMEN/Dresses"}
    assert (shop.facts["train_classes"], shop.facts["test_classes"]) == (9, 9)
    assert (shop.frame["query"] == shop.frame["gallery"]).all()


def test_a_seed_is_refused_if_the_split_draws_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"dataset.split_seed=3 has no effect with dataset.split=zero_shot, which draws nothing"
    ):
        sop(str(make.sop(tmp_path).parent), split_seed=3)


def test_an_unknown_split_rule_is_refused_with_a_similar_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.split is 'zeroshot'; did you mean 'zero_shot'"):
        sop(str(make.sop(tmp_path)), split="zeroshot")


def test_the_report_says_whether_training_and_test_share_classes(tmp_path: Path) -> None:
    root = str(make.sop(tmp_path))
    unseen, seen = (hash_contents(sop(root, rule), tmp_path / "store").split for rule in ("zero_shot", "half_per_class"))
    assert "classes    training and test share no class: 1 to 10 | 11 to 18" in list(report("SOP", unseen))
    assert "classes    training and test share 18 classes" in list(report("SOP", seen))


# ---- In-Shop


def test_query_and_gallery_of_inshop_are_different_images_of_the_same_items(tmp_path: Path) -> None:
    split = inshop(str(make.inshop(tmp_path)))
    frame = split.frame
    assert split.facts == {
        "images": 72,
        "train_classes": 10,
        "train_images": 40,
        "test_classes": 8,
        "query_images": 8,
        "gallery_images": 24,
    }
    assert not (frame["query"] & frame["gallery"]).any()
    assert set(frame.loc[frame["query"], "label"]) == set(frame.loc[frame["gallery"], "label"])
    assert frame[list(BOX)].iloc[0].tolist() == [2, 3, 30, 20]


def test_large_images_of_inshop_are_read_only_on_request(tmp_path: Path) -> None:
    make.inshop(tmp_path)
    with pytest.raises(UserError, match="'highres'; did you mean 'img_highres'"):
        inshop(str(tmp_path), images="highres")
    with pytest.raises(UserError, match="72 are missing"):
        inshop(str(tmp_path), images="img_highres")
    (tmp_path / "Img" / "img").rename(tmp_path / "Img" / "img_highres")
    large = inshop(str(tmp_path), images="img_highres").frame
    assert large["path"].str.startswith("Img/img_highres/").all()
    assert "x" not in large.columns  # the boxes are in pixels of the small images


# ---- the published files


@pytest.fixture
def published_lists(tmp_path: Path) -> Path:
    if not PUBLISHED_LISTS.is_file():
        pytest.skip("needs benchmark_annotations.zip in ../shared/data")
    with zipfile.ZipFile(PUBLISHED_LISTS) as file:
        file.extractall(tmp_path)
    return tmp_path / "benchmark_annotations"


def touch(folder: Path, paths: pd.Series) -> None:
    """Create empty files instead of images, because only the lists are read."""
    for parent in {Path(path).parent for path in paths}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for path in paths:
        (folder / path).touch()


def test_the_published_lists_of_cub_give_the_published_counts(published_lists: Path) -> None:
    root = published_lists / "cub"
    lines = pd.read_csv(root / "images.txt", sep=" ", names=["id", "path"])
    touch(root / "images", lines["path"])
    split = cub(str(root))
    facts = split.facts
    assert (facts["train_classes"], facts["train_images"], facts["test_classes"]) == (100, 5864, 100)
    assert facts["query_images"] == facts["gallery_images"] == 5924
    assert split.frame["group"].nunique() == 69
    assert (split.columns["n_test_groups"], split.columns["n_shared_groups"]) == (24, 3)  # nightjars, pelicans and towhees
    assert cub(str(root), "random", 1).columns["n_shared_groups"] == 0


def test_the_published_annotations_of_cars_give_the_published_counts(published_lists: Path) -> None:
    """Paths and classes are the published ones, in the MATLAB form in which they are published; the boxes are made up."""
    root = published_lists / "cars"
    lines = pd.read_csv(root / "cars_annos.txt", names=["path", "class", "test"])
    touch(root, lines["path"])
    fields = [("relative_im_path", "O"), *((f"bbox_{side}", "O") for side in ("x1", "y1", "x2", "y2")), ("class", "O")]
    entries = np.empty((1, len(lines)), dtype=fields)
    for number, (path, label, _) in enumerate(lines.itertuples(index=False)):
        entries[0, number] = (path, 1, 1, 2, 2, label)
    savemat(root / "cars_annos.mat", {"annotations": entries})
    facts = cars(str(root)).facts
    assert (facts["images"], facts["train_classes"], facts["train_images"]) == (16185, 98, 8054)
    assert (facts["test_classes"], facts["query_images"], facts["gallery_images"]) == (98, 8131, 8131)


def test_the_published_file_of_the_devkit_is_read_like_the_csv_that_was_made_from_it(published_lists: Path) -> None:
    root = published_lists / "cars"
    frame = _read_annotations(root / "cars_train_annos.mat", "fname")
    expected = pd.read_csv(root / "cars_train_labels.csv")
    assert frame["fname"].tolist() == expected["file"].tolist()
    assert frame["label"].tolist() == expected["class_id"].tolist()
    names = _class_names(str(root), root)
    train, test = ({make_of(name) for number, name in names.items() if (number <= 98) == first} for first in (True, False))
    assert (len(train), len(test), train & test) == (14, 35, set())
    assert [names[number] for number in frame["label"]] == expected["class_name"].tolist()
    assert frame[list(BOX)].iloc[0].tolist() == [38, 115, 531, 260]
