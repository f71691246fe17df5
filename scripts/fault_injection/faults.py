"""A fault: what happens to a process, and when."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

Action = Literal["none", "kill", "torn", "full"]
Target = Literal["command", "job"]

_PATTERN = re.compile(r"(?P<job>job:)?(?P<action>kill|torn|full)@(?P<event>[1-9]\d*)(?:~(?P<clock>\d+))?|~(?P<only_clock>\d+)")


@dataclass(frozen=True)
class Fault:
    """What happens to one execution of a command.

    Args:
        action: `kill` ends the process by SIGKILL right before the event; `torn` lets half of a write reach the file before
            that; `full` refuses everything that needs disk space, from this event on, in all processes; `none` does nothing.
        event: Number of the file-system event, from 1, counted in each process on its own.
        target: The process of the command itself, or the first process of one of its jobs that reaches the event.
        clock: Seed of the jumps of the clocks, one jump at every event; None for undisturbed clocks.
    """

    action: Action = "none"
    event: int = 0
    target: Target = "command"
    clock: int | None = None

    def __str__(self) -> str:
        prefix = "job:" if self.target == "job" else ""
        action = "" if self.action == "none" else f"{prefix}{self.action}@{self.event}"
        return action + ("" if self.clock is None else f"~{self.clock}")

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Parse the faults of consecutive executions, such as `kill@17`, `job:kill@3`, `torn@5~1+kill@2`.

    Args:
        text: Faults, joined by `+`. A number after `~` is the seed of the clocks' jumps.

    Raises:
        ValueError: The text is not of this form.
    """
    faults = []
    for part in text.split("+"):
        match = _PATTERN.fullmatch(part)
        if match is None:
            raise ValueError(
                f"'{part}' is not a fault; write kill@17, torn@5, full@9 or job:kill@3, with ~SEED for clock jumps"
            )
        clock = match["clock"] or match["only_clock"]
        target: Target = "job" if match["job"] else "command"
        action: Any = match["action"] or "none"
        faults.append(Fault(action, int(match["event"] or 0), target, None if clock is None else int(clock)))
    return tuple(faults)
