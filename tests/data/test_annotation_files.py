"""CUB, Cars, SOP and In-Shop are read from the layouts they are published in, and nothing else is taken for them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import published_factory as make
import pytest
from scipy.io import loadmat, savemat

from dmlbench.data.check import report, unreadable
from dmlbench.data.datasets.cars import cars
from dmlbench.data.datasets.cub import cub
from dmlbench.data.datasets.inshop import inshop
from dmlbench.data.datasets.sop import sop
from dmlbench.data.split import BOX
from dmlbench.errors import UserError

KIT = Path(__file__).resolve().parents[3] / "shared" / "data" / "benchmark_annotations.zip"


def test_cub_trains_on_classes_1_to_100_and_keeps_101_to_200_unseen(tmp_path: Path) -> None:
    split = cub(str(make.cub(tmp_path)))
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


def test_cub_is_found_in_the_folder_that_the_archive_was_unpacked_into(tmp_path: Path) -> None:
    place = make.cub(tmp_path)
    assert cub(str(tmp_path)).root == place
    assert cub(str(tmp_path)).digest == cub(str(place)).digest


def test_cubs_grey_images_are_read_and_its_boxes_lie_within_their_images(tmp_path: Path) -> None:
    assert unreadable(cub(str(make.cub(tmp_path)))) == {}


def test_cubs_312_attributes_are_read_on_request_though_some_lines_have_a_field_too_many(tmp_path: Path) -> None:
    frame = cub(str(make.cub(tmp_path)), attributes=True).frame
    columns = [name for name in frame if str(name).startswith("attribute_")]
    assert len(columns) == 312
    expected = [[(image_id + k) % 7 == 0 for k in range(1, 313)] for image_id in range(1, 401)]
    np.testing.assert_array_equal(frame[columns].to_numpy().astype(bool), expected)


def test_half_per_class_trains_on_half_of_each_class(tmp_path: Path) -> None:
    frame = cub(str(make.cub(tmp_path, per_class=4)), split="half_per_class").frame
    assert (frame.groupby("label")["train"].sum() == 2).all()
    assert frame["label"].nunique() == 200


def test_cub_of_2010_is_told_from_cub_of_2011(tmp_path: Path) -> None:
    make.write(tmp_path / "lists" / "files.txt", "001.Black_footed_Albatross/a.jpg\n")
    make.write(tmp_path / "images" / "001.Black_footed_Albatross" / "a.jpg", make.jpeg(0))
    with pytest.raises(
        UserError, match=r"is CUB-200 of 2010 \(6,033 images\); the benchmark is CUB-200-2011 \(11,788 images\)"
    ):
        cub(str(tmp_path))


def test_images_that_cub_lists_but_has_not_are_counted(tmp_path: Path) -> None:
    place = make.cub(tmp_path)
    for path in sorted((place / "images" / "003.Bird_3").iterdir()):
        path.unlink()
    with pytest.raises(
        UserError, match=r"images\.txt lists 400 images, but 398 are under .*: 2 are missing or renamed, such as"
    ):
        cub(str(tmp_path))


def test_lists_of_cub_that_disagree_are_refused(tmp_path: Path) -> None:
    place = make.cub(tmp_path)
    lines = (place / "image_class_labels.txt").read_text().splitlines()
    lines[0], lines[-1] = "1 200", "400 1"
    make.write(place / "image_class_labels.txt", "\n".join(lines))
    with pytest.raises(UserError, match=r"disagree about 2 of 400 images, such as 001\.Bird_1/.*into class 200"):
        cub(str(tmp_path))
    make.write(place / "image_class_labels.txt", "\n".join(lines[:-1]))
    with pytest.raises(UserError, match=r"has 399 lines, images\.txt 400"):
        cub(str(tmp_path))


def test_a_list_with_another_number_of_fields_is_refused_with_its_line(tmp_path: Path) -> None:
    place = make.cub(tmp_path)
    make.write(place / "images.txt", "1 a.jpg\n2 b c.jpg\n")
    with pytest.raises(UserError, match=r"images\.txt, line 2: 3 fields, but 2 are published: image_id path"):
        cub(str(tmp_path))


def test_a_folder_that_is_not_there_or_not_the_data_set_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which does not exist; get it with `dmlbench data prepare cub`"):
        cub(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"there is no images\.txt under"):
        cub(str(tmp_path))
    with pytest.raises(UserError, match=r"there is no Ebay_train\.txt under"):
        sop(str(tmp_path))
    with pytest.raises(UserError, match=r"there is no list_eval_partition\.txt under"):
        inshop(str(tmp_path))
    with pytest.raises(UserError, match=r"there is no cars_train_annos\.mat under"):
        cars(str(tmp_path))


def test_cars_are_read_from_the_merged_list(tmp_path: Path) -> None:
    split = cars(str(make.cars(tmp_path)))
    frame = split.frame
    assert (split.facts["train_classes"], split.facts["test_classes"], split.facts["images"]) == (98, 98, 392)
    assert frame["path"].iloc[0] == "car_ims/000001.jpg"
    assert frame["class_name"].iloc[-1] == "Maker Model 196 2012"
    # MATLAB's corners (3, 4) and (30, 20) are both inside, counted from 1
    assert frame[list(BOX)].iloc[0].tolist() == [2, 3, 28, 17]
    assert unreadable(split) == {}


def test_the_devkits_two_lists_give_the_same_cars_as_the_merged_list(tmp_path: Path) -> None:
    merged, devkit = cars(str(make.cars(tmp_path / "a"))), cars(str(make.cars_devkit(tmp_path / "b")))
    assert merged.facts == devkit.facts

    def by_content(split: object) -> set[tuple[bytes, int, str]]:
        frame = split.frame  # type: ignore[attr-defined]
        return {
            ((split.root / path).read_bytes(), label, name)  # type: ignore[attr-defined]
            for path, label, name in zip(frame["path"], frame["label"], frame["class_name"], strict=True)
        }

    assert by_content(merged) == by_content(devkit)


def test_a_devkit_without_the_test_labels_says_which_file_is_missing(tmp_path: Path) -> None:
    top = make.cars_devkit(tmp_path)
    (top / "devkit" / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(UserError, match=r"cars_test_annos_withlabels\.mat is not beside"):
        cars(str(tmp_path))


def test_cars_that_were_renamed_are_missing_not_guessed(tmp_path: Path) -> None:
    make.cars(tmp_path)
    for number, file in enumerate(sorted((tmp_path / "car_ims").iterdir())):
        file.rename(file.with_name(f"img_{number}.jpg"))
    with pytest.raises(UserError, match=r"lists 392 images, but 0 are under .*: 392 are missing or renamed"):
        cars(str(tmp_path))


def test_boxes_that_reach_beyond_their_images_tell_that_annotations_and_images_disagree(tmp_path: Path) -> None:
    make.cars(tmp_path)
    read = loadmat(tmp_path / "cars_annos.mat")
    for entry in read["annotations"][0, :40]:
        entry["bbox_x2"] = np.array([[77]])
    savemat(tmp_path / "cars_annos.mat", {key: read[key] for key in ("annotations", "class_names")})
    with pytest.raises(UserError, match="annotations and images disagree: 40 of 392 boxes reach beyond their image"):
        unreadable(cars(str(tmp_path)))


def test_a_file_that_is_no_matlab_file_is_one_sentence(tmp_path: Path) -> None:
    make.cars(tmp_path)
    make.write(tmp_path / "cars_annos.mat", b"no matlab")
    with pytest.raises(UserError, match="cannot be read as a MATLAB file"):
        cars(str(tmp_path))


def test_sop_takes_its_two_official_lists(tmp_path: Path) -> None:
    split = sop(str(make.sop(tmp_path)))
    assert split.facts == {
        "images": 54,
        "train_classes": 10,
        "train_images": 30,
        "test_classes": 8,
        "query_images": 24,
        "gallery_images": 24,
    }
    assert set(split.frame["attribute_super_class"]) == {"bicycle", "chair", "mug"}
    # classes are numbered, so 10 comes after 9 and the training classes come first
    assert split.frame.loc[split.frame["train"], "label"].max() == 9


def test_inshops_query_and_gallery_are_different_images_of_the_same_items(tmp_path: Path) -> None:
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


def test_inshops_463_attributes_are_those_of_the_item(tmp_path: Path) -> None:
    frame = inshop(str(make.inshop(tmp_path)), attributes=True).frame
    columns = [name for name in frame if str(name).startswith("attribute_")]
    assert len(columns) == 463
    np.testing.assert_array_equal(frame[columns].iloc[4], [(k + 1) % 5 == 0 for k in range(463)])


def test_inshops_large_images_are_taken_only_on_request(tmp_path: Path) -> None:
    make.inshop(tmp_path)
    with pytest.raises(UserError, match="'highres'; did you mean 'img_highres'"):
        inshop(str(tmp_path), images="highres")
    with pytest.raises(UserError, match="72 are missing"):
        inshop(str(tmp_path), images="img_highres")
    (tmp_path / "Img" / "img").rename(tmp_path / "Img" / "img_highres")
    assert inshop(str(tmp_path), images="img_highres").frame["path"].str.startswith("Img/img_highres/").all()


def test_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.split is 'zeroshot'; did you mean 'zero_shot'"):
        sop(str(make.sop(tmp_path)), split="zeroshot")


def test_a_check_says_whether_training_and_test_share_classes(tmp_path: Path) -> None:
    place = str(make.sop(tmp_path))
    assert "classes   training and test share none: 1 to 10 | 11 to 18" in list(report("SOP", sop(place)))
    assert "classes   18 classes are on both sides, training and test" in list(report("SOP", sop(place, "half_per_class")))


def kit(tmp_path: Path) -> Path:
    if not KIT.is_file():
        pytest.skip("needs benchmark_annotations.zip in ../shared/data")
    with zipfile.ZipFile(KIT) as file:
        file.extractall(tmp_path)
    return tmp_path / "benchmark_annotations"


def touched(folder: Path, paths: pd.Series) -> None:
    """Empty files in the images' places: the lists are what is read here."""
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_the_real_lists_of_cub_have_the_published_counts(tmp_path: Path) -> None:
    place = kit(tmp_path) / "cub"
    lines = pd.read_csv(place / "images.txt", sep=" ", names=["id", "path"])
    touched(place / "images", lines["path"])
    facts = cub(str(place)).facts
    assert (facts["train_classes"], facts["train_images"], facts["test_classes"]) == (100, 5864, 100)
    assert facts["query_images"] == facts["gallery_images"] == 5924


def test_the_real_lists_of_cars_have_the_published_counts(tmp_path: Path) -> None:
    """The merged list, its paths and classes real, in the MATLAB form that it is published in; boxes are made up."""
    place = kit(tmp_path) / "cars"
    lines = pd.read_csv(place / "cars_annos.txt", names=["path", "class", "test"])
    touched(place, lines["path"])
    kinds = [("relative_im_path", "O"), *((f"bbox_{side}", "O") for side in ("x1", "y1", "x2", "y2")), ("class", "O")]
    entries = np.empty((1, len(lines)), dtype=kinds)
    for number, (path, label, _) in enumerate(lines.itertuples(index=False)):
        entries[0, number] = (path, 1, 1, 2, 2, label)
    savemat(place / "cars_annos.mat", {"annotations": entries})
    facts = cars(str(place)).facts
    assert (facts["images"], facts["train_classes"], facts["train_images"]) == (16185, 98, 8054)
    assert (facts["test_classes"], facts["query_images"], facts["gallery_images"]) == (98, 8131, 8131)


def test_the_real_devkits_list_is_read_as_the_csv_that_was_written_from_it(tmp_path: Path) -> None:
    from dmlbench.data.datasets.cars import _annotations, _class_names

    place = kit(tmp_path) / "cars"
    lines = _annotations(place / "cars_train_annos.mat", "fname")
    expected = pd.read_csv(place / "cars_train_labels.csv")
    assert lines["fname"].tolist() == expected["file"].tolist()
    assert lines["label"].tolist() == expected["class_id"].tolist()
    names = _class_names(str(place), place)
    assert [names[number] for number in lines["label"]] == expected["class_name"].tolist()
    assert lines[list(BOX)].iloc[0].tolist() == [38, 115, 531, 260]
