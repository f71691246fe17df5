"""Choose the faults of a campaign."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from .campaign import Prepared
from .faults import Fault


def kill_points(prepared: Prepared) -> list[Fault]:
    """Return every point at which a command can be killed: before each event, and in the middle of each write.

    Args:
        prepared: The command.
    """
    command = _points(prepared.events)
    return command + [replace(fault, target="job") for fault in _points(prepared.job_events)]


def _points(events: Sequence[str]) -> list[Fault]:
    kills = [Fault("kill", number) for number in range(1, len(events) + 1)]
    return kills + [Fault("torn", number) for number, event in enumerate(events, 1) if event.startswith("write ")]


def full_points(prepared: Prepared) -> list[Fault]:
    """Return every point at which the disk can become full.

    Args:
        prepared: The command.
    """
    kinds = ("create ", "write ", "fsync ", "mkdir ")
    return [Fault("full", number) for number, event in enumerate(prepared.events, 1) if event.startswith(kinds)]


def even_subset(items: Sequence[Fault], n: int) -> list[Fault]:
    """Return n items, evenly spaced; all if there are not more.

    Args:
        items: The items.
        n: How many.
    """
    return list(items) if n >= len(items) else [items[(2 * i + 1) * len(items) // (2 * n)] for i in range(n)]


def shares(sizes: dict[str, int], total: int) -> dict[str, int]:
    """Divide a number of attempts among kinds: all points of the small kinds, and equally many of the large ones.

    Args:
        sizes: Number of points of each kind.
        total: Number of attempts.
    """
    given: dict[str, int] = {}
    for position, (name, size) in enumerate(sorted(sizes.items(), key=lambda item: item[1])):
        given[name] = min(size, (total - sum(given.values())) // (len(sizes) - position))
    return given


def random_sequences(prepared: Sequence[Prepared], kills: int, seed: int) -> list[tuple[Prepared, list[Fault]]]:
    """Return attempts with two or three kills after each other.

    Args:
        prepared: The commands to choose from.
        kills: Number of kills, over all attempts.
        seed: Seed of the choice.
    """
    generator, chosen = random.Random(seed), []
    while prepared and kills > 0:
        one = generator.choice(prepared)
        points = kill_points(one)
        faults = generator.sample(points, min(len(points), kills, generator.choice((2, 3))))
        chosen.append((one, faults))
        kills -= len(faults)
    return chosen


def with_clock_jumps(prepared: Sequence[Prepared], n: int, seed: int) -> list[tuple[Prepared, list[Fault]]]:
    """Return attempts in which the clocks jump, the times of files are wrong, and a process is killed.

    Args:
        prepared: The commands to choose from.
        n: Number of attempts.
        seed: Seed of the choice, and of the jumps.
    """
    generator, chosen = random.Random(seed), []
    for number in range(n if prepared else 0):
        one = prepared[number % len(prepared)]
        chosen.append((one, [replace(generator.choice(kill_points(one)), clock=seed + number)]))
    return chosen
