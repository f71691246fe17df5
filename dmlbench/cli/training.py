"""`dmlbench train`, `sweep` and `tune`: words to runs, and what is said of them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.cli.reading import say_refused
from dmlbench.cli.words import complain, find_own_code, take_config_dir

TRIALS = 20  # of `dmlbench tune`, where none are said; as many as conf/sweep/tuned.yaml has

if TYPE_CHECKING:
    from dmlbench.launch import Outcome
    from dmlbench.rows import Row


def train(words: list[str]) -> int:
    """`dmlbench train`: every job of the words, waiting for one that another process is at."""
    return _status(_launched(_with_preset(words), wait=True, each=_say_end))


def tune(words: list[str]) -> int:
    """`dmlbench tune`: the trials of each loss, and no run with what they found."""
    words = [re.sub(r"^trials=", "tuning.trials=", word) for word in _multirun(words)]
    if not any(word.startswith(("tuning.trials=", "sweep=")) for word in words):
        words.append(f"tuning.trials={TRIALS}")
    words = _with_preset([*words, "tuning.only=true"])
    return _status(_launched(words, wait=True, each=_say_end_of([words])))


def sweep(words: list[str]) -> int:
    """`dmlbench sweep`: every job, then the table of their rows."""
    parts = [_with_preset(part) for part in sweep_words(words)]
    say = _say_end_of(parts)
    outcomes = [outcome for part in parts for outcome in _launched(part, wait=False, each=say)]
    if busy := {outcome.job for outcome in outcomes if outcome.status == "busy"}:
        print("waiting for the runs that another process is at")
        outcomes = [outcome for outcome in outcomes if outcome.job not in busy]
        for part in parts:  # what failed in that process is not run again here
            again = [word for word in part if not word.startswith("retry=")]
            outcomes += _launched(again, wait=True, each=_say_end, only=busy)
    folders = [outcome.folder for outcome in outcomes if outcome.folder is not None and outcome.status != "mistake"]
    if folders:
        config_dir = take_config_dir(words)[0]
        _write_tables(folders, Path(config_dir) if config_dir else None)
    return _status(outcomes)


def sweep_words(words: list[str]) -> list[list[str]]:
    """The words of a sweep as Hydra's: multirun, the seven losses unless others are named, and always the untrained trunk.

    Where losses are named, the untrained trunk is a part of its own: it has none of the values (`loss.make.margin=0.1,0.3`)
    that are swept over.
    """
    words = _multirun(words)
    losses = [word for word in words if word.startswith("loss=")]
    if any(word.startswith("preset=") and word != "preset=none" for word in words):
        return _a_part_each(words, losses[-1].removeprefix("loss=").split(",") if losses else [])
    own = re.compile(r"\+{0,2}~?loss[.=]")
    untrained = [*(word for word in words if not own.match(word)), "loss=untrained"]
    if losses:
        named = losses[-1].removeprefix("loss=").split(",")
        return [words] if "untrained" in named or "--cfg" in words else [untrained, words]
    if any(word.startswith("sweep=") for word in words):
        return [*_untrained_beside(words, untrained), words]
    words.insert(1, "sweep=seven")
    return [words]


def _untrained_beside(words: list[str], untrained: list[str]) -> list[list[str]]:
    """The untrained trunk as a part beside a file of `sweep/` that does not name it, with all else that is swept over."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from dmlbench.launchers import jobs_of

    find_own_code(take_config_dir(words)[0])
    try:
        jobs = jobs_of(_flags_last(words))
    except (HydraException, OmegaConfBaseException):  # told when it is its turn
        return []
    if any(name.startswith("loss=untrained ") for name in jobs.names):
        return []
    others = [f"{key}={value}" for key, value in jobs.params.items() if not re.match(r"loss(\.|$)", key)]
    return [[*untrained, *others, "hydra.sweeper.params=null"]]


def _multirun(words: list[str]) -> list[str]:
    """Words for several jobs; `+sweep=` and `sweep=` are the same."""
    return ["--multirun", *(re.sub(r"^\+sweep=", "sweep=", word) for word in words if word not in ("-m", "--multirun"))]


def _a_part_each(words: list[str], losses: list[str]) -> list[list[str]]:
    """A preset is a file a loss: each loss is a part of its own; the losses that the preset has, unless others are named.

    There is no untrained trunk among them: each loss may have a trunk and a protocol of its own.
    """
    from dmlbench.presets import available, chosen

    if not losses:
        name, dataset = (chosen(words, group) for group in ("preset", "dataset"))
        files = available(take_config_dir(words)[0]).get(name, [])
        losses = [file.removesuffix(f"_{dataset}") for file in files if file.endswith(f"_{dataset}")] or ["multi_similarity"]
    rest = [word for word in words if not word.startswith("loss=")]
    return [[*rest, f"loss={loss}"] for loss in losses]


def _with_preset(words: list[str]) -> list[str]:
    from dmlbench.presets import spelt_out

    return spelt_out(words, take_config_dir(words)[0])


def _launched(
    words: list[str], wait: bool, each: Callable[[Outcome], None], only: Container[str] | None = None
) -> list[Outcome]:
    """Run the jobs of some words, Hydra's and OmegaConf's errors reworded into one sentence each.

    Returns:
        An outcome a job; none where Hydra only printed something, as for `--cfg job`.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints a traceback and leaves with status 1
    find_own_code(take_config_dir(words)[0])
    from dmlbench.launchers import launch
    from dmlbench.mistakes import COMPOSING, reword

    try:
        return launch(_flags_last(words), wait, tell=_say_once(), each=each, only=only)
    except COMPOSING as error:
        raise reword(error, words) from error


def _flags_last(words: list[str]) -> list[str]:
    """Overrides first, then flags with their values: Hydra's parser takes no override after a flag's value."""
    overrides = [word for word in words if word.startswith("~") or ("=" in word and not word.startswith("-"))]
    return overrides + [word for word in words if word not in overrides]


def _say_once() -> Callable[[str], None]:
    """A printer that leaves out what it printed before: the jobs of a sweep share most of what they announce."""
    said: set[str] = set()

    def say(line: str) -> None:
        if line not in said:
            said.add(line)
            print(line, flush=True)

    return say


def _say_end_of(parts: Sequence[Sequence[str]]) -> Callable[[Outcome], None]:
    """A printer of ended jobs that also says how many are left, and how long these may take."""
    import time

    from dmlbench.launchers import jobs_of

    try:
        total = sum(len(jobs_of(_flags_last(list(part))).names) for part in parts)
    except Exception:  # words that Hydra will not parse: it says so itself, when it is its turn
        total = 0
    ended, last, took = 0, time.monotonic(), []

    def say(outcome: Outcome) -> None:
        nonlocal ended, last
        now = time.monotonic()
        if outcome.status == "done":
            took.append(now - last)
        ended, last = ended + 1, now
        left = total - ended
        about = f", about {_duration(left * sum(took) / len(took))}" if took and left else ""
        _say_end(outcome, f"[{ended} of {total}{about}] " if total > 1 and left >= 0 else "")

    return say


def _duration(seconds: float) -> str:
    """How long, in the greatest unit that fits.

    >>> _duration(40), _duration(4000), _duration(100_000)
    ('40 s', '67 min', '27.8 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _say_end(outcome: Outcome, ahead: str = "") -> None:
    if outcome.row is not None and outcome.row.ok:
        numbers = headline(outcome.row)
        said = "already done" if outcome.status == "skipped" else f"done in {outcome.row['train_seconds']:.0f} s of training"
        print(f"{ahead}{outcome.job}: {numbers}  ({said}: {outcome.folder})", flush=True)
    elif outcome.row is not None:
        print(f"{ahead}{outcome.job}: failed: {outcome.row['reason']}  ({outcome.folder})", flush=True)
    elif outcome.status == "tuned":
        print(f"{ahead}{outcome.job}: {_found(outcome)}", flush=True)
    elif outcome.status == "busy":
        print(f"{ahead}{outcome.job}: another process is at it")
    else:
        sys.stdout.flush()
        complain(f"{outcome.job}: {outcome.error}" if outcome.status == "accident" else str(outcome.error))


def _found(outcome: Outcome) -> str:
    """What a search came to."""
    if outcome.tuned is None:
        return "its file names no search space; there is nothing to tune"
    of = outcome.tuned
    return (
        f"validation MAP@R {of['tuned_score']:.1%} at trial {of['tuned_trial']} of {of['n_tuning_trials']}, with "
        f"{of['tuned_values']}  ({outcome.folder})"
    )


def headline(row: Row) -> str:
    """The numbers that a line has room for."""
    named = (("R@1", row.get("recall_at_1")), ("MAP@R", row.get("map_at_r")))
    return "  ".join(f"{name} {value:.1%}" for name, value in named if isinstance(value, float))


def _status(outcomes: Sequence[Outcome]) -> int:
    if any(outcome.status == "accident" or (outcome.row is not None and not outcome.row.ok) for outcome in outcomes):
        return 1
    return 2 if any(outcome.status == "mistake" for outcome in outcomes) else 0


def _write_tables(folders: Sequence[Path], config_dir: Path | None = None) -> None:
    """Print the table of these runs, and write it in every format beside them."""
    from dmlbench.render import FORMATS, render
    from dmlbench.rows import MISSING, read_rows, write_text
    from dmlbench.table import compare

    rows, refused = read_rows(*folders)
    say_refused(refused)
    ended = [row for row in rows if row["status"] != MISSING]
    if not ended:
        return
    tables = compare(rows, config_dir=config_dir)
    place = folders[0].parents[2] / "tables" / f"{ended[0]['dataset']}-{ended[0]['fingerprint']}"
    for name, suffix in FORMATS.items():
        write_text(Path(f"{place}{suffix}"), render(tables, name))
    print()
    print(render(tables, "markdown"))
    print(f"rows      {len(ended)}, each a row.json under {folders[0].parents[1]}")
    for name, suffix in FORMATS.items():
        print(f"{name:9} {place}{suffix}")
