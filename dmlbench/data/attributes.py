"""Binary attributes of images, such as `has_bill_shape::hooked`: what a method may learn in addition to the classes.

The split digest does not cover them, because most methods ignore them. A row of a method that uses them has their digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

NO_ATTRIBUTES_HINT = (
    "use a data set that has them, such as dataset=synthetic, or add a CSV file with a column per attribute to images of your "
    "own with dataset=folder dataset.attributes=FILE"
)


@dataclass(frozen=True, eq=False)
class Attributes:
    """Binary attributes of all images of a data set.

    Args:
        names: Name of each attribute.
        values: float32 `(N, K)`: 1 if the image has the attribute, 0 if it does not, NaN if this is not known. Rows are in the
            order of the image ids, columns in that of `names`.

    Raises:
        ValueError: There is no attribute, a name is empty or repeats, the shape does not fit, or a value is another number.
    """

    names: tuple[str, ...]
    values: np.ndarray

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("a data set needs at least one attribute, or None instead of attributes")
        if not all(name.strip() for name in self.names):
            raise ValueError("an attribute has an empty name")
        repeated = next((name for name in self.names if self.names.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"the attribute '{repeated}' is listed {self.names.count(repeated)} times")
        values = np.asarray(self.values, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] != len(self.names):
            raise ValueError(f"{len(self.names)} attributes need values of shape (N, {len(self.names)}), not {values.shape}")
        wrong = ~((values == 0) | (values == 1) | np.isnan(values))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            value = f"the attribute '{self.names[column]}' of image {row} is {values[row, column]:g}"
            raise ValueError(f"{value}; it must be 0, 1, or NaN if it is not known")
        object.__setattr__(self, "values", values)

    @property
    def digest(self) -> str:
        """16 hex digits over names and values."""
        known = np.where(np.isnan(self.values), -1, self.values).astype(np.int8)
        text = "\n".join(self.names).encode(errors="surrogateescape")
        return hashlib.sha256(text + b"\0" + np.ascontiguousarray(known).tobytes()).hexdigest()[:16]

    def rows(self, ids: np.ndarray) -> Attributes:
        """Return the attributes of some images.

        Args:
            ids: int64 `(M,)`, ids of the images, in the order of the result.
        """
        return replace(self, values=self.values[ids])


def one_hot(properties: pd.DataFrame, order: Mapping[str, Sequence[str]]) -> Attributes:
    """Make one binary attribute, `property::value`, for each value of each property.

    Args:
        properties: One row per image, one column of text per property.
        order: Property to the order of its values. Values that no image has are left out.
    """
    present = [(name, value) for name, values in order.items() for value in values if (properties[name] == value).any()]
    columns = [(properties[name] == value).to_numpy(dtype=np.float32) for name, value in present]
    return Attributes(tuple(f"{name}::{value}" for name, value in present), np.stack(columns, axis=1))
