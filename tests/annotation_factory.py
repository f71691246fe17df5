"""Small data sets of exactly the layouts that the four benchmarks are published in."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

CLASSES = {"cub": 200, "cars": 196}
PX = (40, 32)  # width, height


def jpeg(seed: int, mode: str = "RGB") -> bytes:
    """A small image of its own."""
    pixels = np.random.default_rng(seed).integers(0, 256, (PX[1], PX[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, "JPEG")
    return out.getvalue()


def write(file: Path, content: bytes | str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def cub(top: Path, per_class: int = 2) -> Path:
    """`CUB_200_2011/` with its lists, attributes.txt beside it, and what macOS adds."""
    place = top / "CUB_200_2011"
    images, labels, boxes, present = [], [], [], []
    for number in range(1, 201):
        for index in range(per_class):
            image_id = len(images) + 1
            path = f"{number:03d}.Bird_{number}/Bird_{number}_{index:04d}.jpg"
            write(place / "images" / path, jpeg(image_id, "L" if image_id % 50 == 0 else "RGB"))
            images.append(f"{image_id} {path}")
            labels.append(f"{image_id} {number}")
            boxes.append(f"{image_id} 2.0 3.0 30.0 20.0")
            present += [f"{image_id} {k} {int((image_id + k) % 7 == 0)} 3 1.5" for k in range(1, 313)]
    present[5] += " 0"  # the published list has lines with a field too many
    write(place / "images" / "001.Bird_1" / "._Bird_1_0000.jpg", b"Mac OS X")
    for name, lines in (
        ("images.txt", images),
        ("image_class_labels.txt", labels),
        ("bounding_boxes.txt", boxes),
        ("attributes/image_attribute_labels.txt", present),
    ):
        write(place / name, "\n".join(lines) + "\n")
    write(top / "attributes.txt", "\n".join(f"{k} has_part::value_{k}" for k in range(1, 313)) + "\n")
    return place


def _cars_lines(per_class: int) -> list[tuple[str, int]]:
    return [(f"car_ims/{number:06d}.jpg", 1 + (number - 1) // per_class) for number in range(1, 196 * per_class + 1)]


def cars(top: Path, per_class: int = 2) -> Path:
    """`car_ims/` and `cars_annos.mat`."""
    lines = _cars_lines(per_class)
    kinds = [
        ("relative_im_path", "O"),
        *((f"bbox_{side}", "O") for side in ("x1", "y1", "x2", "y2")),
        ("class", "O"),
        ("test", "O"),
    ]
    entries = np.empty((1, len(lines)), dtype=kinds)
    for place, (path, number) in enumerate(lines):
        write(top / path, jpeg(place))
        entries[0, place] = (path, 3, 4, 30, 20, number, place % 2)
    names = np.array([[f"Maker Model {number} 2012" for number in range(1, 197)]], dtype=object)
    savemat(top / "cars_annos.mat", {"annotations": entries, "class_names": names})
    return top


def cars_devkit(top: Path, per_class: int = 2) -> Path:
    """`devkit/` with two lists, `cars_train/` and `cars_test/`, classes in no order."""
    order = np.random.default_rng(0).permutation(196 * per_class)
    kinds = [*((f"bbox_{side}", "O") for side in ("x1", "y1", "x2", "y2")), ("class", "O"), ("fname", "O")]
    (top / "devkit").mkdir(parents=True)
    for folder, name, part in (
        ("cars_train", "cars_train_annos.mat", order[::2]),
        ("cars_test", "cars_test_annos_withlabels.mat", order[1::2]),
    ):
        entries = np.empty((1, len(part)), dtype=kinds)
        for place, image in enumerate(part):
            write(top / folder / f"{place + 1:05d}.jpg", jpeg(int(image)))
            entries[0, place] = (3, 4, 30, 20, 1 + int(image) // per_class, f"{place + 1:05d}.jpg")
        savemat(top / "devkit" / name, {"annotations": entries})
    names = np.array([[f"Maker Model {number} 2012" for number in range(1, 197)]], dtype=object)
    savemat(top / "devkit" / "cars_meta.mat", {"class_names": names})
    return top


def sop(top: Path, train: int = 10, test: int = 8, per_class: int = 3) -> Path:
    """`Stanford_Online_Products/` with both lists."""
    place = top / "Stanford_Online_Products"
    kinds = ("bicycle", "chair", "mug")
    image_id = 0
    for file, classes in (("Ebay_train.txt", range(1, train + 1)), ("Ebay_test.txt", range(train + 1, train + test + 1))):
        lines = ["image_id class_id super_class_id path"]
        for number in classes:
            for index in range(per_class):
                image_id += 1
                path = f"{kinds[number % 3]}_final/11{number:08d}_{index}.JPG"
                write(place / path, jpeg(image_id))
                lines.append(f"{image_id} {number} {number % 3 + 1} {path}")
        write(place / file, "\n".join(lines) + "\n")
    return place


def inshop(top: Path, train: int = 10, test: int = 8) -> Path:
    """`Img/img/`, `Eval/list_eval_partition.txt`, and the lists of boxes and attributes in `Anno/`."""
    partition, boxes, items = [], [], []
    for number in range(1, train + test + 1):
        item = f"id_{number:08d}"
        items.append(item)
        for index in range(4):
            path = f"img/WOMEN/Dresses/{item}/0{index}_1_front.jpg"
            write(top / "Img" / path, jpeg(number * 10 + index))
            role = "train" if number <= train else "query" if index < 1 else "gallery"
            partition.append(f"{path}          {item} {role}")
            boxes.append(f"{path} 3 1 002 003 032 023")
    head = f"{len(partition)}\n"
    write(top / "Eval/list_eval_partition.txt", head + "image_name item_id evaluation_status\n" + "\n".join(partition) + "\n")
    write(
        top / "Anno/list_bbox_inshop.txt",
        head + "image_name clothes_type pose_type x_1 y_1 x_2 y_2\n" + "\n".join(boxes) + "\n",
    )
    write(
        top / "Anno/attributes/list_attr_cloth.txt",
        "463\nattribute_name\n" + "\n".join(f"with part {k}" for k in range(463)) + "\n",
    )
    of_items = [
        f"{item} " + " ".join("1" if (k + place) % 5 == 0 else "-1" for k in range(463)) for place, item in enumerate(items)
    ]
    write(top / "Anno/attributes/list_attr_items.txt", f"{len(items)}\nitem_id attribute_labels\n" + "\n".join(of_items) + "\n")
    return top


def packed(folder: Path, archive: Path) -> Path:
    """Everything in a folder as a tar or zip."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz") as file:
            for path in sorted(folder.iterdir()):
                file.add(path, path.name)
    return archive
