"""Stanford Online Products, in the layout of its published archive."""

from __future__ import annotations

import pandas as pd

from dmlbench.data.datasets.annotation_files import find_directory, make_split, read_list, to_integers
from dmlbench.data.split import Split
from dmlbench.data.split_rules import train_test_roles

LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
COLUMNS = ("image_id", "class_id", "super_class_id", "path")


def sop(root: str, split: str = "zero_shot", split_seed: int = 0) -> Split:
    """Read Stanford Online Products: photos of products from eBay, one class per product.

    Args:
        root: The unpacked archive, or a directory that contains it: both lists, and one directory of images per category.
        split: `zero_shot`: the official lists; `Ebay_test.txt` is query and gallery. Others: see `split_rules`.
        split_seed: Seed of all splits except `zero_shot`.

    Returns:
        The split. Its column `group` is the category, one of 12.

    Raises:
        UserError: The directory is not this data set, or images are missing.

    Source:
        Oh Song et al., Deep metric learning via lifted structured feature embedding, CVPR 2016, arXiv:1511.06452.
    """
    directory = find_directory(root, LISTS["train"], "sop")
    parts = {role: read_list(directory / file, COLUMNS, skip=1) for role, file in LISTS.items()}
    lists = pd.concat(parts, names=["role"]).reset_index("role").reset_index(drop=True)
    category = lists["path"].str.split("/").str[0].str.removesuffix("_final")
    frame = pd.DataFrame(
        {
            "path": lists["path"],
            "label": to_integers(directory / LISTS["train"], lists["class_id"]),
            "class_name": lists["class_id"],
            **train_test_roles(lists["role"] == "train"),
            "group": category,
        }
    )
    return make_split(frame, directory, "sop", " and ".join(LISTS.values()), split, split_seed, "category")
