"""What notes say about the significance test and about the limits of the data, in one place for tables and comparisons.

The test itself is in `significance`; docs/significance.md describes it and reports its error rates.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dmlbench.results.row import Row

FEW_SEEDS = 3  # up to this number of seeds, the text mentions low power
FEW_GROUPS = 10  # below this number of groups of test classes, too
FEW_CLASSES = 20  # below this number of test classes, there is a warning
LEVEL_IN_PRINT = "5 % level"
OTHER_SCORES = "the per-query scores do not match the rows"


def model_statement(rows: Sequence[Row], by_seed: bool = True) -> str:
    """Return what the significance test allows for, a clause.

    Args:
        rows: The tested rows, whose data set may have groups of classes.
        by_seed: Whether the test accounts for seeds; without two seeds per method, it cannot.
    """
    classes = "between classes, which it takes as independent"
    if grouped := [row for row in rows if row.get("class_group_kind") is not None]:
        kind, count = grouped[0]["class_group_kind"], grouped[0].get("n_test_groups")
        classes = f"between groups of classes ({kind}, {count} groups), which it takes as independent"
    if by_seed:
        return f"the test allows for chance between seeds, which all methods share, and {classes} (see docs/significance.md)"
    return f"the test allows for chance {classes}, but not between seeds, and another seed may reverse the result"


def power_remark(n_seeds: int, rows: Sequence[Row]) -> str:
    """Return a remark on the power of the test, a clause with a semicolon before it; empty with enough seeds and groups.

    Args:
        n_seeds: Smallest number of seeds of a test.
        rows: The tested rows, whose data set may have groups of classes.
    """
    groups = [count for row in rows if isinstance(count := row.get("n_test_groups"), int) and count < FEW_GROUPS]
    few = ["seeds"] * (n_seeds <= FEW_SEEDS) + ["groups"] * bool(groups)
    return f"; so few {' and '.join(few)} give the test little power" if few else ""


def limits_of_data(n_seeds: Collection[int], n_classes: object) -> list[str]:
    """Return warnings about few test classes and about two seeds, one sentence each, without a full stop.

    Args:
        n_seeds: Numbers of seeds of the methods.
        n_classes: Number of test classes; anything else than an integer if it is unknown.
    """
    found = []
    if isinstance(n_classes, int) and n_classes < FEW_CLASSES:
        plural = "es" if n_classes != 1 else ""
        found.append(f"Only {n_classes} test class{plural}: with other classes, the results may be quite different")
    if 2 in n_seeds:
        found.append("The 95 % interval of two seeds is very wide; use three seeds or more")
    return found
