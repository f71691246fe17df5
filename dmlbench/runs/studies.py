"""The hyper-parameter search that a configuration requests."""

from __future__ import annotations

from collections.abc import Mapping

from dmlbench.config.compose import Composed, Settings
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Scalar, Tuning
from dmlbench.errors import UserError
from dmlbench.runs.prepare import LoadSplit, load_split, plan_for, prepare
from dmlbench.system.seeding import derive_seed
from dmlbench.tuning.study import Study


def requested_study(composed: Composed, settings: Settings, load: LoadSplit = load_split) -> Study | None:
    """Make the hyper-parameter search of a configuration, if it requests one.

    Args:
        composed: Composed configuration.
        settings: Its values.
        load: Reads the data set.

    Returns:
        The search; None if none is requested, or the method trains nothing.

    Raises:
        UserError: A value is wrong.
    """
    if not settings.tuning.trials or settings.method.make is None:
        return None
    return make_study(composed, settings.tuning, load)


def make_study(composed: Composed, tuning: Tuning, load: LoadSplit = load_split) -> Study:
    """Make the hyper-parameter search of a configuration. Test images are not read.

    Args:
        composed: Composed configuration.
        tuning: Its budget.
        load: Reads the data set.

    Raises:
        UserError: A value is wrong, or the files of the data set contradict the declared facts.
    """
    base: dict[str, object] = {
        "seed": derive_seed(tuning.seed, "tuning"),
        "oracle": False,
        "protocol.fold": tuning.fold,
        "protocol.folds": tuning.folds,
    }
    if tuning.epochs is not None:
        base["protocol.epochs"] = tuning.epochs
    of_trials = composed.with_values(base)
    try:
        plan, split = prepare(of_trials, training_only=True, load=load)
    except UserError as error:  # the folds of the protocol are those of `tuning`
        raise UserError(str(error).replace("protocol.fold", "tuning.fold")) from None

    def plan_with(values: Mapping[str, Scalar]) -> Plan:
        return plan_for(of_trials.with_values({f"loss.{key}": value for key, value in values.items()}), split)

    study = Study(tuning, plan, plan_with, split)
    study.configured_values  # noqa: B018 -- checks the search space
    return study
