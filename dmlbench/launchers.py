"""Floor 6.5: words to Hydra, whose launcher runs the jobs: one after the other here, or in processes elsewhere."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dmlbench.configs import conf_dir
from dmlbench.errors import UserError
from dmlbench.launch import Outcome, Status, compose_with_hydra, prefer_own_launchers, run_job
from dmlbench.ledger import Event, Ledger
from dmlbench.rows import ROW_FILE, read_row

BASIC = "basic"  # Hydra's own launcher: one job after the other, in this process
PASSED_ON = ("trial ", "tuning ")  # how lines begin that are worth a look while a job is at work elsewhere
MOST_LOST = 2  # times that the process of a job alone may be lost, or all processes before a job starts


def launch(
    words: Sequence[str],
    wait: bool,
    tell: Callable[[str], None],
    each: Callable[[Outcome], None],
    only: Container[str] | None = None,
) -> list[Outcome]:
    """Hand words to Hydra and run the jobs it makes of them: one after the other, or as its launcher does.

    Args:
        words: overrides and flags of Hydra's grammar, such as `loss=triplet`, `--cfg job`, `--multirun`.
        wait: wait for a run that another process is at; else it is `busy`.
        tell: prints a line.
        each: called with every job's outcome as it ends.
        only: names of jobs; None for all.

    Returns:
        An outcome a job; none where Hydra only printed something (`--cfg`).

    Raises:
        HydraException, OmegaConfBaseException: the words do not compose.
    """
    outcomes: list[Outcome] = []
    jobs = jobs_of(words) if _several(words) else Jobs()
    if jobs.launcher != BASIC:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # joblib's processes share our terminal, and nobody else ends them
        parent = os.getpid() if jobs.launcher == "joblib" else None
        name = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
        job_elsewhere = RemoteJob(Ledger(jobs.runs.absolute() / ".sweep" / name), wait, jobs.swept, parent)
        return Fleet(words, jobs, job_elsewhere, tell, each, only).run()

    def job(cfg: DictConfig) -> None:
        name, choices, overrides = _of_hydra(cfg, jobs.swept)
        if only is None or name in only:
            outcomes.append(run_job(cfg, choices, wait, tell, overrides, name))
            each(outcomes[-1])

    _under_hydra(job, words)
    return outcomes


def _under_hydra(job: Callable[[DictConfig], None], words: Sequence[str]) -> None:
    GlobalHydra.instance().clear()
    prefer_own_launchers()
    before, sys.argv = sys.argv, ["dmlbench", *words]
    try:
        hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(job)()
    finally:
        sys.argv = before


def _of_hydra(cfg: DictConfig, swept: Sequence[str]) -> tuple[str, Mapping[str, str], list[str]]:
    """The name in print of the job that Hydra is at, the chosen file of each group, and its words."""
    hydra_config = HydraConfig.get()
    choices, words = hydra_config.runtime.choices, list(hydra_config.overrides.task)
    own = [word for word in words if word.partition("=")[0].lstrip("+") in swept]
    return " ".join([f"loss={choices['loss']} seed={cfg.get('seed')}", *own]), choices, words


@dataclass(frozen=True)
class RemoteJob:
    """A job in another process, on this machine or elsewhere, which says in a ledger what becomes of it.

    Args:
        ledger: where.
        wait: for a run that another process is at.
        swept: keys that tell the jobs apart, beside loss and seed.
        parent: the process that launches, where the job's own shall end with it; None where a job may outlive it.
        only: names of the jobs to run; None for all.
        place: the folder to work in.
        path: where modules are found.
    """

    ledger: Ledger
    wait: bool
    swept: tuple[str, ...]
    parent: int | None
    only: frozenset[str] | None = None
    place: str = field(default_factory=os.getcwd)
    path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))

    def __call__(self, cfg: DictConfig) -> None:
        """Run one composed configuration."""
        os.chdir(self.place)
        sys.path.extend(place for place in self.path if place not in sys.path)
        if self.parent not in (None, os.getpid()):  # one job at a time needs no other process
            _end_with_parent(self.parent)
            _print_into(self.ledger.folder / f"process-{os.getpid()}.log")  # it shares our terminal
        name, choices, words = _of_hydra(cfg, self.swept)
        if self.only is not None and name not in self.only:
            return
        self.ledger.say(job=name)

        def tell(line: str) -> None:
            print(line, flush=True)
            if line.startswith(PASSED_ON):
                self.ledger.say(job=name, line=line)

        def begun(folder: Path) -> None:
            self.ledger.say(job=name, begun=str(folder))

        outcome = run_job(cfg, choices, self.wait, tell, words, name, begun)
        folder = str(outcome.folder) if outcome.folder else None
        tuned = None if outcome.tuned is None else json.dumps(dict(outcome.tuned))
        self.ledger.say(job=name, status=outcome.status, folder=folder, error=outcome.error, tuned=tuned)


_watched: set[int | None] = set()  # the parent, once a thread looks after it: a process does several jobs


def _end_with_parent(parent: int | None) -> None:
    """End this process soon after its parent: one that outlived it would go on with runs that nobody waits for."""
    if parent in _watched:
        return
    _watched.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # the lock of its run is let go of; what it wrote is whole

    if os.getppid() != parent:  # it ended before the first job began
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def _print_into(file: Path) -> None:
    """Send what this process prints to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


class Fleet:
    """Jobs in other processes, over all attempts to run them.

    Where a process is lost, the launcher drops all jobs. Those that were at work then are run again one at a time, so that one
    that ends its process (for want of memory, say) is told from the others; after them come those that were not begun.

    Args:
        words: for Hydra.
        jobs: what it makes of them.
        job: what is run elsewhere.
        tell: prints a line.
        each: called with every job's outcome.
        only: names of jobs; None for all.
    """

    def __init__(
        self,
        words: Sequence[str],
        jobs: Jobs,
        job: RemoteJob,
        tell: Callable[[str], None],
        each: Callable[[Outcome], None],
        only: Container[str] | None = None,
    ) -> None:
        self.words, self.job, self.tell, self.each = words, job, tell, each
        self.names = [name for name in jobs.names if only is None or name in only]
        self.at_work: dict[str, Path | None] = {}  # and the run's folder, once it has begun
        self.ended: dict[str, Outcome] = {}

    def run(self) -> list[Outcome]:
        """Launch until every job has ended."""
        fruitless = 0
        while left := [name for name in self.names if name not in self.ended]:
            reason = self._attempt(left)
            if reason is None:
                break
            suspects = list(self.at_work)
            for name in suspects:
                self._alone(name)
            fruitless = 0 if suspects else fruitless + 1
            if fruitless > MOST_LOST:
                for name in left:
                    self._end(Outcome("accident", name, error=f"its process was lost before it began: {reason}"))
        self.job.ledger.remove()
        return list(self.ended.values())

    def _attempt(self, names: Sequence[str]) -> str | None:
        """Launch some of the jobs; returns why a process was lost, if one was."""
        self.at_work.clear()
        try:
            with self.job.ledger.followed(self._hear):
                _under_hydra(replace(self.job, only=frozenset(names)), self.words)
        except Exception as lost:
            reason = re.sub(r"\s+", " ", str(lost)).partition(". ")[0] or type(lost).__name__
            if not self.at_work and not self.ended and not isinstance(lost, BrokenProcessPool):
                _refuse_to_start(lost, reason, self.words)
            return reason
        return None

    def _alone(self, name: str) -> None:
        """Run a job whose process was lost, perhaps by its own doing, when no other can be lost with it."""
        folder, reason = self.at_work.get(name), None
        for _ in range(MOST_LOST):
            self.tell(f"{name}: its process was lost; it is started again, alone")
            reason = self._attempt([name])
            folder = self.at_work.get(name) or folder
            if reason is None or name in self.ended:
                return
        self._end(Outcome("accident", name, folder, error=f"its process was lost {MOST_LOST + 1} times: {reason}"))

    def _hear(self, event: Event) -> None:
        """Take notice of what a job says."""
        name = str(event["job"])
        if "line" in event:
            self.tell(f"{name}: {event['line']}")
        elif "begun" in event:
            self.at_work[name] = Path(str(event["begun"]))
        elif "status" not in event:
            self.at_work[name] = None
            self.tell(f"{name}: started")
        elif name not in self.ended or self.ended[name].status == "busy":  # by an attempt before, perhaps
            folder = Path(str(event["folder"])) if event["folder"] else None
            row = read_row(folder / ROW_FILE) if folder and event["status"] in ("done", "skipped") else None
            error = None if event["error"] is None else str(event["error"])
            tuned = json.loads(str(event["tuned"])) if event["tuned"] else None
            self._end(Outcome(cast(Status, event["status"]), name, folder, row, error, tuned))

    def _end(self, outcome: Outcome) -> None:
        self.at_work.pop(outcome.job, None)
        self.ended[outcome.job] = outcome
        self.each(outcome)


def _refuse_to_start(error: Exception, reason: str, words: Sequence[str]) -> None:
    if isinstance(error, HydraException | OmegaConfBaseException | UserError):
        raise error  # the words do not compose
    missing = re.search(r"Unknown plugin class : 'hydra_plugins\.hydra_(\w+?)_launcher", reason)
    if missing:
        chosen = next((word for word in words if word.startswith("hydra/launcher=")), "hydra/launcher")
        raise UserError(f"{chosen} needs a package that is not installed: pip install 'dmlbench[{missing[1]}]'") from error
    raise UserError(f"the launcher cannot start: {reason}") from error


@dataclass(frozen=True)
class Jobs:
    """What Hydra will make of some words.

    Args:
        names: in print, of each job.
        swept: keys that tell the jobs apart, beside loss and seed.
        params: what a file of `sweep/` sweeps over.
        launcher: its name.
        runs: the folder of runs.
    """

    names: tuple[str, ...] = ()
    swept: tuple[str, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    launcher: str = BASIC
    runs: Path = Path("runs")


def jobs_of(words: Sequence[str]) -> Jobs:
    """The jobs of a multirun: the product of what is swept over, in words and in the file of `sweep/` that they choose.

    Raises:
        HydraException, OmegaConfBaseException: the words do not compose.
    """
    parsed = OverridesParser.create().parse_overrides([word for word in words if _is_override(word)])
    # a choice of files alone composes, whatever values are for one loss and not for another
    choosing = [one for one in parsed if "." not in one.key_or_group or one.key_or_group.startswith(("hydra.", "paths."))]
    plain = [_first(one) for one in choosing]
    cfg = compose_with_hydra(plain, _flag("--config-dir", words))
    params = {str(key): str(value) for key, value in (cfg.hydra.sweeper.params or {}).items()}
    given = {one.key_or_group for one in parsed}
    params = {key: value for key, value in params.items() if key not in given}
    every = [*OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()]), *parsed]
    swept = tuple(one.key_or_group for one in every if one.is_sweep_override() or one.key_or_group in params)
    swept = tuple(key for key in swept if key not in ("loss", "seed"))
    loss, seed = cfg.hydra.runtime.choices["loss"], cfg.seed
    [combinations] = BasicSweeper.split_arguments(every, None)
    names = tuple(_name(dict(_parts(word) for word in one), one, swept, loss, seed) for one in combinations)
    launcher = cfg.hydra.runtime.choices.get("hydra/launcher") or BASIC
    return Jobs(names, swept, params, launcher, Path(cfg.paths.runs))


def _first(override: Override) -> str:
    """An override with the first of its values."""
    if not override.is_sweep_override():
        return str(override.input_line)
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def _parts(word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    return key.lstrip("+"), value


def _name(values: Mapping[str, str], words: Sequence[str], swept: Sequence[str], loss: str, seed: Any) -> str:
    own = [word for word in words if _parts(word)[0] in swept]
    return " ".join([f"loss={values.get('loss', loss)} seed={values.get('seed', seed)}", *own])


def _several(words: Sequence[str]) -> bool:
    return any(word in ("-m", "--multirun") for word in words) and "--cfg" not in words and "-c" not in words


def _is_override(word: str) -> bool:
    return "=" in word and not word.startswith("-")


def _flag(name: str, words: Sequence[str]) -> str | None:
    """The value that follows a flag, or is written into it."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None
