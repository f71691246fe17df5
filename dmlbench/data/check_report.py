"""What `dmlbench data check` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.config.schema import Dataset
from dmlbench.data.check import MOST_NAMES, ImageCheck, check_images, find_duplicates, without_unreadable
from dmlbench.data.class_groups import GROUP, groups_by_class, overlap_note
from dmlbench.data.contents import hash_contents
from dmlbench.data.split import ROLES, Split


def check_data(dataset: Dataset, split: Split, data_dir: Path) -> Iterator[str]:
    """Hash and decode every image of a data set, whatever is remembered of it, and report what is found.

    Args:
        dataset: Data set as declared.
        split: Its images, whose declared facts have been verified.
        data_dir: Directory of remembered hashes, which are corrected.

    Yields:
        One line each.

    Raises:
        UserError: An image cannot be read and `dataset.on_unreadable` is not `skip`. It is raised after the last line.
    """
    hashed = hash_contents(split, data_dir / "contents", again=True)
    check = check_images(hashed.split)
    skips = dataset.on_unreadable == "skip"
    kept = hashed.split.without(np.array(list(check.errors))) if skips and check.errors else hashed.split
    yield from report(dataset.label, replace(kept, n_duplicates=len(check.duplicates)))
    yield from _describe_check(hashed.split, check, "skipped" if skips else "unreadable")
    if hashed.changed:
        names = ", ".join(hashed.changed[:MOST_NAMES])
        yield f"changed    contents that changed although size and times of the file did not: {len(hashed.changed):,} ({names})"
    without_unreadable(hashed.split, check.errors, dataset.on_unreadable)
    kept.verify(dataset.name, {})


def _describe_check(split: Split, check: ImageCheck, noun: str) -> Iterator[str]:
    if check.duplicates:
        yield f"overlap    test images that equal a training image, or nearly: {len(check.duplicates):,}"
        for test, train in check.duplicates[:MOST_NAMES]:
            yield f"  {split.frame['path'][test]} and {split.frame['path'][train]}"
    if check.errors:
        first = f"; the first {MOST_NAMES}" if len(check.errors) > MOST_NAMES else ""
        yield f"{noun:10} {len(check.errors):,} image{'s' * (len(check.errors) > 1)}{first}:"
        for error in list(check.errors.values())[:MOST_NAMES]:
            yield f"  {error.partition('; repair')[0]}"


def report(label: str, split: Split) -> Iterator[str]:
    """Return counts, shared classes, attributes, queries without positives, and duplicates.

    Args:
        label: Name of the data set in print.
        split: Data set, with the contents of its images.

    Yields:
        One line each.
    """
    yield f"{label}: {len(split.frame):,} images, split digest {split.digest}, under {split.root}"
    for role in ROLES:
        if split.frame[role].any():
            yield f"{role:10} {_describe_sizes(split.frame.loc[split.frame[role], 'label'])}"
    yield f"classes    {_describe_overlap(split)}"
    yield from _describe_groups(split)
    yield from _describe_attributes(split)
    if split.n_queries_without_positives:
        yield (
            "positives  queries without a positive (another image of their class in the gallery), which metrics exclude: "
            f"{split.n_queries_without_positives:,}"
        )
    yield f"duplicates {_describe_duplicates(split)}"
    for note in split.notes:
        yield f"note       {note}"


def _describe_sizes(labels: pd.Series) -> str:
    """Return the number of images and classes, and how many images each class has."""
    sizes = labels.value_counts()
    lowest, highest = sizes.min(), sizes.max()
    per_class = f"{lowest:,}" if lowest == highest else f"{lowest:,} to {highest:,}, median {sizes.median():g},"
    return f"{len(labels):,} images of {len(sizes):,} classes ({per_class} per class)"


def _describe_overlap(split: Split) -> str:
    """Return whether training and test share classes."""
    frame, shared = split.frame, split.shared_classes
    if shared:
        return f"training and test share {len(shared):,} classes"
    train = set(frame.loc[frame["train"] | frame["val"], "label"])
    test = set(frame.loc[frame["query"] | frame["gallery"], "label"])
    if not train or not test:
        return "training and test share no class"
    names = frame.drop_duplicates("label").set_index("label")["class_name"]
    ranges = [f"{names[min(labels)]} to {names[max(labels)]}" for labels in (train, test)]
    return f"training and test share no class: {ranges[0]} | {ranges[1]}"


def _describe_groups(split: Split) -> Iterator[str]:
    """Yield a line with the number of groups of the training and of the test classes, and their sizes, if there are groups."""
    kind = split.group_kind or GROUP
    for name, roles in (("training", ("train", "val")), ("test", ("query", "gallery"))):
        sizes = Counter(groups_by_class(split.frame, *roles).values()).most_common()
        if sizes:
            (largest, most), (smallest, least) = sizes[0], sizes[-1]
            range_ = f"{least:,} ({smallest}) to {most:,} ({largest})" if most > least else f"{most:,}"
            plural = "s" if len(sizes) > 1 else ""
            yield f"groups     {name} classes: {len(sizes):,} group{plural} ({kind}) of {range_} class{'es' * (most > 1)}"
    for note in () if split.shared_classes else overlap_note(split.frame):
        yield f"groups     {note}"


def _describe_attributes(split: Split) -> Iterator[str]:
    """Yield lines with the number of attributes, how often they occur and are missing, and those that never occur."""
    if split.attributes is None:
        return
    names, values = split.attributes.names, split.attributes.values
    is_one, is_known = values == 1, ~np.isnan(values)
    known = is_known.sum(axis=0)
    shares = 100 * is_one.sum(axis=0)[known > 0] / known[known > 0]
    range_ = f", {shares.min():.1f} to {shares.max():.1f} % per attribute" if len(shares) > 1 else ""
    ones = f"{100 * is_one.sum() / max(known.sum(), 1):.1f} % of the known values are 1{range_}"
    missing = int((~is_known).sum())
    share = f" ({100 * missing / values.size:.1f} %)" if missing else ""
    yield f"attributes {len(names):,} attributes; {ones}; missing values: {missing:,}{share}"
    if unknown := int((~is_known.any(axis=1)).sum()):
        yield f"attributes images without any known value: {unknown:,}"
    never = ~is_one.any(axis=0)
    untrained = ~is_one[(split.frame["train"] | split.frame["val"]).to_numpy()].any(axis=0) & ~never
    for meaning, found in (("no image", never), ("no training image", untrained)):
        if found.any():
            listed = ", ".join(names[index] for index in np.flatnonzero(found)[:MOST_NAMES])
            more = f", and {int(found.sum()) - MOST_NAMES:,} more" if found.sum() > MOST_NAMES else ""
            yield f"attributes that {meaning} has: {int(found.sum()):,} ({listed}{more})"


def _describe_duplicates(split: Split) -> str:
    groups = find_duplicates(split)
    if not groups:
        return "no two images are byte-identical"
    frame = split.frame
    across_classes = sum(frame.loc[ids, "label"].nunique() > 1 for ids in groups)
    across_roles = sum(frame.loc[ids, "train"].nunique() > 1 for ids in groups)
    example = " = ".join(frame.loc[groups[0][:2], "path"])
    return (
        f"{sum(map(len, groups)):,} byte-identical images, such as {example}; groups of them: {len(groups):,}; groups across "
        f"classes: {across_classes:,}; groups across training and test: {across_roles:,}"
    )
