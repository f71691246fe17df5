"""Functions that are executed in several processes, which train together."""

from __future__ import annotations

import io
import multiprocessing
import os
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from dmlbench.cli import run
from dmlbench.training import processes

TIMEOUT_S = "60"
NO_RESULT = "no result"
PER_PROCESS: list[list[str]] = []  # arguments that differ between processes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def forked(count: int, function: Callable[[int], Any], timeout: float = 300) -> list[Any]:
    """Call a function with its number in each of several forked processes, in the environment that torchrun would set."""
    context, port = multiprocessing.get_context("fork"), str(free_port())
    pipes = [context.Pipe(duplex=False) for _ in range(count)]

    def execute(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "DMLBENCH_PROCESS_TIMEOUT_S": TIMEOUT_S}
        try:
            result = function(rank)
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
            if not isinstance(error, processes.AgreedError | processes.EndedProcess):
                traceback.print_exc()
        pipes[rank][1].send(result)
        os._exit(0)  # without the exit handlers of the test session

    started = [context.Process(target=execute, args=(rank,)) for rank in range(count)]
    for process in started:
        process.start()
    end = time.monotonic() + timeout
    results = [pipe.recv() if pipe.poll(max(0, end - time.monotonic())) else NO_RESULT for pipe, _ in pipes]
    for process, result in zip(started, results, strict=True):
        if result != NO_RESULT:
            process.join(5)
        process.kill()
    return results


def in_processes(count: int, function: Callable[..., Any], *arguments: Any, timeout: float = 300) -> list[Any]:
    """Call a function in each of several processes that train together; its results, or its errors as text, in their order."""

    def execute(rank: int) -> Any:
        with processes.joined():
            return function(*arguments)

    return forked(count, execute, timeout)


def run_commands(argv: Sequence[str], count: int = 2) -> list[tuple[int, str, str]]:
    """Run a command line in each of several processes; their exit statuses, output and errors."""

    def execute(rank: int) -> tuple[int, str, str]:
        with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
            status = run([*argv, *(PER_PROCESS[rank] if PER_PROCESS else ())])
        return status, output.getvalue(), errors.getvalue()

    return forked(count, execute)
