"""Write binary attributes of the Grocery Store data set (Klasson et al., WACV 2019), made from the hierarchy of its classes.

unzip -q -d .cache ../shared/data/grocery81_112.zip
python scripts/grocery_attributes.py .cache/grocery81_112

The directory has `labels.csv` with the columns `file` (images/<part>/<kind>/...) and `coarse`. The script writes
`attributes.csv` next to it, for `dataset.attributes=attributes.csv`: the column `file`, one column per kind (`kind::Fruit`,
`kind::Packages`, `kind::Vegetables`) and one per coarse class (`coarse::Apple`). Each image has one of each, so no value is
missing. The attributes are those of the class; they do not describe single images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from dmlbench.data.attributes import one_hot

KIND_LEVEL = 2  # of the path: images/train/Fruit/Apple/...


def write_attributes(directory: Path) -> str:
    """Write the attributes, and return one sentence about them.

    Args:
        directory: Directory of `labels.csv`.
    """
    labels = pd.read_csv(directory / "labels.csv", dtype=str)
    properties = pd.DataFrame({"kind": labels["file"].str.split("/").str[KIND_LEVEL], "coarse": labels["coarse"]})
    attributes = one_hot(properties, {name: sorted(set(properties[name])) for name in properties})
    table = pd.DataFrame(attributes.values.astype(int), columns=list(attributes.names))
    table.insert(0, "file", labels["file"])
    output = directory / "attributes.csv"
    table.to_csv(output, index=False, lineterminator="\n")
    return f"{output}: {len(attributes.names)} attributes of {len(table):,} images"


def main() -> None:
    """Read the command line, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="directory of labels.csv")
    directory = parser.parse_args().directory
    if not (directory / "labels.csv").is_file():
        sys.exit(f"{directory} has no labels.csv; unpack grocery81_112.zip, and name its directory")
    print(write_attributes(directory))


if __name__ == "__main__":
    main()
