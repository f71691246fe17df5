"""Training in several processes that torchrun starts: all execute the same program, and the first one reads and writes files.

Every process embeds its part of a batch, gathers the embeddings of the others, and computes the loss of the whole batch.
It propagates the gradients of its own embeddings, and the gradients of all processes are added. This equals the gradient of one
process up to rounding, for every loss and miner, because none of them sees a part of a batch.

`DistributedDataParallel` is not used: it averages the gradients of losses that each see a part, once per backward pass, whereas
these parts are added, after as many passes as a batch has chunks.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import distributed

from dmlbench.errors import DmlbenchError, UserError
from dmlbench.system.parent import end_with_parent
from dmlbench.training.process_watch import connect, watching

STEP_TIMEOUT_S = 600.0  # seconds that a process waits in a step for the others, if DMLBENCH_PROCESS_TIMEOUT_S is not set
# Seconds that a process waits for a decision of the first one, which evaluates alone. A process that ends is noticed at once,
# and one that is stopped by `process_watch`.
DECISION_TIMEOUT_S = 7 * 24 * 3600.0

# Largest number of values that are gathered and then added: Gloo takes half as long for it as for a sum of few values.
GATHERED = 2**16

LONGEST_VALUE = 200  # characters of a value in an error message

T = TypeVar("T")


class EndedProcess(BaseException):
    """This process cannot continue with the others. No job can follow, so what catches the errors of a job does not catch it.

    Args:
        reason: A sentence without full stop.
        status: Exit status.
    """

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class AgreedError(UserError):
    """An error that all processes know, and that the first one prints."""


@dataclass(frozen=True)
class _Group:
    """The processes of this command.

    Args:
        rank: Number of this process, from 0.
        count: Number of processes.
        decisions: Group in which processes wait for the first one; None for a single process.
    """

    rank: int = 0
    count: int = 1
    decisions: Any = None


_group = _Group()


def rank() -> int:
    """Return the number of this process, from 0."""
    return _group.rank


def count() -> int:
    """Return the number of processes that train together; 1 within `alone`."""
    return _group.count


def is_first() -> bool:
    """Return whether this process decides, and reads and writes files."""
    return _group.rank == 0


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes of the command for the time of the context, as torchrun describes them in the environment.

    This process ends with its parent, because the processes of a killed torchrun would otherwise hold the run.

    Raises:
        AgreedError: DMLBENCH_PROCESS_TIMEOUT_S is not a number of seconds.
        EndedProcess: The others cannot be reached.
    """
    global _group
    end_with_parent(os.getppid())
    limit = _step_timeout_s()
    step = timedelta(seconds=limit)
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    with _noticing_loss():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=step)
        decisions = distributed.new_group(backend="gloo", timeout=timedelta(seconds=DECISION_TIMEOUT_S))
        store = connect(limit)
    _group = _Group(distributed.get_rank(), distributed.get_world_size(), decisions)
    try:
        with watching(store, _group.rank, _group.count, limit):
            yield
    finally:
        _group = _Group()
        distributed.destroy_process_group()


def _step_timeout_s() -> float:
    """The seconds after which a process that gives no sign is given up."""
    text = os.environ.get("DMLBENCH_PROCESS_TIMEOUT_S", str(STEP_TIMEOUT_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= DECISION_TIMEOUT_S:
        raise AgreedError(
            f"DMLBENCH_PROCESS_TIMEOUT_S is {text!r}; it must be a number of seconds from 1 to {DECISION_TIMEOUT_S:.0f}"
        )
    return seconds


@contextmanager
def alone() -> Iterator[None]:
    """Return a context in which this process computes as if it were the only one."""
    global _group
    before, _group = _group, _Group()
    try:
        yield
    finally:
        _group = before


@contextmanager
def _noticing_loss() -> Iterator[None]:
    """Turn errors of the communication into `EndedProcess`."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # `DistError` of torch, and what Gloo raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        sentence = f"another process of this command has ended or cannot be reached ({reason})"
        raise EndedProcess(f"{sentence}; run the same command again to resume", 1) from error


def on_first(function: Callable[[], T]) -> T:
    """Call a function in the first process only, and return its result in all.

    Args:
        function: Function without arguments, whose result can be pickled. It does not communicate.

    Raises:
        AgreedError: The function raised an error of the user, in all processes.
        MethodFailure: The function raised it, in all processes.
    """
    if count() == 1:
        return function()
    outcome: list[Any] = [None]
    if is_first():
        try:
            outcome = [(True, function())]
        except DmlbenchError as error:
            outcome = [(False, AgreedError(str(error)) if isinstance(error, UserError) else error)]
    with _noticing_loss():
        distributed.broadcast_object_list(outcome, src=0, group=_group.decisions)
    succeeded, result = outcome[0]
    if succeeded:
        return cast(T, result)
    raise result


def agreed(function: Callable[[], T], facts: Callable[[T], Mapping[str, Any]]) -> T:
    """Call a function in every process, and refuse what differs between them.

    Args:
        function: Function without arguments. It does not communicate.
        facts: Returns what must be equal in all processes, from the result of the function.

    Raises:
        AgreedError: The function raised an error of the user in a process, or a fact differs.
    """
    if count() == 1:
        return function()
    result, reason, own = None, None, {}
    try:
        result = function()
        own = dict(facts(result))
    except UserError as error:
        reason = str(error)
    everyone: list[Any] = [None] * count()
    with _noticing_loss():
        distributed.all_gather_object(everyone, (reason, own), group=_group.decisions)
    for number, (found, _) in enumerate(everyone):
        if found is not None:
            raise AgreedError(found if number == 0 else f"process {number} of {count()}: {found}")
    first = everyone[0][1]
    for number, (_, found) in enumerate(everyone):
        for name in first:
            if found.get(name) != first[name]:
                own_value, other_value = (_shortened(repr(one.get(name))) for one in (first, found))
                raise AgreedError(
                    f"process {number} of {count()} has another {name} than process 0, {other_value} instead of {own_value}; "
                    "start all processes with the same code, configuration and data"
                )
    return cast(T, result)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def refuse_shared_device(device: str) -> None:
    """Refuse more processes on this machine than it has CUDA devices, because two of them cannot communicate on one.

    Args:
        device: `cpu` or `cuda`.

    Raises:
        UserError: Names both numbers.
    """
    own = int(os.environ.get("LOCAL_WORLD_SIZE", count()))
    if count() > 1 and device == "cuda" and torch.cuda.device_count() < own:
        raise UserError(
            f"{own} processes on this machine need as many CUDA devices, but it has {torch.cuda.device_count()}; start fewer "
            "processes per machine, or use device=cpu"
        )


def part_of(n: int, number: int) -> slice:
    """Return the part of a batch that a process embeds.

    Args:
        n: Number of images of the batch. The parts of two processes differ by at most one image.
        number: Number of the process, from 0.
    """
    return slice(number * n // count(), (number + 1) * n // count())


def gather_rows(rows: torch.Tensor | None, counts: Sequence[int]) -> torch.Tensor:
    """Return the rows of all processes, in the order of the processes, without a graph.

    Args:
        rows: Rows of this process, `(counts[rank], D)`; None if it has none.
        counts: Number of rows of each process.
    """
    if count() == 1:
        assert rows is not None
        return rows.detach()
    with _noticing_loss():
        if not all(counts):  # a process without rows knows neither their width nor their type
            widths: list[Any] = [None] * count()
            distributed.all_gather_object(widths, None if rows is None else (rows.shape[1], rows.dtype, rows.device))
            width, dtype, device = next(one for one in widths if one is not None)
            rows = torch.empty(0, width, dtype=dtype, device=device) if rows is None else rows
        assert rows is not None
        longest = max(counts)
        own = rows.new_zeros(longest, rows.shape[1])
        own[: len(rows)] = rows.detach()
        found = [torch.empty_like(own) for _ in counts]
        distributed.all_gather(found, own)
    return torch.cat([one[:length] for one, length in zip(found, counts, strict=True)])


def add_over_processes(tensors: Sequence[torch.Tensor]) -> None:
    """Replace tensors by their sums over all processes.

    Args:
        tensors: Tensors of one dtype and device; of the same shapes in all processes.
    """
    if count() == 1 or not tensors:
        return
    flat = torch.cat([one.reshape(-1) for one in tensors])
    if len(flat) <= GATHERED:
        flat = gather_rows(flat[None], [1] * count()).sum(0)
    else:
        with _noticing_loss():
            distributed.all_reduce(flat)
    for one, summed in zip(tensors, flat.split([one.numel() for one in tensors]), strict=True):
        one.copy_(summed.view_as(one))


def copy_from_first(parts: Mapping[str, torch.nn.Module | torch.optim.Optimizer], device: str) -> None:
    """Give models, objectives and optimizers of all processes the state that they have in the first one.

    Args:
        parts: Models, objectives and optimizers by name.
        device: Device of their tensors.
    """
    if count() == 1:
        return

    def written() -> bytes:
        stream = io.BytesIO()
        torch.save({name: part.state_dict() for name, part in parts.items()}, stream)
        return stream.getvalue()

    content = on_first(written)
    if not is_first():
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])


def share_tensor(tensor: torch.Tensor | None) -> torch.Tensor:
    """Return a tensor of the first process in all processes.

    Args:
        tensor: The tensor, on the CPU; ignored in the other processes.
    """
    if count() == 1:
        assert tensor is not None
        return tensor
    shape, dtype = on_first(lambda: (tuple(tensor.shape), tensor.dtype))  # type: ignore[union-attr]
    found = tensor.contiguous() if is_first() and tensor is not None else torch.empty(shape, dtype=dtype)
    with _noticing_loss():
        distributed.broadcast(found, src=0, group=_group.decisions)
    return found
