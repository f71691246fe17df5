"""Disturb dmlbench in a reproducible way, and report whether a result was lost, torn, doubled or different.

    python scripts/campaign.py                                 everything, which takes about an hour on two cores
    python scripts/campaign.py --kills 100 --kinds train,tune  a part of it
    python scripts/campaign.py --kinds train --fault kill@17   one fault: the process is killed at its event 17
    python scripts/campaign.py --kinds train --events          number and list the events of a command

Faults: kill@N ends the process by SIGKILL before its N-th file-system event, torn@N lets half of a write reach the file
before that, and full@N fills the disk from that event on. job:kill@N addresses the process of a job instead of that of the
command, ~SEED lets the clocks jump at every event, and + joins faults of consecutive executions. writers=8,seed=3,victims=2
starts eight processes at once and kills two of them.

After the faults, the same command runs without one. Exit status: 0 if everything was equal to an undisturbed run, else 1.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fault_injection import fuzz, report
from fault_injection.campaign import Attempt, Prepared, Workplace, disturb
from fault_injection.faults import parse_faults
from fault_injection.kinds import KINDS
from fault_injection.plan import (
    even_subset,
    full_points,
    kill_points,
    random_sequences,
    shares,
    with_clock_jumps,
)
from fault_injection.writers import parse_writers, share

Call = tuple[Callable[..., Attempt], tuple[Any, ...]]
SIZES_OF_ROUNDS = (2, 3, 4, 6, 8)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    text = str(__doc__)
    parser = argparse.ArgumentParser(
        description=text.partition("\n")[0],
        epilog=text.partition("\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of commands (default: all whose launcher is installed)")
    parser.add_argument("--kills", type=int, default=1000, help="number of kills, torn writes included (default: 1000)")
    parser.add_argument("--launcher-kills", type=int, default=8, help="of these, for each launcher that starts interpreters")
    parser.add_argument("--full", type=int, default=100, help="number of full disks (default: 100)")
    parser.add_argument("--clock", type=int, default=60, help="number of attempts with clock jumps (default: 60)")
    parser.add_argument("--rounds", type=int, default=20, help="number of rounds with several processes (default: 20)")
    parser.add_argument("--writers", type=int, default=8, help="largest number of processes in a round (default: 8)")
    parser.add_argument("--fuzz", type=int, default=2000, help="number of damaged files for each reader (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that is chosen at random")
    parser.add_argument("--jobs", type=int, default=1, help="number of attempts at the same time (default: 1)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no further attempt after this time")
    parser.add_argument("--fault", help="run this fault only")
    parser.add_argument("--events", action="store_true", help="list the events of each kind, and run nothing else")
    parser.add_argument("--keep", action="store_true", help="keep the directories of attempts with problems")
    parser.add_argument("--report", type=Path, help="markdown file in which the figures are written, between its two markers")
    return parser


def main() -> int:
    """Run the campaign."""
    arguments = make_parser().parse_args()
    names = arguments.kinds.split(",")
    if unknown := [name for name in names if name not in KINDS]:
        sys.exit(f"campaign: '{unknown[0]}' is not a kind; choose from {', '.join(KINDS)}")
    names = [name for name in names if KINDS[name].installed]
    began = time.monotonic()
    with Workplace(names, arguments.jobs, arguments.keep) as place:
        prepared = place.prepare()
        for one in prepared.values():
            _print_prepared(one, arguments.events)
        if arguments.events:
            return 0
        usable = {name: one for name, one in prepared.items() if not one.problems}
        attempts = _run(place, _calls(usable, arguments), arguments.minutes)
        if arguments.keep:
            print(f"directories of attempts with problems are below {place.folder}")
        fuzzed = [] if arguments.fault or not arguments.fuzz else _fuzz(arguments, place.folder / "samples")
    figures = report.make(prepared, attempts, fuzzed, time.monotonic() - began)
    print(figures)
    if arguments.report:
        report.write(arguments.report, figures)
    wrong = [*attempts, *fuzzed, *prepared.values()]
    return int(any(one.problems for one in wrong))


def _print_prepared(one: Prepared, events: bool) -> None:
    jobs = f", {len(one.job_events)} in a job" if one.kind.has_jobs else ""
    print(f"{one.kind.name}: {len(one.events)} events{jobs}, {one.expected.n_results} results, {one.seconds:.1f} s", flush=True)
    for problem in one.problems:
        print(f"{one.kind.name}: PROBLEM without a fault: {problem}", flush=True)
    if events:
        for target, found in (("", one.events), ("job:", one.job_events)):
            for number, event in enumerate(found, 1):
                print(f"  {target}{number} {event}")


def _calls(usable: dict[str, Prepared], arguments: argparse.Namespace) -> list[Call]:
    """The attempts of a campaign."""
    if arguments.fault:
        writers = parse_writers(arguments.fault)
        if writers is not None:
            return [(share, (one, *writers)) for one in usable.values()]
        return [(disturb, (one, parse_faults(arguments.fault))) for one in usable.values()]
    slow = {name: one for name, one in usable.items() if one.kind.new_interpreters}
    fast = [one for name, one in usable.items() if name not in slow]
    calls: list[Call] = []
    for one in slow.values():
        calls += [(disturb, (one, [fault])) for fault in even_subset(kill_points(one), arguments.launcher_kills)]
    left = max(0, arguments.kills - len(calls))
    given = shares({one.kind.name: len(kill_points(one)) for one in fast}, left)
    for one in fast:
        calls += [(disturb, (one, [fault])) for fault in even_subset(kill_points(one), given[one.kind.name])]
    in_process = [one for one in fast if not one.kind.has_jobs]
    rest = random_sequences(in_process, left - sum(given.values()), arguments.seed)
    calls += [(disturb, pair) for pair in rest + with_clock_jumps(in_process, arguments.clock, arguments.seed)]
    given = shares({one.kind.name: len(full_points(one)) for one in in_process}, arguments.full)
    for one in in_process:
        calls += [(disturb, (one, [fault])) for fault in even_subset(full_points(one), given[one.kind.name])]
    sizes = [size for size in SIZES_OF_ROUNDS if size <= arguments.writers]
    shared = [one for one in in_process if one.kind.name in ("sweep", "tune", "frozen", "cache")]
    for number in range(arguments.rounds if shared else 0):
        n = sizes[number % len(sizes)]
        calls.append((share, (shared[number % len(shared)], n, arguments.seed + number, (number % 2) * (n // 2))))
    random.Random(arguments.seed).shuffle(calls)  # so that a part of the campaign is a sample of the whole
    return calls


def _run(place: Workplace, calls: Sequence[Call], minutes: float) -> list[Attempt]:
    began, attempts = time.monotonic(), []
    for attempt in place.run(calls, minutes):
        attempts.append(attempt)
        for problem in attempt.problems:
            print(
                f"PROBLEM --kinds {attempt.kind} --fault '{attempt.fault}' ({', '.join(attempt.happened)}): {problem}",
                flush=True,
            )
        if len(attempts) % 50 == 0:
            kills, wrong = sum(one.kills for one in attempts), sum(bool(one.problems) for one in attempts)
            passed = f"{(time.monotonic() - began) / 60:.1f} min"
            print(f"[{len(attempts)} of {len(calls)}] {kills} kills, {wrong} with problems, {passed}", flush=True)
    return attempts


def _fuzz(arguments: argparse.Namespace, samples: Path) -> list[fuzz.Fuzzed]:
    found = []
    fuzz.make_samples(samples)
    for name in fuzz.READERS:
        found.append(fuzz.run(name, samples, arguments.fuzz, arguments.seed))
        print(f"fuzz {name}: {found[-1].examples} files, {found[-1].refused} refused", flush=True)
        for problem in found[-1].problems.values():
            print(f"PROBLEM fuzz {name}: {problem}", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
