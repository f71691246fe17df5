"""Simulate the error rates of the significance test of tables and `dmlbench compare`; writes docs/significance.md.

python scripts/simulate_significance.py           write the page (takes some minutes)
python scripts/simulate_significance.py --print   only print the page
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from dmlbench.tables.class_scores import weighted
from dmlbench.tables.confidence import t_interval
from dmlbench.tables.significance import LEVEL, Spread, estimate_spread

STUDIES = 1_000
STUDIES_OF_EQUAL_METHODS = 10_000
CLASSES = 100
PAGE = Path(__file__).resolve().parents[1] / "docs" / "significance.md"


@dataclass(frozen=True)
class Scenario:
    """Standard deviations of the random effects on class means.

    Args:
        name: Name in the tables of the page.
        stream: Part of the seed of its random numbers.
        seed: Effect of a seed, nested within a method, on all class means.
        method_by_class: Interaction of method and class.
        residual: Residual of a method, seed and class.
    """

    name: str
    stream: int
    seed: float
    method_by_class: float
    residual: float


SCENARIOS = (
    Scenario("seed variance dominates", 14, 0.010, 0.02, 0.03),
    Scenario("class variance dominates", 16, 0.001, 0.08, 0.03),
    Scenario("both contribute", 11, 0.005, 0.05, 0.05),
    Scenario("residual variance only", 23, 0.0, 0.0, 0.05),
)


def simulate_study(
    rng: np.random.Generator, n_methods: int, n_seeds: int, scenario: Scenario, difference: float = 0.0
) -> np.ndarray:
    """Draw the class means of one study.

    Args:
        rng: Random generator.
        n_methods: Number of methods M.
        n_seeds: Number of seeds S.
        scenario: Standard deviations.
        difference: True difference of the first method from the others.

    Returns:
        Class means `(M, S, C)`.
    """
    values = 0.5 + 0.15 * rng.standard_normal((1, 1, CLASSES))  # class effect, the same for all methods
    values = values + scenario.seed * rng.standard_normal((n_methods, n_seeds, 1))
    values = values + scenario.method_by_class * rng.standard_normal((n_methods, 1, CLASSES))
    values = values + scenario.residual * rng.standard_normal((n_methods, n_seeds, CLASSES))
    values[0] += difference
    return values


def is_significant(values: np.ndarray, spread: Spread | None = None) -> bool:
    """Return whether the best method is significantly better than the worst one.

    Args:
        values: Class means `(M, S, C)`.
        spread: Its estimated spread; None to estimate it.
    """
    means = values.mean((1, 2))
    return (spread or estimate_spread(values)).p_value(float(means.max() - means.min())) <= LEVEL


def is_significant_by_class_bootstrap(values: np.ndarray, rng: np.random.Generator) -> bool:
    """Return whether a bootstrap over classes finds a difference of two methods, averaged over seeds.

    Args:
        values: Class means `(2, S, C)`.
        rng: Random generator.
    """
    differences = (values[0] - values[1]).mean(0)
    means = differences[rng.integers(0, len(differences), (400, len(differences)))].mean(1)
    low, high = np.quantile(means, (LEVEL / 2, 1 - LEVEL / 2))
    return not low <= 0 <= high


def is_significant_by_seeds(values: np.ndarray) -> bool:
    """Return whether a t test over seeds finds a difference of two methods.

    Args:
        values: Class means `(2, S, C)`.
    """
    return bool(stats.ttest_ind(values[0].mean(1), values[1].mean(1)).pvalue <= LEVEL)


def true_variance(n_seeds: int, scenario: Scenario) -> float:
    """Return the variance of the mean of a method, without the class effect that all methods share.

    Args:
        n_seeds: Number of seeds.
        scenario: Standard deviations.
    """
    return scenario.seed**2 / n_seeds + scenario.method_by_class**2 / CLASSES + scenario.residual**2 / (n_seeds * CLASSES)


def type_1_error_rates() -> list[list[str]]:
    """Return a table of how often equal methods differ significantly, one row per scenario and number of seeds."""
    lines = [["scenario", "seeds", "two methods", "best of seven", "class bootstrap", "t test over seeds"]]
    for scenario in SCENARIOS:
        for n_seeds in (3, 5):
            rng = np.random.default_rng([n_seeds, scenario.stream])
            pairs = [simulate_study(rng, 2, n_seeds, scenario) for _ in range(STUDIES)]
            n = STUDIES_OF_EQUAL_METHODS
            rates = [
                np.mean([is_significant(simulate_study(rng, 2, n_seeds, scenario)) for _ in range(n)]),
                np.mean([is_significant(simulate_study(rng, 7, n_seeds, scenario)) for _ in range(n)]),
                np.mean([is_significant_by_class_bootstrap(values, rng) for values in pairs]),
                np.mean([is_significant_by_seeds(values) for values in pairs]),
            ]
            lines.append([scenario.name, str(n_seeds), *(f"{rate:.1%}" for rate in rates)])
    return lines


def power() -> list[list[str]]:
    """Return a table of how often a true difference is significant, one row per scenario and number of seeds."""
    lines = [["scenario", "seeds", "true difference", "power", "theoretical power"]]
    for scenario in SCENARIOS:
        for n_seeds in (3, 5):
            rng = np.random.default_rng([7, n_seeds, scenario.stream])
            error = (2 * true_variance(n_seeds, scenario)) ** 0.5
            difference = 3 * error
            studies = [simulate_study(rng, 2, n_seeds, scenario, difference) for _ in range(STUDIES)]
            spreads = [estimate_spread(values) for values in studies]
            found = np.mean([
                is_significant(values, spread) and values[0].mean() > values[1].mean()
                for values, spread in zip(studies, spreads, strict=True)
            ])  # fmt: skip
            # A t test with the true error and the harmonic mean of the estimated degrees of freedom.
            degrees_of_freedom = 1 / np.mean([1 / spread.degrees_of_freedom for spread in spreads])
            critical = stats.t.isf(LEVEL / 2, degrees_of_freedom)
            theory = stats.nct.sf(critical, degrees_of_freedom, difference / error)
            lines.append([scenario.name, str(n_seeds), f"{100 * difference:.2f} points", f"{found:.1%}", f"{theory:.1%}"])
    return lines


def mean_coverage() -> list[list[str]]:
    """Return a table of how often the interval of a mean over seeds contains the true mean, one row per number of seeds."""
    lines = [["seeds", "coverage"]]
    for n_seeds in (3, 5, 10):
        rng = np.random.default_rng([9, n_seeds])
        covered = []
        for _ in range(10 * STUDIES):
            mean, half_width = t_interval((0.5 + 0.01 * rng.standard_normal(n_seeds)).tolist())
            covered.append(half_width is not None and abs(mean - 0.5) <= half_width)
        lines.append([str(n_seeds), f"{np.mean(covered):.1%}"])
    return lines


def difference_coverage() -> list[list[str]]:
    """Return a table of how often the interval of `dmlbench compare` contains the true difference, and its half width."""
    lines = [["scenario", "seeds", "coverage", "coverage, unequal class sizes", "half width"]]
    unequal = np.repeat([2, 10, 18, 30], CLASSES // 4)
    for scenario in SCENARIOS:
        for n_seeds in (3, 5):
            rng = np.random.default_rng([11, n_seeds, scenario.stream])
            covered, widths = {"equal": 0, "unequal": 0}, []
            for _ in range(STUDIES):
                values = simulate_study(rng, 2, n_seeds, scenario, difference=0.3)
                for sizes, each in (("equal", values), ("unequal", weighted(values, unequal))):
                    half_width = estimate_spread(each).half_width()
                    covered[sizes] += abs(each[0].mean() - each[1].mean() - 0.3) <= half_width
                    widths += [half_width] * (sizes == "equal")
            shares = [f"{n / STUDIES:.1%}" for n in covered.values()]
            lines.append([scenario.name, str(n_seeds), *shares, f"{100 * np.mean(widths):.2f} points"])
    return lines


OPENING = """\
# The significance test: error rates

Generated by `scripts/simulate_significance.py`. Tables and `dmlbench compare` use the same test. It asks whether a difference
is larger than chance explains, and allows for two sources of chance: another seed trains another model, and other test classes
are easier or harder. Technically, it is a mixed model with random effects of seeds and classes, with Satterthwaite degrees of
freedom and Tukey's correction for comparing several methods; the module `dmlbench/tables/significance.py` describes it. The
scenarios differ in the source of variance that dominates.
"""


def page() -> str:
    """Return the page."""
    sections = {
        "Type I error rate": (
            f"Percentage of {STUDIES_OF_EQUAL_METHODS:,} simulated studies with {CLASSES} classes in which equal methods "
            f"differ significantly at the {100 * LEVEL:.0f} % level: with two methods, and for the best of seven methods "
            "against the worst. For comparison, the last two columns show tests that account for only one source of variance, "
            f"in {STUDIES:,} studies of two methods.",
            type_1_error_rates(),
        ),
        "Power": (
            f"Percentage of {STUDIES:,} studies in which a true difference of three standard errors is significant. The "
            "theoretical power is that of a t test that knows the true standard error and has the estimated degrees of "
            "freedom.",
            power(),
        ),
        "Coverage of the interval of a difference": (
            f"Percentage of {STUDIES:,} studies with a true difference of 30 points in which the 95 % interval of "
            "`dmlbench compare` contains it: with classes of equal size, and with classes of 2, 10, 18 or 30 queries.",
            difference_coverage(),
        ),
        "Coverage of the interval of a mean over seeds": (
            f"Percentage of {10 * STUDIES:,} samples of normally distributed scores in which the 95 % interval contains the "
            "true mean.",
            mean_coverage(),
        ),
    }
    parts = [OPENING]
    for title, (description, lines) in sections.items():
        heading, *body = ["| " + " | ".join(line) + " |" for line in lines]
        parts.append(f"## {title}\n\n{description}\n\n" + "\n".join([heading, "|" + " --- |" * len(lines[0]), *body]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    text = page()
    print(text)
    if "--print" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
