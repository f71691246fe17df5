"""Images of the user, with and without a manifest: which layouts are read, and how everything else is refused."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmlbench.data.datasets.image_folder import folder
from dmlbench.data.split import ROLES, Split
from dmlbench.errors import UserError

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def touch(root: Path, *paths: str) -> Path:
    """Create files of different sizes. Their content is not an image, because listing decodes nothing."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x" * (number + 1))
    return root


def read_manifest(root: Path, text: str, split: str = "zero_shot", name: str = "m.csv") -> Split:
    """The split of a manifest with this text, next to the images 0.png to 9.png."""
    touch(root, *(f"{number}.png" for number in range(10)))
    (root / name).write_text(text, encoding="utf-8")
    return folder(str(root), name, split)


def classes_with(split: Split, role: str) -> set[str]:
    return set(split.frame.loc[split.frame[role], "class_name"])


# ---- a tree


def test_the_first_directory_of_a_path_is_the_class_at_any_depth(tmp_path: Path) -> None:
    split = folder(str(touch(tmp_path, "cat/1.png", "cat/deep/er/2.JPG", "dog/1.jpeg")))
    assert split.frame["path"].tolist() == ["cat/1.png", "cat/deep/er/2.JPG", "dog/1.jpeg"]
    assert split.frame["class_name"].tolist() == ["cat", "cat", "dog"]
    assert split.frame["size_bytes"].tolist() == [1, 2, 3]
    assert all(path.is_file() for path in split.paths())


def test_hidden_files_hidden_directories_and_files_that_are_not_images_are_ignored(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/1.png", "a/._1.png", "a/.h.png", "a/notes.txt", ".cache/1.png", "a/.t/1.png", "x.png")
    assert folder(str(tmp_path)).frame["path"].tolist() == ["a/1.png", "b/1.png"]


def test_names_are_ordered_byte_by_byte_and_a_note_says_so(tmp_path: Path) -> None:
    split = folder(str(touch(tmp_path, "b/1.png", "é/1.png", "a/1.png", "B/1.png", "z/1.png")))
    assert split.frame["class_name"].tolist() == ["B", "a", "b", "z", "é"]
    assert classes_with(split, "train") == {"B", "a"}  # two of five
    assert "classes are ordered by their names; the first half are training classes, the others test classes" in split.notes


def test_directories_that_are_named_by_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    split = folder(str(touch(tmp_path, *(f"{number}/1.png" for number in (10, 9, 100, 2)))))
    assert classes_with(split, "train") == {"2", "9"}
    assert "classes are ordered by their labels; the first half are training classes, the others test classes" in split.notes


def test_zero_shot_roles_share_no_class_and_cover_all_images(tmp_path: Path) -> None:
    split = folder(str(touch(tmp_path, *(f"{c}/{i}.png" for c in "abcdef" for i in range(3)))))
    frame = split.frame
    assert (frame["train"] ^ frame["query"]).all()
    assert (frame["query"] == frame["gallery"]).all()
    assert not frame["val"].any()
    assert not classes_with(split, "train") & classes_with(split, "query")


def test_half_per_class_trains_on_half_of_each_class_and_covers_all_images(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{c}/{i}.png" for c in "abc" for i in range(10)))
    frame = folder(str(tmp_path), split="half_per_class").frame
    assert frame.groupby("class_name")["train"].sum().tolist() == [5, 5, 5]
    assert (frame["train"] ^ frame["query"]).all()
    assert (frame["query"] == frame["gallery"]).all()


def test_half_per_class_depends_only_on_the_split_seed(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{c}/{i}.png" for c in "abc" for i in range(10)))
    digests = [folder(str(tmp_path), split="half_per_class", split_seed=seed).digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_the_halves_of_two_classes_are_independent(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{c}/{i}.png" for c in "abcd" for i in range(12)))
    train = folder(str(tmp_path), split="half_per_class").frame["train"].to_numpy().reshape(4, 12)
    assert len(np.unique(train, axis=0)) == 4


def test_an_additional_class_does_not_change_the_half_of_any_other(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{c}/{i}.png" for c in "bcd" for i in range(10)))
    before = folder(str(tmp_path), split="half_per_class").frame.set_index("path")["train"]
    touch(tmp_path, *(f"a/{i}.png" for i in range(7)))
    after = folder(str(tmp_path), split="half_per_class").frame.set_index("path")["train"]
    assert after[before.index].equals(before)


def test_a_file_of_another_size_changes_the_digest(tmp_path: Path) -> None:
    before = folder(str(touch(tmp_path, "a/1.png", "b/1.png"))).digest
    (tmp_path / "a/1.png").write_bytes(b"something else")
    assert folder(str(tmp_path)).digest != before


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_root_that_is_not_a_directory_is_refused_with_what_to_do(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "photos"
    if kind == "file":
        root.write_text("")
    with pytest.raises(
        UserError,
        match=r"dataset\.root is .*photos', which (does not exist|is not a directory); set the directory of the images",
    ):
        folder(str(root))


@pytest.mark.parametrize("paths", [(), ("1.png",), ("readme.txt",)])
def test_a_tree_without_class_directories_is_refused_with_the_layout_that_it_needs(
    tmp_path: Path, paths: tuple[str, ...]
) -> None:
    with pytest.raises(UserError, match=r"contains no images; it needs root/<class>/<image>"):
        folder(str(touch(tmp_path, *paths)))


def test_a_class_directory_without_images_is_refused_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/1.png", "empty/notes.txt")
    with pytest.raises(UserError, match=r"class directory .*empty contains no image"):
        folder(str(tmp_path))


def test_a_data_set_with_only_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has only one class; retrieval needs at least two"):
        folder(str(touch(tmp_path, "a/1.png", "a/2.png")))


def test_an_unknown_split_rule_is_refused_with_a_similar_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'zeroshot'; did you mean 'zero_shot'\?"):
        folder(str(touch(tmp_path, "a/1.png", "b/1.png")), split="zeroshot")


def test_the_split_rule_manifest_needs_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.split=manifest needs dataset\.manifest="):
        folder(str(touch(tmp_path, "a/1.png", "b/1.png")), split="manifest")


# ---- a manifest


def test_numeric_labels_are_ordered_as_numbers_and_renumbered_without_gaps(tmp_path: Path) -> None:
    split = read_manifest(tmp_path, "path,label\n0.png,100\n1.png,7\n2.png,100\n3.png,20\n4.png,-1\n")
    assert split.frame["label"].tolist() == [3, 1, 3, 2, 0]
    assert split.frame["class_name"].tolist() == ["100", "7", "100", "20", "-1"]
    assert split.frame["train"].tolist() == [False, True, False, False, True]


def test_the_labels_7_and_007_are_two_classes(tmp_path: Path) -> None:
    split = read_manifest(tmp_path, "path,label\n0.png,7\n1.png,007\n2.png,7\n3.png,12\n")
    assert split.frame["label"].tolist() == [2, 0, 2, 1]


def test_labels_that_are_text_are_ordered_byte_by_byte(tmp_path: Path) -> None:
    split = read_manifest(tmp_path, "path,label\n0.png,b\n1.png,NA\n2.png,a\n3.png,10\n")
    assert split.frame["label"].tolist() == [3, 1, 2, 0]
    assert split.frame["class_name"].tolist() == ["b", "NA", "a", "10"]  # NA is a name, not a missing value


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("path", "label"),
        ("file", "class_id"),
        ("filename", "class"),
        ("image", "target"),
        ("image_path", "id"),
        (" File ", "Label"),
    ],
)
def test_common_names_of_the_columns_are_accepted(tmp_path: Path, path: str, label: str) -> None:
    split = read_manifest(tmp_path, f"{path},{label}\n0.png,1\n1.png,2\n")
    assert split.frame["path"].tolist() == ["0.png", "1.png"]
    assert split.frame["label"].tolist() == [0, 1]


def test_a_byte_order_mark_before_the_first_column_is_ignored(tmp_path: Path) -> None:
    assert len(read_manifest(tmp_path, "\ufeffpath,label\n0.png,1\n1.png,2\n").frame) == 2


def test_the_rule_manifest_uses_its_roles_and_test_means_query_and_gallery(tmp_path: Path) -> None:
    roles = ["train", "val", "valid", "validation", "query", "gallery", "Test"]
    lines = "".join(f"{i}.png,{i % 2},{role}\n" for i, role in enumerate(roles))
    frame = read_manifest(tmp_path, "path,label,split\n" + lines, "manifest").frame
    assert {role: np.flatnonzero(frame[role]).tolist() for role in ("train", "val", "query", "gallery")} == {
        "train": [0],
        "val": [1, 2, 3],
        "query": [4, 6],
        "gallery": [5, 6],
    }


@pytest.mark.parametrize("name", ["role", "split", "subset"])
def test_under_another_rule_the_roles_of_the_manifest_are_ignored_and_a_note_says_so(tmp_path: Path, name: str) -> None:
    split = read_manifest(tmp_path, f"path,label,{name}\n0.png,1,test\n1.png,2,train\n")
    assert split.frame["train"].tolist() == [True, False]
    assert any("roles in the manifest are ignored; dataset.split=manifest uses them" in note for note in split.notes)


@pytest.mark.parametrize(
    "text",
    [
        "path,label,x,y,width,height\n0.png,1,1,2,30,40.5\n1.png,2,0,0,5,6\n",
        'path,label,bbox\n0.png,1,"[1, 2, 30, 40.5]"\n1.png,2,"0,0,5,6"\n',
        "path,label,box\n0.png,1,1 2 30 40.5\n1.png,2,0 0 5 6\n",
    ],
)
def test_a_box_may_be_four_columns_or_one(tmp_path: Path, text: str) -> None:
    box = read_manifest(tmp_path, text).frame[["x", "y", "width", "height"]]
    assert set(box.dtypes) == {np.dtype(float)}
    assert box.to_numpy().tolist() == [[1, 2, 30, 40.5], [0, 0, 5, 6]]


@pytest.mark.parametrize("boxes", [("0.1,0.1,0.8,0.8", "0,0,0.5,0.5"), ("0,0,1,1", "0.5,0.5,0.5,0.5")])
def test_boxes_as_fractions_of_the_image_are_refused(tmp_path: Path, boxes: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=r"all boxes are within 0 and 1; boxes must be in pixels.*, not fractions of the image"):
        read_manifest(tmp_path, f'path,label,box\n0.png,1,"{boxes[0]}"\n1.png,2,"{boxes[1]}"\n')


def test_a_box_with_a_wrong_or_missing_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 3: width of the box is 'wide', but must be a number of at least 1"):
        read_manifest(tmp_path, "path,label,x,y,width,height\n0.png,1,1,2,3,4\n1.png,2,1,2,wide,4\n")
    with pytest.raises(UserError, match=r"line 2: height of the box is '0', but must be a number of at least 1"):
        read_manifest(tmp_path, "path,label,x,y,width,height\n0.png,1,1,2,3,0\n1.png,2,1,2,3,4\n")
    with pytest.raises(UserError, match=r"line 2: y of the box is '-1', but must be a number of at least 0"):
        read_manifest(tmp_path, 'path,label,box\n0.png,1,"1,-1,3,4"\n1.png,2,"1,2,3,4"\n')
    with pytest.raises(UserError, match=r"line 3: width of the box is '0\.9', but must be a number of at least 1"):
        read_manifest(tmp_path, 'path,label,box\n0.png,1,"1,1,3,4"\n1.png,2,"1,2,.9,4"\n'.replace(".9", "0.9"))
    with pytest.raises(UserError, match=r"a box needs four numbers, x, y, width, height"):
        read_manifest(tmp_path, "path,label,box\n0.png,1,1 2 3\n1.png,2,1 2 3\n")


def test_columns_without_a_meaning_are_ignored(tmp_path: Path) -> None:
    split = read_manifest(tmp_path, "path,label,class_name,hue,orig_split\n0.png,1,cat,red,a\n1.png,2,dog,blue,b\n")
    assert list(split.frame.columns) == ["path", "label", "class_name", *ROLES, "size_bytes"]
    assert split.frame["class_name"].tolist() == ["cat", "dog"]
    assert split.attributes is None


def test_a_manifest_may_be_outside_the_root_and_file_sizes_are_recorded(tmp_path: Path) -> None:
    touch(tmp_path / "images", "p/1.png", "p/2.png")
    (tmp_path / "list.csv").write_text("path,label\np/2.png,1\n./p/1.png,2\n")
    frame = folder(str(tmp_path / "images"), str(tmp_path / "list.csv")).frame
    assert frame["path"].tolist() == ["p/2.png", "p/1.png"]
    assert frame["size_bytes"].tolist() == [2, 1]


def test_a_missing_manifest_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.manifest 'gone\.csv' does not exist, neither as a path nor under"):
        folder(str(touch(tmp_path, "a/1.png")), "gone.csv")


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (
            "picture,label",
            r"no column for the path: it has picture, label; rename the one that holds it to path \(also accepted: file, ",
        ),
        (
            "path,kind",
            r"no column for the label: it has path, kind; rename the one that holds it to label \(also accepted: class_id, ",
        ),
    ],
)
def test_a_missing_column_is_refused_with_the_present_columns_and_the_accepted_names(
    tmp_path: Path, header: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        read_manifest(tmp_path, f"{header}\n0.png,1\n1.png,2\n")


@pytest.mark.parametrize("text", ["", 'path,label\n"0.png,1\n', "path,label\n0.png,1\n1.png,2,3,4\n"])
def test_a_manifest_that_is_not_csv_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"m\.csv cannot be read as CSV"):
        read_manifest(tmp_path, text)


def test_a_manifest_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lists no image"):
        read_manifest(tmp_path, "path,label\n")


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 of 3 images do not exist under .*, such as gone\.png"):
        read_manifest(tmp_path, "path,label\n0.png,1\ngone.png,2\nlost.png,2\n")


def test_a_path_that_is_listed_twice_is_refused_also_in_another_spelling(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"repeats 1 of its images, such as 0\.png"):
        read_manifest(tmp_path, "path,label\n0.png,1\n1.png,2\n./0.png,2\n")


@pytest.mark.parametrize("path", ["../secret.png", "sub/../../secret.png", "/secret.png"])
def test_a_path_outside_the_root_is_refused(tmp_path: Path, path: str) -> None:
    touch(tmp_path, "secret.png")
    with pytest.raises(UserError, match=r"secret\.png is outside .*; paths must be relative to dataset\.root"):
        read_manifest(tmp_path / "root", f"path,label\n0.png,1\n{path},2\n")


def test_an_unknown_role_is_refused_with_a_similar_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the role 'trian' in the manifest is not known; did you mean 'train'\?"):
        read_manifest(tmp_path, "path,label,split\n0.png,1,trian\n1.png,2,test\n", "manifest")


def test_the_rule_manifest_needs_a_role_column(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.split=manifest needs a column role or split or subset"):
        read_manifest(tmp_path, "path,label\n0.png,1\n1.png,2\n", "manifest")


# ---- published data


@pytest.mark.parametrize(
    ("name", "train_classes", "train_images", "test_classes", "test_images"),
    [("omniglot242", 110, 2200, 132, 2640), ("grocery81_112", 41, 3051, 40, 2370)],
)
def test_published_manifests_give_the_published_counts(
    tmp_path: Path, name: str, train_classes: int, train_images: int, test_classes: int, test_images: int
) -> None:
    archive = SHARED_DATA / f"{name}.zip"
    if not archive.is_file():
        pytest.skip(f"needs {archive.name} in ../shared/data")
    with zipfile.ZipFile(archive) as content:
        content.extractall(tmp_path)
    assert folder(str(tmp_path / name), "labels.csv", "manifest").facts == {
        "images": train_images + test_images,
        "train_classes": train_classes,
        "train_images": train_images,
        "test_classes": test_classes,
        "query_images": test_images,
        "gallery_images": test_images,
    }


def test_images_outside_the_class_directories_are_ignored_and_a_note_counts_them(tmp_path: Path) -> None:
    root = touch(tmp_path, "a/1.png", "b/1.png", "stray.png", "notes.txt")
    split = folder(str(root))
    assert list(split.frame["path"]) == ["a/1.png", "b/1.png"]
    assert any(note.startswith("images directly in") and note.endswith(": 1") for note in split.notes)


def test_the_half_of_a_class_does_not_depend_on_the_order_of_the_manifest(tmp_path: Path) -> None:
    names = [f"{label}/{k}.png" for label in "ab" for k in range(8)]
    root = touch(tmp_path, *names)
    halves = []
    for order in (names, names[::-1]):
        (root / "list.csv").write_text("path,label\n" + "".join(f"{name},{name[0]}\n" for name in order))
        frame = folder(str(root), "list.csv", "half_per_class").frame
        halves.append(set(frame.loc[frame["train"], "path"]))
    assert halves[0] == halves[1]


@pytest.mark.parametrize(
    ("text", "sentence"), [(",0\n", "line 3: the path is empty"), ("b/1.png,\n", "line 3: the label is empty")]
)
def test_an_empty_path_or_label_is_refused_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    root = touch(tmp_path, "a/1.png", "b/1.png")
    (root / "list.csv").write_text(f"path,label\na/1.png,0\n{text}")
    with pytest.raises(UserError, match=sentence):
        folder(str(root), "list.csv")


def test_a_file_name_that_starts_with_two_dots_is_inside_the_root(tmp_path: Path) -> None:
    root = touch(tmp_path, "..x.png", "b/1.png")
    (root / "list.csv").write_text("path,label\n..x.png,0\nb/1.png,1\n")
    assert len(folder(str(root), "list.csv").frame) == 2


# ---- a tree of somebody else


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/1.png")
    for name in ("l", "m"):
        (tmp_path / "a" / name).symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"are the same directory, through a link; remove one of them"):
        folder(str(tmp_path))


@pytest.mark.parametrize("path", [b"\xff\xfe/1.png", b"a/\xe9.png"])
def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path, path: bytes) -> None:
    touch(tmp_path, "a/1.png", "b/1.png")
    name = os.path.join(os.fsencode(tmp_path), path)
    os.makedirs(os.path.dirname(name), exist_ok=True)
    open(name, "wb").close()
    with pytest.raises(UserError, match=r"the name of b'.*\\x.*' is not UTF-8; rename it") as error:
        folder(str(tmp_path))
    assert str(error.value).isascii()


def test_a_manifest_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (touch(tmp_path, "0.png") / "m.csv").write_bytes(b"path,label\n0.png,\xe9\n")
    with pytest.raises(UserError, match=r"m\.csv is not UTF-8 text; save it in this encoding"):
        folder(str(tmp_path), "m.csv")


def test_a_link_in_a_manifest_that_leads_nowhere_is_left_to_the_check_of_the_images(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    assert read_manifest(tmp_path, "path,label\n0.png,1\ngone.png,2\n").frame["size_bytes"].tolist() == [1, 0]


# ---- groups of classes

GROUPED = "path,label,coarse\n0.png,0,fruit\n1.png,1,milk\n2.png,2,milk\n3.png,3,juice\n"


def grouped(root: Path, text: str = GROUPED, group: str | None = "coarse", **arguments: Any) -> Split:
    touch(root, *(f"{number}.png" for number in range(4)))
    (root / "m.csv").write_text(text, encoding="utf-8")
    return folder(str(root), "m.csv", group=group, **arguments)


def test_a_column_of_the_manifest_that_is_named_contains_the_groups(tmp_path: Path) -> None:
    split = grouped(tmp_path, group="Coarse")
    assert split.frame["group"].tolist() == ["fruit", "milk", "milk", "juice"]
    assert split.group_kind == "Coarse"
    assert split.digest == grouped(tmp_path, group=None).digest


def test_a_column_named_group_needs_not_be_named_again(tmp_path: Path) -> None:
    split = grouped(tmp_path, GROUPED.replace("coarse", "group"), group=None)
    assert (split.group_kind, split.columns["n_test_groups"], split.columns["n_shared_groups"]) == ("group", 2, 1)


def test_a_manifest_without_the_named_column_is_refused_with_a_similar_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset.group: .*m.csv has no column 'corse'; did you mean 'coarse'"):
        grouped(tmp_path, group="corse")


def test_a_group_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.group=coarse needs dataset.manifest=FILE"):
        folder(str(touch(tmp_path, "a/1.png", "b/1.png")), group="coarse")


def test_random_groups_are_drawn_by_the_seed_of_the_split(tmp_path: Path) -> None:
    splits = [grouped(tmp_path, split="random_groups", split_seed=seed) for seed in range(4)]
    assert len({split.digest for split in splits}) > 1
    assert {split.columns["n_shared_groups"] for split in splits} == {0}


def test_a_seed_of_a_split_that_draws_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.split_seed=2 has no effect with dataset.split=zero_shot"):
        grouped(tmp_path, split_seed=2)
