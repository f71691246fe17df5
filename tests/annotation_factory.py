"""Small data sets in exactly the layouts in which the four benchmarks are published."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

PX = (40, 32)  # width, height


def jpeg(seed: int, mode: str = "RGB") -> bytes:
    """A small image that differs for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (PX[1], PX[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, "JPEG")
    return out.getvalue()


def write(file: Path, content: bytes | str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def cub(top: Path, per_class: int = 2) -> Path:
    """`CUB_200_2011/` with its lists, `attributes.txt` next to it, and a hidden file as macOS writes it."""
    directory = top / "CUB_200_2011"
    images, labels, boxes, present = [], [], [], []
    for number in range(1, 201):
        for index in range(per_class):
            image_id = len(images) + 1
            path = f"{number:03d}.Bird_{number}/Bird_{number}_{index:04d}.jpg"
            write(directory / "images" / path, jpeg(image_id, "L" if image_id % 50 == 0 else "RGB"))
            images.append(f"{image_id} {path}")
            labels.append(f"{image_id} {number}")
            boxes.append(f"{image_id} 2.0 3.0 30.0 20.0")
            present += [f"{image_id} {k} {int((image_id + k) % 7 == 0)} {1 + (image_id + k) % 4} 1.5" for k in range(1, 313)]
    present[5] += " 0"  # some lines of the published file have one or two extra fields
    present[len(present) // 2] += " 0 1.509"
    write(directory / "images" / "001.Bird_1" / "._Bird_1_0000.jpg", b"Mac OS X")
    for name, lines in (
        ("images.txt", images),
        ("image_class_labels.txt", labels),
        ("bounding_boxes.txt", boxes),
        ("attributes/image_attribute_labels.txt", present),
    ):
        write(directory / name, "\n".join(lines) + "\n")
    write(top / "attributes.txt", "\n".join(f"{k} has_part::value_{k}" for k in range(1, 313)) + "\n")
    return directory


def cars(top: Path, per_class: int = 2) -> Path:
    """`car_ims/` and `cars_annos.mat`."""
    images = [(f"car_ims/{number:06d}.jpg", 1 + (number - 1) // per_class) for number in range(1, 196 * per_class + 1)]
    fields = [
        ("relative_im_path", "O"),
        *((f"bbox_{side}", "O") for side in ("x1", "y1", "x2", "y2")),
        ("class", "O"),
        ("test", "O"),
    ]
    entries = np.empty((1, len(images)), dtype=fields)
    for index, (path, number) in enumerate(images):
        write(top / path, jpeg(index))
        entries[0, index] = (path, 3, 4, 30, 20, number, index % 2)
    names = np.array([[f"Maker Model {number} 2012" for number in range(1, 197)]], dtype=object)
    savemat(top / "cars_annos.mat", {"annotations": entries, "class_names": names})
    return top


def cars_devkit(top: Path, per_class: int = 2) -> Path:
    """`devkit/` with two annotation files, `cars_train/` and `cars_test/`; the classes are in random order."""
    order = np.random.default_rng(0).permutation(196 * per_class)
    fields = [*((f"bbox_{side}", "O") for side in ("x1", "y1", "x2", "y2")), ("class", "O"), ("fname", "O")]
    (top / "devkit").mkdir(parents=True)
    for folder, name, part in (
        ("cars_train", "cars_train_annos.mat", order[::2]),
        ("cars_test", "cars_test_annos_withlabels.mat", order[1::2]),
    ):
        entries = np.empty((1, len(part)), dtype=fields)
        for index, image in enumerate(part):
            write(top / folder / f"{index + 1:05d}.jpg", jpeg(int(image)))
            entries[0, index] = (3, 4, 30, 20, 1 + int(image) // per_class, f"{index + 1:05d}.jpg")
        savemat(top / "devkit" / name, {"annotations": entries})
    names = np.array([[f"Maker Model {number} 2012" for number in range(1, 197)]], dtype=object)
    savemat(top / "devkit" / "cars_meta.mat", {"class_names": names})
    return top


def sop(top: Path, train: int = 10, test: int = 8, per_class: int = 3) -> Path:
    """`Stanford_Online_Products/` with both lists."""
    directory = top / "Stanford_Online_Products"
    categories = ("bicycle", "chair", "mug")
    image_id = 0
    for file, classes in (("Ebay_train.txt", range(1, train + 1)), ("Ebay_test.txt", range(train + 1, train + test + 1))):
        lines = ["image_id class_id super_class_id path"]
        for number in classes:
            for index in range(per_class):
                image_id += 1
                path = f"{categories[number % 3]}_final/11{number:08d}_{index}.JPG"
                write(directory / path, jpeg(image_id))
                lines.append(f"{image_id} {number} {number % 3 + 1} {path}")
        write(directory / file, "\n".join(lines) + "\n")
    return directory


def inshop(top: Path, train: int = 10, test: int = 8) -> Path:
    """`Img/img/`, `Eval/list_eval_partition.txt`, and the files of boxes and attributes in `Anno/`."""
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
    count = f"{len(partition)}\n"
    write(top / "Eval/list_eval_partition.txt", count + "image_name item_id evaluation_status\n" + "\n".join(partition) + "\n")
    write(
        top / "Anno/list_bbox_inshop.txt",
        count + "image_name clothes_type pose_type x_1 y_1 x_2 y_2\n" + "\n".join(boxes) + "\n",
    )
    write(
        top / "Anno/attributes/list_attr_cloth.txt",
        "463\nattribute_name\n" + "\n".join(f"with part {k}" for k in range(463)) + "\n",
    )
    values = [
        f"{item} " + " ".join("1" if (k + index) % 5 == 0 else "-1" for k in range(463)) for index, item in enumerate(items)
    ]
    write(top / "Anno/attributes/list_attr_items.txt", f"{len(items)}\nitem_id attribute_labels\n" + "\n".join(values) + "\n")
    return top


def pack(folder: Path, archive: Path) -> Path:
    """Pack the content of a directory as a tar or zip file."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz") as file:
            for path in sorted(folder.iterdir()):
                file.add(path, path.name)
    return archive
