"""What to try next, and what to end early: the one module that knows optuna.

Optuna's own storage is not used: a study is made anew in memory, from the trials that ended, for every trial. So a trial
depends on its number, on the trials before it and on nothing else, and a killed process leaves no trial that seems to run.
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

RANDOM_TRIALS = 10  # drawn at random before the sampler learns from them: optuna's own number
PRUNED_AFTER_TRIALS = 5  # complete ones, before any is pruned: likewise


def require_optuna() -> None:
    """Refuse to begin where what tuning needs is not installed."""
    try:
        import matplotlib  # noqa: F401
        import optuna
    except ImportError as error:
        raise UserError(f"tuning needs optuna and matplotlib: pip install 'dmlbench[tune]' ({error})") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def propose(space: Space, before: Sequence[Trial], at_work: Sequence[Mapping[str, Scalar]], seed: int) -> dict[str, Scalar]:
    """The values to try next, by a tree-structured Parzen estimator.

    Args:
        space: to draw from.
        before: trials that ended.
        at_work: values that other processes are trying, which are better not tried again.
        seed: of this draw.

    Source:
        Bergstra et al., NeurIPS 2011, as in optuna; its defaults.
    """
    study = _study(space, before, seed)
    from optuna.trial import TrialState, create_trial

    distributions = _distributions(space)
    for values in at_work:
        study.add_trial(create_trial(state=TrialState.RUNNING, params=dict(values), distributions=distributions))
    drawn = study.ask(distributions).params
    return {key: allowed.rounded(drawn[key]) if isinstance(allowed, Range) else drawn[key] for key, allowed in space.items()}


class Pruner:
    """Says when a trial has fallen behind: its best look so far is below the median of the others at the same step.

    Args:
        space: of the study.
        before: trials that ended.
        warmup: the first step at which a trial may end.
    """

    def __init__(self, space: Space, before: Sequence[Trial], warmup: int) -> None:
        self._trial = _study(space, before, 0, warmup).ask()

    def ends(self, step: int, score: float) -> bool:
        """Report a look, and ask whether the trial should end."""
        self._trial.report(score, step)
        return self._trial.should_prune()


def _study(space: Space, trials: Sequence[Trial], seed: int, warmup: int = 0) -> optuna.Study:
    """A study in memory with these trials in it."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of constant_liar, before optuna 5
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
