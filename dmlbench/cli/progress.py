"""Output of the commands that run jobs: lines while they run and when they end, and the exit status."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dmlbench.cli.arguments import print_error
from dmlbench.results.formatting import format_duration, metric_label

if TYPE_CHECKING:
    from dmlbench.results.row import Row
    from dmlbench.runs.runner import Outcome


def printer_without_repeats() -> Callable[[str], None]:
    """Return a function that prints a line unless it has printed it before, because the jobs of a sweep share most lines."""
    printed: set[str] = set()

    def report(line: str) -> None:
        if line not in printed:
            printed.add(line)
            print(line, flush=True)

    return report


def outcome_printer(total: int) -> Callable[[Outcome], None]:
    """Return a function that prints each outcome, with the number of ended jobs and the estimated time left.

    An error that ended several jobs is printed once; their number follows when the last job has ended.

    Args:
        total: Number of jobs.
    """
    ended, last = 0, time.monotonic()
    durations: list[float] = []
    errors: dict[str, list[str]] = {}  # error to the jobs that it ended

    def on_end(outcome: Outcome) -> None:
        nonlocal ended, last
        now = time.monotonic()
        if outcome.status == "done":
            durations.append(now - last)
        ended, last = ended + 1, now
        left = total - ended
        estimate = f", about {format_duration(left * sum(durations) / len(durations))} left" if durations and left else ""
        jobs = errors.setdefault(_without_folder(outcome), [])
        jobs.append(outcome.job)
        if outcome.error is None or len(jobs) == 1:
            print_outcome(outcome, f"[{ended} of {total}{estimate}] " if total > 1 and left >= 0 else "")
        if not left:
            _print_repeats([jobs for error, jobs in errors.items() if error and len(jobs) > 1])

    return on_end


def _without_folder(outcome: Outcome) -> str:
    """The error of a job without the directory of its run, which is another one for each job; empty without an error."""
    return (outcome.error or "").replace(str(outcome.folder), "")


def _print_repeats(repeated: Sequence[Sequence[str]]) -> None:
    for first, *others in repeated:
        print_error(f"{len(others)} more {'job' if len(others) == 1 else 'jobs'} ended with the same error as {first}")


def print_outcome(outcome: Outcome, prefix: str = "") -> None:
    """Print how a job ended, on one line: errors to standard error, everything else to standard output.

    Args:
        outcome: How it ended.
        prefix: Text before the name of the job; not empty if there are several jobs.
    """
    if outcome.row is not None and outcome.row.ok:
        seconds = outcome.row.number("train_seconds") or 0.0
        how = f"trained in {seconds:.0f} s" if outcome.row.get("loss_kind") != "none" else "no training"
        how = "already done" if outcome.status == "skipped" else how
        print(f"{prefix}{outcome.job}: {headline(outcome.row)}  ({how}: {outcome.folder})", flush=True)
    elif outcome.row is not None:
        print(f"{prefix}{outcome.job}: failed: {outcome.row['reason']}  ({outcome.folder})", flush=True)
    elif outcome.status == "tuned":
        print(f"{prefix}{outcome.job}: {_tuning_result(outcome)}", flush=True)
    elif outcome.status == "locked":
        print(f"{prefix}{outcome.job}: another process is executing it", flush=True)
    else:
        sys.stdout.flush()
        is_named = prefix or outcome.status == "crash"
        print_error(f"{outcome.job}: {outcome.error}" if is_named else str(outcome.error))


def _tuning_result(outcome: Outcome) -> str:
    if outcome.tuned is None:
        return "its file has no search space, so there is nothing to tune"
    tuned = outcome.tuned
    metric = metric_label(str(tuned.get("tuned_metric", "map_at_r")))
    return (
        f"validation {metric} {tuned['tuned_score']:.1%} at trial {tuned['tuned_trial']} of {tuned['n_tuning_trials']}, with "
        f"{tuned['tuned_values']}  ({outcome.folder})"
    )


def headline(row: Row) -> str:
    """Return the main metrics of a row, in percent.

    Args:
        row: A row of a finished run.
    """
    named = (("R@1", row.get("recall_at_1")), ("MAP@R", row.get("map_at_r")))
    return "  ".join(f"{name} {value:.1%}" for name, value in named if isinstance(value, float))


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """Return 1 if a job crashed or failed, 2 if one has a user error, else 0.

    Args:
        outcomes: How the jobs ended.
    """
    if any(outcome.status == "crash" or (outcome.row is not None and not outcome.row.ok) for outcome in outcomes):
        return 1
    return 2 if any(outcome.status == "user_error" for outcome in outcomes) else 0
