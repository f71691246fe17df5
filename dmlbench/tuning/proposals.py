"""Propose hyper-parameters, and decide which trials to prune. The only module that uses optuna.

The storage of optuna is not used: for every trial, a study is built in memory from the finished trials. A trial therefore
depends only on its number and on the trials before it, and a killed process leaves no trial that seems to be running.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError
from dmlbench.system.seeding import derive_seed
from dmlbench.tuning.space import Choices, Range, Space
from dmlbench.tuning.trials import Trial

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

RANDOM_TRIALS = 10  # trials with random values before the sampler learns from trials; the default of optuna
PRUNED_AFTER_TRIALS = 5  # complete trials before any trial is pruned; the default of optuna


def require_optuna() -> None:
    """Refuse to tune without the packages that tuning needs.

    Raises:
        UserError: optuna or matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
        import optuna
    except ImportError as error:
        raise UserError(f"tuning needs optuna and matplotlib: pip install 'dmlbench[tune]' ({error})") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def propose(space: Space, finished: Sequence[Trial], running: Sequence[Mapping[str, Scalar]], seed: int) -> dict[str, Scalar]:
    """Propose the hyper-parameters of the next trial, with a tree-structured Parzen estimator.

    Args:
        space: Search space.
        finished: Finished trials.
        running: Hyper-parameters of trials that other processes are running; similar values are avoided.
        seed: Seed of this proposal.

    Returns:
        Hyper-parameters, by their key below `loss`.

    Source:
        Bergstra et al., NeurIPS 2011, as implemented in optuna with its default settings.
    """
    study = _study(space, finished, seed)
    from optuna.trial import TrialState, create_trial

    distributions = _distributions(space)
    for values in running:
        study.add_trial(create_trial(state=TrialState.RUNNING, params=dict(values), distributions=distributions))
    drawn = study.ask(distributions).params
    return {key: allowed.rounded(drawn[key]) if isinstance(allowed, Range) else drawn[key] for key, allowed in space.items()}


class Pruner:
    """Decides whether a trial has fallen behind: its best score so far is below the median of the others at the same step.

    Args:
        space: Search space of the study.
        finished: Finished trials.
        warmup: First step at which the trial may be pruned.
    """

    def __init__(self, space: Space, finished: Sequence[Trial], warmup: int) -> None:
        self._trial = _study(space, finished, 0, warmup).ask()

    def should_prune(self, step: int, score: float) -> bool:
        """Record a score, and return whether the trial should stop.

        Args:
            step: Step of the score, in epochs over all folds.
            score: Validation score, at most 1.
        """
        self._trial.report(score, step)
        return self._trial.should_prune()


def _study(space: Space, trials: Sequence[Trial], seed: int, warmup: int = 0) -> optuna.Study:
    """An optuna study in memory that contains these trials."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # about constant_liar, before optuna 5
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=RANDOM_TRIALS, constant_liar=True, seed=derive_seed(seed, "propose") % 2**32
        )
    pruner = optuna.pruners.MedianPruner(n_startup_trials=PRUNED_AFTER_TRIALS, n_warmup_steps=warmup)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    distributions, state = _distributions(space), optuna.trial.TrialState
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                state=state.PRUNED if trial.state == "pruned" else state.COMPLETE,
                value=trial.score,
                params=dict(trial.values),
                distributions=distributions,
                intermediate_values=dict(trial.intermediate_values),
            )
        )
    return study


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def distribution(allowed: Range | Choices) -> BaseDistribution:
        if isinstance(allowed, Choices):
            return CategoricalDistribution(allowed.choices)
        if allowed.whole:
            high = int(allowed.high // 1)
            return IntDistribution(int(allowed.low), high, log=allowed.log, step=int(allowed.step or 1))
        return FloatDistribution(allowed.low, allowed.high, log=allowed.log, step=allowed.step)

    return {key: distribution(allowed) for key, allowed in space.items()}
