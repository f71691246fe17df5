"""How often the test behind the bold numbers errs, by simulation; writes docs/significance.md.

python scripts/simulate_significance.py           some minutes
python scripts/simulate_significance.py --look    print it, write nothing
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy import stats

from dmlbench.tables.confidence import t_interval
from dmlbench.tables.significance import LEVEL, Spread, estimate_spread, weighted

STUDIES = 1_000
EQUAL = 10_000  # in which all methods are equal
CLASSES = 100
# Standard deviations of: a seed's effect on the whole mean; a method's peculiarity in a class; the rest of a class mean.
WORLDS = {
    "seeds dominate": (0.010, 0.02, 0.03),
    "classes dominate": (0.001, 0.08, 0.03),
    "both matter": (0.005, 0.05, 0.05),
    "neither: the rest alone": (0.0, 0.0, 0.05),
}
PAGE = Path(__file__).resolve().parents[1] / "docs" / "significance.md"


def study(
    rng: np.random.Generator, n_methods: int, n_seeds: int, world: tuple[float, float, float], ahead: float = 0.0
) -> np.ndarray:
    """Class means of one made-up study `(M, S, C)`; the first method is ahead of the others."""
    seed, by_class, rest = world
    values = 0.5 + 0.15 * rng.standard_normal((1, 1, CLASSES))  # classes differ for all methods alike
    values = values + seed * rng.standard_normal((n_methods, n_seeds, 1))
    values = values + by_class * rng.standard_normal((n_methods, 1, CLASSES))
    values = values + rest * rng.standard_normal((n_methods, n_seeds, CLASSES))
    values[0] += ahead
    return values


def told_apart(values: np.ndarray, spread: Spread | None = None) -> bool:
    """Whether the best method is called better than the worst."""
    means = values.mean((1, 2))
    return (spread or estimate_spread(values)).p_value(float(means.max() - means.min())) <= LEVEL


def by_classes_alone(values: np.ndarray, rng: np.random.Generator) -> bool:
    """What a bootstrap over classes would say of the first two methods, their seeds averaged."""
    apart = (values[0] - values[1]).mean(0)
    means = apart[rng.integers(0, len(apart), (400, len(apart)))].mean(1)
    low, high = np.quantile(means, (LEVEL / 2, 1 - LEVEL / 2))
    return not low <= 0 <= high


def by_seeds_alone(values: np.ndarray) -> bool:
    """What a t test over seeds would say of the first two methods."""
    return bool(stats.ttest_ind(values[0].mean(1), values[1].mean(1)).pvalue <= LEVEL)


def true_variance(n_seeds: int, world: tuple[float, float, float]) -> float:
    """Of a method's mean, but for what all methods share."""
    seed, by_class, rest = world
    return seed**2 / n_seeds + by_class**2 / CLASSES + rest**2 / (n_seeds * CLASSES)


def false_alarms() -> list[list[str]]:
    """A line a world and number of seeds: how often equal methods are told apart."""
    lines = [["what dominates", "seeds", "two methods", "best of seven", "class bootstrap", "t over seeds"]]
    for name, world in WORLDS.items():
        for n_seeds in (3, 5):
            rng = np.random.default_rng([n_seeds, len(name)])
            pairs = [study(rng, 2, n_seeds, world) for _ in range(STUDIES)]
            rates = [
                np.mean([told_apart(study(rng, 2, n_seeds, world)) for _ in range(EQUAL)]),
                np.mean([told_apart(study(rng, 7, n_seeds, world)) for _ in range(EQUAL)]),
                np.mean([by_classes_alone(values, rng) for values in pairs]),
                np.mean([by_seeds_alone(values) for values in pairs]),
            ]
            lines.append([name, str(n_seeds), *(f"{rate:.1%}" for rate in rates)])
    return lines


def power() -> list[list[str]]:
    """A line a world and number of seeds: how often a true difference is found, beside what theory gives."""
    lines = [["what dominates", "seeds", "true difference", "found", "theory"]]
    for name, world in WORLDS.items():
        for n_seeds in (3, 5):
            rng = np.random.default_rng([7, n_seeds, len(name)])
            error = (2 * true_variance(n_seeds, world)) ** 0.5
            ahead = 3 * error
            studies = [study(rng, 2, n_seeds, world, ahead) for _ in range(STUDIES)]
            spreads = [estimate_spread(values) for values in studies]
            found = np.mean([
                told_apart(values, spread) and values[0].mean() > values[1].mean()
                for values, spread in zip(studies, spreads, strict=True)
            ])  # fmt: skip
            # of a t test with the degrees of freedom that the estimates had on average (harmonic), and the true error
            freedom = 1 / np.mean([1 / spread.degrees_of_freedom for spread in spreads])
            theory = stats.nct.sf(stats.t.isf(LEVEL / 2, freedom), freedom, ahead / error)
            lines.append([name, str(n_seeds), f"{100 * ahead:.2f} points", f"{found:.1%}", f"{theory:.1%}"])
    return lines


def coverage() -> list[list[str]]:
    """A line a number of seeds: how often the interval of a mean over seeds holds the true mean."""
    lines = [["seeds", "holds the true mean"]]
    for n_seeds in (3, 5, 10):
        rng = np.random.default_rng([9, n_seeds])
        held = []
        for _ in range(10 * STUDIES):
            mean, half_width = t_interval((0.5 + 0.01 * rng.standard_normal(n_seeds)).tolist())
            held.append(half_width is not None and abs(mean - 0.5) <= half_width)
        lines.append([str(n_seeds), f"{np.mean(held):.1%}"])
    return lines


def difference_coverage() -> list[list[str]]:
    """A line a world: how often the interval of `dmlbench compare` holds a true difference, and how wide it is."""
    lines = [["what dominates", "seeds", "holds the true difference", "of very unequal classes", "half width"]]
    unequal = np.repeat([2, 10, 18, 30], CLASSES // 4)
    for name, world in WORLDS.items():
        for n_seeds in (3, 5):
            rng = np.random.default_rng([11, n_seeds, len(name)])
            held, widths = {"equal": 0, "unequal": 0}, []
            for _ in range(STUDIES):
                values = study(rng, 2, n_seeds, world, ahead=0.3)
                for sizes, each in (("equal", values), ("unequal", weighted(values, unequal))):
                    half_width = estimate_spread(each).half_width()
                    held[sizes] += abs(each[0].mean() - each[1].mean() - 0.3) <= half_width
                    widths += [half_width] * (sizes == "equal")
            shares = [f"{n / STUDIES:.1%}" for n in held.values()]
            lines.append([name, str(n_seeds), *shares, f"{100 * np.mean(widths):.2f} points"])
    return lines


def page() -> str:
    """The page."""
    tables = {
        "Equal methods told apart": (
            f"Share of {EQUAL:,} studies of {CLASSES} classes in which methods that are equal are called different at "
            f"{LEVEL:.0%}: ours for two methods and for the best of seven against the others; beside it what one source of "
            f"chance alone would have said of two, in {STUDIES:,} studies.",
            false_alarms(),
        ),
        "A true difference found": (
            "One of two methods is ahead by three standard errors of the difference. Theory: a t test that knows the true "
            "error, with the degrees of freedom that the estimates had.",
            power(),
        ),
        "The interval of a difference": (
            f"Of {STUDIES:,} studies with a true difference of 30 points: how often the interval that `dmlbench compare` gives "
            "holds it, where all classes have as many queries, and where they have 2, 10, 18 or 30.",
            difference_coverage(),
        ),
        "The interval of a mean over seeds": (
            f"Of {10 * STUDIES:,} means of normal scores; 95 % is what it promises.",
            coverage(),
        ),
    }
    parts = [
        "# What bold means, and how often it errs\n",
        "Written by `scripts/simulate_significance.py`; the model is told in `dmlbench/significance.py`. Tables and "
        "`dmlbench compare` test alike.\n",
    ]
    for title, (said, lines) in tables.items():
        rows = ["| " + " | ".join(line) + " |" for line in lines]
        parts.append(f"## {title}\n\n{said}\n\n" + "\n".join([rows[0], "|" + " --- |" * len(lines[0]), *rows[1:]]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    text = page()
    print(text)
    if "--look" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
