"""Checks that build what a run builds before its first step, so that a refused run leaves no file."""

from __future__ import annotations

from dmlbench.config.instantiate import build
from dmlbench.config.plan import Plan
from dmlbench.data.folds import training_splits
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.models.embedder import build_embedder
from dmlbench.training.batch_gradients import refuse_divided_batches
from dmlbench.training.epoch_sampler import EpochSampler, training_labels
from dmlbench.training.optimization import parameter_groups
from dmlbench.training.trained_model import initial_objective


def check_plan(plan: Plan, split: Split) -> None:
    """Build model, loss and optimizer, and sample the batches of one epoch. Nothing is trained or written.

    Args:
        plan: The plan of a run.
        split: Its data set, before any fold is held out.

    Raises:
        UserError: A constructor refuses its arguments, the model cannot be trained in chunks or in several processes, or the
            training images do not suffice for the batches.
    """
    try:
        model, objective = build_embedder(plan), initial_objective(plan)
        if objective is None:
            return
        refuse_divided_batches(model.train(), plan.protocol)
        smallest = min(training_splits(split, plan.protocol), key=lambda part: len(part.ids("train")))
        EpochSampler(plan, training_labels(smallest))(0)
        groups = parameter_groups(model, objective, plan)
    except UserError:
        raise
    except Exception:  # a bug in code of the user, which the run itself reports with its traceback
        return
    try:
        build("optimizer", plan.optimizer, groups)
    except RuntimeError as error:  # torch raises it for arguments that exclude each other
        target = plan.optimizer["_target_"]
        raise UserError(f"optimizer: {target} refuses its arguments: {str(error).splitlines()[0]}") from error
