"""Floor 6.5: words to Hydra, whose launcher runs the jobs: one after the other here, or in processes elsewhere."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dmlbench.configs import conf_dir
from dmlbench.errors import UserError
from dmlbench.launch import Outcome, Status, compose, prefer_own_launchers, run_job
from dmlbench.ledger import Event, Ledger
from dmlbench.rows import ROW_FILE, read_row

PASSED_ON = ("trial ",)  # how lines begin that are worth a look while a job is at work elsewhere
MOST_FRUITLESS = 3  # times that processes are lost one after the other without a job that ends


def launch(
    words: Sequence[str],
    wait: bool,
    tell: Callable[[str], None],
    each: Callable[[Outcome], None],
) -> list[Outcome]:
    """Hand words to Hydra and run the jobs it makes of them: one after the other, or as its launcher does.

    Args:
        words: overrides and flags of Hydra's grammar, such as `loss=triplet`, `--cfg job`, `--multirun`.
        wait: wait for a run that another process is at; else it is `busy`.
        tell: prints a line.
        each: called with every job's outcome as it ends.

    Returns:
        An outcome a job; none where Hydra only printed something (`--cfg`).

    Raises:
        HydraException, OmegaConfBaseException: the words do not compose.
    """
    outcomes: list[Outcome] = []
    swept = tuple(key for key in swept_over(words) if key not in ("loss", "seed"))
    elsewhere = _elsewhere(words)
    if elsewhere is not None:
        ledger, launcher = elsewhere
        parent = os.getpid() if launcher == "joblib" else None  # it shares our terminal, and nobody else ends its processes
        return _launch_elsewhere(words, RemoteJob(ledger, wait, swept, parent), tell, each)

    def job(cfg: DictConfig) -> None:
        name, choices, overrides = _of_hydra(cfg, swept)
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
        place: the folder to work in.
        path: where modules are found.
        parent: the process that launches, where the job's own shall end with it; None where a job may outlive it.
    """

    ledger: Ledger
    wait: bool
    swept: tuple[str, ...]
    parent: int | None
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
        self.ledger.say(job=name)

        def tell(line: str) -> None:
            print(line, flush=True)
            if line.startswith(PASSED_ON):
                self.ledger.say(job=name, line=line)

        outcome = run_job(cfg, choices, self.wait, tell, words, name)
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
    """What has been heard of the jobs in other processes, over all attempts to run them.

    Args:
        tell: prints a line.
        each: called with every job's outcome, once.
    """

    def __init__(self, tell: Callable[[str], None], each: Callable[[Outcome], None]) -> None:
        self.tell, self.each = tell, each
        self.started: dict[str, None] = {}
        self.ended: dict[str, Outcome] = {}

    def hear(self, event: Event) -> None:
        """Take notice of a job's start or end."""
        name = str(event["job"])
        if "line" in event:
            self.tell(f"{name}: {event['line']}")
        elif "status" not in event:
            if name not in self.started:
                self.tell(f"{name}: started")
            self.started[name] = None
        elif name not in self.ended or self.ended[name].status == "busy":  # by an attempt before, perhaps
            folder = Path(str(event["folder"])) if event["folder"] else None
            row = read_row(folder / ROW_FILE) if folder and event["status"] in ("done", "skipped") else None
            error = None if event["error"] is None else str(event["error"])
            tuned = json.loads(str(event["tuned"])) if event["tuned"] else None
            self.end(Outcome(cast(Status, event["status"]), name, folder, row, error, tuned))

    def end(self, outcome: Outcome) -> None:
        """A job's last word."""
        self.ended[outcome.job] = outcome
        self.each(outcome)

    def give_up(self, reason: str) -> None:
        """End the jobs whose processes were lost."""
        for name in self.started:
            if name not in self.ended:
                self.end(Outcome("accident", name, error=f"its process was lost {MOST_FRUITLESS} times: {reason}"))


def _launch_elsewhere(
    words: Sequence[str], job: RemoteJob, tell: Callable[[str], None], each: Callable[[Outcome], None]
) -> list[Outcome]:
    """Jobs in other processes; where one of these is lost, what is not done is launched again, as long as that leads on."""
    fleet, fruitless = Fleet(tell, each), 0
    while True:
        before = len(fleet.ended)
        try:
            with job.ledger.followed(fleet.hear):
                _under_hydra(job, words)
            break
        except Exception as lost:
            reason = re.sub(r"\s+", " ", str(lost)).partition(". ")[0] or type(lost).__name__
            if not fleet.started and not isinstance(lost, BrokenProcessPool):
                _refuse_to_start(lost, reason, words)
            fruitless = 0 if len(fleet.ended) > before else fruitless + 1
            if fruitless == MOST_FRUITLESS:
                fleet.give_up(reason)
                break
            tell(f"a process was lost ({reason}); what is not done is started again")
    job.ledger.remove()
    return list(fleet.ended.values())


def _refuse_to_start(error: Exception, reason: str, words: Sequence[str]) -> None:
    if isinstance(error, HydraException | OmegaConfBaseException | UserError):
        raise error  # the words do not compose
    missing = re.search(r"Unknown plugin class : 'hydra_plugins\.hydra_(\w+?)_launcher", reason)
    if missing:
        chosen = next((word for word in words if word.startswith("hydra/launcher=")), "hydra/launcher")
        raise UserError(f"{chosen} needs a package that is not installed: pip install 'dmlbench[{missing[1]}]'") from error
    raise UserError(f"the launcher cannot start: {reason}") from error


def _elsewhere(words: Sequence[str]) -> tuple[Ledger, str] | None:
    """A ledger for jobs in other processes, and the launcher's name; None where the words' jobs run in this process."""
    if not any(word in ("-m", "--multirun") for word in words) or "--cfg" in words or "-c" in words:
        return None
    swept = swept_over(words)
    plain = [word for word in words if _is_override(word) and word.partition("=")[0].lstrip("+~") not in swept]
    try:
        cfg, choices = compose(plain, _flag("--config-dir", words))
    except Exception:  # Hydra says so itself, when it is its turn
        return None
    launcher = choices.get("hydra/launcher")
    if launcher in (None, "basic"):
        return None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    name = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
    return Ledger(Path(cfg.paths.runs).absolute() / ".sweep" / name), launcher


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


def swept_over(words: Sequence[str]) -> dict[str, int]:
    """What Hydra will sweep over, in words and in `conf/sweep/`, and how many values each has."""
    parsed = OverridesParser.create().parse_overrides([word for word in words if _is_override(word)])
    swept = {one.key_or_group: len(list(one.sweep_string_iterator())) for one in parsed if one.is_sweep_override()}
    chosen = next((str(one.value()) for one in parsed if one.key_or_group == "sweep" and not one.is_sweep_override()), None)
    file = conf_dir() / "sweep" / f"{chosen}.yaml"
    if chosen is not None and file.is_file():
        params = OmegaConf.select(OmegaConf.load(file), "hydra.sweeper.params") or {}
        given = {one.key_or_group for one in parsed}
        swept |= {str(key): len(str(values).split(",")) for key, values in params.items() if key not in given}
    return swept


def count_jobs(words: Sequence[str]) -> int:
    """How many jobs Hydra will make of some words: the product of what is swept over."""
    return math.prod(swept_over(words).values())
