"""Simulate the error rates of the significance test of tables and `dmlbench compare`; writes docs/significance.md.

python scripts/simulate_significance.py           write the page (takes some minutes)
python scripts/simulate_significance.py --print   only print the page
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import stats

from dmlbench.tables.confidence import t_interval
from dmlbench.tables.significance import LEVEL
from dmlbench.tables.variance_components import Study, difference_variance

STUDIES = 10_000
BLOCK = 500  # studies that are simulated at a time
METHODS = 7
PAGE = Path(__file__).resolve().parents[1] / "docs" / "significance.md"


@dataclass(frozen=True)
class Scenario:
    """How class means of studies arise: standard deviations of random effects, and what differs from the simplest case.

    Args:
        name: Name in the tables of the page.
        stream: Part of the seed of its random numbers.
        seed: Standard deviation of the effect of a seed on all class means of a method.
        by_class: Of the effect of a class on a method.
        residual: Of what is left, per method, seed and class, for a class of average size.
        n_classes: Number of classes.
        shared_seeds: Correlation of the effects of one seed on two methods.
        noise: Factor of all standard deviations of the first method.
        class_noise: Factor of the standard deviation of the class effects of the first half of the methods.
        seed_noise: Factor of the standard deviation of its seed effect alone.
        groups: Number of classes in each group; empty without groups.
        alike: Correlation of the class effects within a group.
        zipf: Whether the number of queries of the n-th class is proportional to 1 / n.
        large: Number of large classes, and number of queries of each; other classes have 20.
    """

    name: str
    stream: int
    seed: float
    by_class: float
    residual: float
    n_classes: int = 100
    shared_seeds: float = 0.0
    noise: float = 1.0
    seed_noise: float = 1.0
    class_noise: float = 1.0
    groups: tuple[int, ...] = ()
    alike: float = 0.0
    zipf: bool = False
    large: tuple[int, int] = (0, 20)

    @property
    def counts(self) -> np.ndarray:
        """Number of queries of each class."""
        rank = np.arange(1, self.n_classes + 1)
        if self.zipf:
            return np.maximum(2.0, np.round(20 * self.n_classes / rank / (1 / rank).sum()))
        return np.where(rank <= self.large[0], self.large[1], 20.0)

    @property
    def weights(self) -> np.ndarray:
        """Weight of each class."""
        return np.asarray(self.counts / self.counts.sum())

    @property
    def group_of(self) -> np.ndarray | None:
        """Index of the group of each class."""
        return np.repeat(np.arange(len(self.groups)), self.groups) if self.groups else None

    def draw(self, rng: np.random.Generator, n_studies: int, n_methods: int, n_seeds: int) -> np.ndarray:
        """Draw class means of equal methods, `(n_studies, M, S, C)`.

        Args:
            rng: Random generator.
            n_studies: Number of studies.
            n_methods: Number of methods M.
            n_seeds: Number of seeds S.
        """
        normal = rng.standard_normal
        factor, seed_factor = np.ones((2, 1, n_methods, 1, 1))
        factor[0, 0], seed_factor[0, 0] = self.noise, self.noise * self.seed_noise
        own, common = normal((n_studies, n_methods, n_seeds, 1)), normal((n_studies, 1, n_seeds, 1))
        seeds = self.seed * seed_factor * (self.shared_seeds**0.5 * common + (1 - self.shared_seeds) ** 0.5 * own)
        half = np.where(np.arange(n_methods) < n_methods // 2, self.class_noise, 1.0)[:, None, None]
        classes = normal((n_studies, n_methods, 1, self.n_classes))
        if self.group_of is not None:
            of_group = normal((n_studies, n_methods, 1, len(self.groups)))[..., self.group_of]
            classes = self.alike**0.5 * of_group + (1 - self.alike) ** 0.5 * classes
        size = (self.counts.mean() / self.counts) ** 0.5
        residual = self.residual * size * normal((n_studies, n_methods, n_seeds, self.n_classes))
        shared = 0.5 + 0.15 * normal((n_studies, 1, 1, self.n_classes))
        found: np.ndarray = shared + seeds + factor * (self.by_class * half * classes + residual)
        return found

    def true_error(self, n_seeds: int) -> float:
        """Return the standard error of the difference of two methods that are not the first one.

        Args:
            n_seeds: Number of seeds.
        """
        weights, size = self.weights, self.counts.mean() / self.counts
        of_class = float((weights**2).sum())
        if self.group_of is not None:
            of_group = np.bincount(self.group_of, weights)
            of_class = self.alike * float((of_group**2).sum()) + (1 - self.alike) * of_class
        variance = self.seed**2 * (1 - self.shared_seeds) / n_seeds + self.by_class**2 * of_class
        return float((2 * (variance + self.residual**2 * float((weights**2 * size).sum()) / n_seeds)) ** 0.5)


_BOTH, _SEEDS, _CLASSES = (0.005, 0.05, 0.05), (0.010, 0.02, 0.03), (0.001, 0.08, 0.03)
_OMNIGLOT = (24, 22, 24, 40, 17)  # characters of its test alphabets
_UNEQUAL = (25, 15, 12, 10, 8, 6, 5, 5, 4, 3, 2, 2, 1, 1, 1)
INDEPENDENT = (
    Scenario("seed variance dominates", 14, *_SEEDS),
    Scenario("class variance dominates", 16, *_CLASSES),
    Scenario("both contribute", 11, *_BOTH),
    Scenario("residual variance only", 23, 0.0, 0.0, 0.05),
)
OTHERS = (
    Scenario("20 groups of 5 classes, correlation .1", 31, *_BOTH, groups=(5,) * 20, alike=0.1),
    Scenario("20 groups of 5 classes, correlation .3", 32, *_BOTH, groups=(5,) * 20, alike=0.3),
    Scenario("20 groups of 5 classes, correlation .5", 33, *_BOTH, groups=(5,) * 20, alike=0.5),
    Scenario("5 groups of 20 classes, correlation .3", 34, *_BOTH, groups=(20,) * 5, alike=0.3),
    Scenario("15 groups of 1 to 25 classes, correlation .3", 35, *_BOTH, groups=_UNEQUAL, alike=0.3),
    Scenario("Omniglot's 5 groups of 17 to 40 classes, correlation .5", 43, *_BOTH, 127, groups=_OMNIGLOT, alike=0.5),
    Scenario("2 groups of 30 classes and 10 of 4, correlation .5", 44, *_BOTH, groups=(30, 30, *(4,) * 10), alike=0.5),
    Scenario(
        "5 groups of 20 classes, half of the methods vary 3 times more", 47, *_BOTH, class_noise=3, groups=(20,) * 5, alike=0.5
    ),
    Scenario("2 classes of 1,000 queries and 48 of 20", 45, *_CLASSES, n_classes=50, large=(2, 1000)),
    Scenario("3 classes of 500 queries and 47 of 20", 46, *_CLASSES, n_classes=50, large=(3, 500)),
    Scenario("one method 5 times noisier, both contribute", 36, *_BOTH, noise=5),
    Scenario("one method 5 times noisier, seeds dominate", 37, *_SEEDS, noise=5),
    Scenario("its seeds alone 5 times noisier, seeds dominate", 38, *_SEEDS, seed_noise=5),
    Scenario("Zipf's law of queries, 50 classes, both contribute", 39, *_BOTH, n_classes=50, zipf=True),
    Scenario("Zipf's law of queries, 50 classes, classes dominate", 40, *_CLASSES, n_classes=50, zipf=True),
    Scenario("seeds shared, correlation .5, seeds dominate", 41, *_SEEDS, shared_seeds=0.5),
    Scenario("seeds shared, correlation .9, seeds dominate", 42, *_SEEDS, shared_seeds=0.9),
)


# Points between which critical values are interpolated, descending.
_DEGREES_OF_FREEDOM = np.concatenate([np.linspace(1, 8, 57), np.linspace(8.5, 40, 64), [60, 100, 200, 1000, 1e6]])[::-1]


@cache
def _exact_critical_value(n_methods: int, degrees_of_freedom: float) -> float:
    if n_methods == 2:
        return float(stats.t.isf(LEVEL / 2, degrees_of_freedom))
    return float(stats.studentized_range.isf(LEVEL, n_methods, degrees_of_freedom) / 2**0.5)


def critical_value(n_methods: int, degrees_of_freedom: np.ndarray) -> np.ndarray:
    """Return the ratio of a difference to its standard error above which `Spread.p_value` is at most `LEVEL`.

    It is interpolated, because the studentised range takes milliseconds per value; only points next to a value are computed.

    Args:
        n_methods: Number of methods.
        degrees_of_freedom: Degrees of freedom `(N,)`.
    """
    points, wanted = 1 / _DEGREES_OF_FREEDOM, 1 / degrees_of_freedom
    right = np.clip(np.searchsorted(points, wanted), 1, len(points) - 1)
    used = np.unique([right - 1, right])
    return np.interp(wanted, points[used], [_exact_critical_value(n_methods, float(_DEGREES_OF_FREEDOM[i])) for i in used])


def pooled_variance(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Return variance and degrees of freedom of the test that dmlbench used before, for comparison.

    It assumes independent classes, seeds nested within methods, and equal variances of all methods. Deviations of classes were
    scaled with their weights.

    Args:
        study: Class means of studies.
    """
    overall = (study.means @ study.weights)[..., None]
    means = overall + (study.means - overall) * study.weights * len(study.weights)
    n_methods, n_seeds, n_classes = means.shape[1:]
    of_seed, of_class = means.mean(3, keepdims=True), means.mean(2, keepdims=True)
    of_method = of_seed.mean(2, keepdims=True)
    interaction = of_class - of_method - means.mean((1, 2), keepdims=True) + means.mean((1, 2, 3), keepdims=True)
    free = np.array([n_methods * (n_seeds - 1), (n_methods - 1) * (n_classes - 1), n_methods * (n_seeds - 1) * (n_classes - 1)])
    squares = (
        n_classes * np.square(of_seed - of_method),
        n_seeds * np.square(interaction),
        np.square(means - of_seed - of_class + of_method),
    )
    seed, by_class, residual = (one.sum((1, 2, 3)) / number for one, number in zip(squares, free, strict=True))
    total, largest = seed + by_class - residual, np.maximum(seed, by_class)
    satterthwaite = total**2 / (seed**2 / free[0] + by_class**2 / free[1] + residual**2 / free[2])
    alone = np.where(seed >= by_class, free[0], free[1])
    truncated = total <= largest
    return 2 * np.where(truncated, largest, total) / (n_seeds * n_classes), np.where(truncated, alone, satterthwaite)


@dataclass(frozen=True)
class Rates:
    """Percentages of studies.

    Args:
        found: In which the difference is significant.
        found_by_pooled: In which it is significant in the test with pooled variances.
        covered: In which the 95 % interval contains the true difference of the first two methods.
        half_width: Mean half width of the interval.
    """

    found: float
    found_by_pooled: float
    covered: float
    half_width: float


def simulate(scenario: Scenario, n_methods: int, n_seeds: int, difference: float = 0.0, extremes: bool = True) -> Rates:
    """Simulate studies and test them.

    Args:
        scenario: How class means arise.
        n_methods: Number of methods.
        n_seeds: Number of seeds.
        difference: True difference of the second method from all others.
        extremes: Whether to test the best method against all others, as a table does, and count the studies in which any
            differs significantly; otherwise, the second one is tested against the last one.
    """
    rng = np.random.default_rng([n_methods, n_seeds, scenario.stream, int(1e6 * difference)])
    rows = [_test(study, difference, extremes) for study in _studies(scenario, rng, n_methods, n_seeds, difference)]
    return Rates(*np.concatenate(rows, axis=1).mean(1).tolist())


def _studies(scenario: Scenario, rng: np.random.Generator, n_methods: int, n_seeds: int, difference: float) -> Iterator[Study]:
    for _ in range(STUDIES // BLOCK):
        means = scenario.draw(rng, BLOCK, n_methods, n_seeds)
        means[:, 1] += difference
        yield Study(means, scenario.weights, scenario.group_of)


def _test(study: Study, difference: float, extremes: bool) -> np.ndarray:
    """Return the fields of `Rates` for each study, `(4, N)`."""
    averages, n_methods = study.method_means(), study.means.shape[1]
    variance, degrees_of_freedom = difference_variance(study, 0, 1)
    half_width = critical_value(2, degrees_of_freedom) * variance**0.5
    covered = np.abs(averages[:, 1] - averages[:, 0] - difference) <= half_width
    better, others = 1, [0 if n_methods == 2 else n_methods - 1]
    if extremes:
        order = np.argsort(-averages, axis=1)
        study = Study(np.take_along_axis(study.means, order[:, :, None, None], 1), study.weights, study.groups)
        averages, better, others = study.method_means(), 0, list(range(1, n_methods))
    found = np.zeros((2, len(averages)), dtype=bool)
    for worse in others:
        gain = averages[:, better] - averages[:, worse]
        variance, free = difference_variance(study, better, worse)
        found[0] |= gain > critical_value(n_methods, free) * variance**0.5
    variance, free = pooled_variance(study)  # the same for all pairs, so the last one has the largest difference
    found[1] = gain > critical_value(n_methods, free) * variance**0.5
    return np.stack([*found, covered, half_width])


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in (heading, *rows)]
    return "\n".join([lines[0], "|" + " --- |" * len(heading), *lines[1:]])


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}%"


def type_1_error_rates(scenarios: Sequence[Scenario], seeds: Sequence[int]) -> str:
    """Return a table of how often equal methods differ significantly, and of the coverage of the interval.

    Args:
        scenarios: Scenarios.
        seeds: Numbers of seeds.
    """
    rows = []
    for scenario in scenarios:
        for n_seeds in seeds:
            two, best = simulate(scenario, 2, n_seeds), simulate(scenario, METHODS, n_seeds)
            found = (two.found, best.found, two.covered, best.covered, two.found_by_pooled, best.found_by_pooled)
            rows.append([scenario.name, str(n_seeds), *map(_percent, found)])
    heading = ["scenario", "seeds", "two methods", "any of seven", "coverage, two", "coverage, seven"]
    return _table([*heading, "pooled: two methods", "pooled: any of seven"], rows)


def power(scenarios: Sequence[Scenario], seeds: Sequence[int]) -> str:
    """Return a table of how often a true difference of three standard errors is significant.

    Args:
        scenarios: Scenarios.
        seeds: Numbers of seeds.
    """
    rows = []
    for scenario in scenarios:
        for n_seeds in seeds:
            difference = 3 * scenario.true_error(n_seeds)
            two, one_of_seven = (simulate(scenario, n, n_seeds, difference, extremes=False) for n in (2, METHODS))
            found = (two.found, two.found_by_pooled, one_of_seven.found, one_of_seven.found_by_pooled)
            points = [f"{100 * difference:.2f}", f"{100 * two.half_width:.2f}"]
            rows.append([scenario.name, str(n_seeds), *points, *map(_percent, found)])
    heading = ["scenario", "seeds", "difference", "half width", "two methods", "pooled", "one of seven", "pooled"]
    return _table(heading, rows)


def mean_coverage() -> str:
    """Return a table of how often the interval of a mean over seeds contains the true mean, one row per number of seeds."""
    rows = []
    for n_seeds in (3, 5, 10):
        rng = np.random.default_rng([9, n_seeds])
        covered = []
        for _ in range(STUDIES):
            mean, half_width = t_interval((0.5 + 0.01 * rng.standard_normal(n_seeds)).tolist())
            covered.append(half_width is not None and abs(mean - 0.5) <= half_width)
        rows.append([str(n_seeds), _percent(float(np.mean(covered)))])
    return _table(["seeds", "coverage"], rows)


OPENING = """\
# The significance test: error rates

Generated by `scripts/simulate_significance.py`. Tables and `dmlbench compare` use the same test. It asks whether a difference
is larger than chance explains, and allows for two sources of chance: another seed trains another model, and other test
classes are easier or harder.

- **Seeds** are crossed with methods: all methods use the same seeds, so what a seed changes in all of them cancels.
- **Classes** are crossed with methods as well. If the data set has groups of classes (alphabets, genera, makes of cars),
  groups are taken as independent instead of classes. It needs at least 5 groups. Without groups, classes are taken as
  independent, and the caption says so.
- **Variances** may differ between methods, and classes may have different numbers of queries.
- **Several methods** are compared with the best one by the studentised range, with the variance and the degrees of freedom of
  each pair (Games and Howell). With three methods or more, the variance of seeds is pooled over methods, and so is that of
  classes or groups if there are fewer than 20, in units of the residual standard deviation of each method. The
  difference from a method that varies significantly more than the others has its own variance, unless the pooled one is larger.
  The pool contains this method too, so that it widens the intervals of all other pairs.
- **Unequal weights.** If a few classes have most of the queries, or a few groups most of the classes, the variance has fewer
  degrees of freedom. Groups that are worth fewer than 4 groups of equal size are refused.

The module `dmlbench/tables/variance_components.py` describes the model. The columns "pooled" show the test of earlier
versions, which nested seeds in methods, pooled the variance of all methods, and took classes as independent. Each number
comes from 10,000 studies; the standard error of a rate of 5 % is 0.2 points.
"""

LIMITS = """\
## Limits

- **One split of the classes.** All methods are trained on the same training classes. Which classes these are is in no
  interval. Several splits show how much it matters: `dmlbench sweep +sweep=splits`.
- **Two seeds.** If the seeds of one method alone vary much more than those of the others, two seeds cannot show it, and the
  test finds differences too often (see the rows with 2 seeds). Use three seeds or more.
- **Three seeds of two methods** that vary unequally: up to 7 % false alarms instead of 5 %.
- **Price of unequal variances.** With few seeds, the seed variance of a method is hardly known, so differences that are due
  to seeds are found less often than by the pooled test, if the pooled test's assumption of equal variances holds. Where
  methods share the effects of seeds, more is found.
- **Residual variance only.** If neither seeds nor classes have effects of their own, the test is conservative: negative
  estimates of variance components count as zero.
- **Few groups.** With five groups, differences between two methods have to be large. Your own data set should have ten
  groups or more. If there are many methods and half of them vary much more between five groups than the others, false alarms
  may exceed the level.
- **Large classes.** If one class has most of the queries, the test is conservative. If three of fifty have most of them: up to
  7 % false alarms instead of 5 %.
- **Effects of the groups are those of the test groups.** Groups that also occur among the training classes are not treated
  differently.
"""


def page() -> str:
    """Return the page."""
    level = f"{100 * LEVEL:.0f} %"
    few = [scenario for scenario in OTHERS if scenario.noise * scenario.seed_noise != 1]
    unequal = [*few, *(scenario for scenario in OTHERS if scenario.class_noise != 1)]
    same_variance = [*INDEPENDENT, *(scenario for scenario in OTHERS if scenario not in unequal)]
    parts = [
        OPENING,
        "## Independent classes of equal variance\n",
        f"Percentage of studies with 100 classes in which equal methods differ significantly at the {level} level: with two "
        "methods, and any of seven methods from the best one. Coverage is the percentage of studies in which the 95 % interval "
        "of the difference of two methods contains the true one.\n",
        type_1_error_rates(INDEPENDENT, (2, 3, 5)),
        "\n## Groups of classes, unequal variances, unequal numbers of queries, shared seeds\n",
        type_1_error_rates(OTHERS, (3, 5)),
        "\nWith two seeds:\n",
        type_1_error_rates(few, (2,)),
        "\n## Power\n",
        "Percentage of studies in which a true difference of three standard errors is significant, between two methods, and "
        "between two of seven. The difference and the half width of its 95 % interval (two methods) are in points. If false "
        "alarms of the pooled test exceed 5 %, its power does not mean anything.\n",
        power(same_variance, (3, 5)),
        "\n## Coverage of the interval of a mean over seeds\n",
        "Percentage of samples of normally distributed scores in which the 95 % interval contains the true mean.\n",
        mean_coverage(),
        "\n" + LIMITS,
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    text = page()
    print(text)
    if "--print" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
