"""Stanford Online Products, as its authors pack it."""

from __future__ import annotations

import pandas as pd

from dmlbench.data.datasets.annotation_files import folder_with, listing, published, whole_numbers
from dmlbench.data.split import Split
from dmlbench.data.split_rules import two_sided

LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
COLUMNS = ("image_id", "class_id", "super_class_id", "path")


def sop(root: str, split: str = "zero_shot", split_seed: int = 0) -> Split:
    """Products from eBay: `Ebay_train.txt` trains, `Ebay_test.txt` is query and gallery.

    Args:
        root: the unpacked archive, or a folder that holds it: both lists, and a folder of images a kind of product.
        split: `zero_shot`: the official lists. `half_per_class`: half of each class's images trains.
        split_seed: of `half_per_class`.

    Returns:
        The split; `attribute_super_class` is the kind of product, of which there are 12.

    Raises:
        UserError: the folder is not this data set, images are missing, or a class is on both lists.

    Source:
        Oh Song et al., Deep metric learning via lifted structured feature embedding, CVPR 2016, arXiv:1511.06452.
    """
    place = folder_with(root, LISTS["train"], "sop")
    parts = {role: listing(place / file, COLUMNS, skip=1) for role, file in LISTS.items()}
    lines = pd.concat(parts, names=["role"]).reset_index("role").reset_index(drop=True)
    frame = pd.DataFrame(
        {
            "path": lines["path"],
            "label": whole_numbers(place / LISTS["train"], lines["class_id"]),
            "class_name": lines["class_id"],
            **two_sided(lines["role"] == "train"),
            "attribute_super_class": lines["path"].str.split("/").str[0].str.removesuffix("_final"),
        }
    )
    return published(frame, place, "sop", " and ".join(LISTS.values()), split, split_seed)
