"""Feed damaged and hostile files to everything that reads files of others.

Each reader has to read the file, or to refuse it with the documented error. Any other exception is a problem, and so is a
file that is written outside the directory of the reader, a program that is executed, a control character on the terminal, and
a file that takes more than five seconds.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from .readers import READERS, Reader
from .samples import make_samples

SLOW_S = 5.0
TIMEOUT_S = 1800
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_NO_FILES = (os.devnull, "/proc/self/clear_refs")  # the second one is a setting of the process
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
_EXECUTES = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect", "socket.getaddrinfo")


__all__ = ["READERS", "Fuzzed", "make_samples", "run"]


class TooSlowError(BaseException):
    """A file took more than `SLOW_S`. Not an Exception, so that no reader catches it."""


@dataclass
class Fuzzed:
    """What a reader did with damaged files.

    Args:
        name: Name of the reader.
        examples: Number of files.
        refused: Number that were refused by the documented error.
        read: Number that were read.
        crashed: Number that raised something else.
        outside: Number that changed something outside the directory of the reader, or executed a program.
        slow: Number that took more than `SLOW_S`.
        problems: One sentence per kind of problem.
    """

    name: str
    examples: int = 0
    refused: int = 0
    read: int = 0
    crashed: int = 0
    outside: int = 0
    slow: int = 0
    problems: dict[str, str] = field(default_factory=dict)


def run(name: str, samples: Path, examples: int, seed_of_run: int = 0) -> Fuzzed:
    """Feed damaged files to a reader, in a process of its own.

    Args:
        name: Name of the reader.
        samples: Directory that `make_samples` has filled.
        examples: Number of files for a reader of share 1.
        seed_of_run: Seed of the damages.
    """
    folder = Path(tempfile.mkdtemp(prefix="dmlbench-fuzz-")).resolve()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    n = max(2, round(examples * READERS[name].share))
    process = context.Process(target=_run, args=(name, samples, n, seed_of_run, folder, queue))
    process.start()
    process.join(TIMEOUT_S)
    if process.exitcode is None:
        process.kill()
        process.join()
    if queue.empty():
        found = Fuzzed(
            name, crashed=1, problems={"end": f"the process ended with {process.exitcode}; the file is kept in {folder}"}
        )
    else:
        found = queue.get()
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _run(name: str, samples: Path, examples: int, seed_of_run: int, folder: Path, queue: Any) -> None:
    reader, found = READERS[name], Fuzzed(name)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 -- warnings of libraries
    signal.signal(signal.SIGALRM, _too_slow)
    os.environ["HOME"] = str(folder / "home")
    samples = samples / (reader.sample or "")
    files = [reader.file] if isinstance(reader.file, str) else list(reader.file)
    contents = {file: reader.strategy(samples, file) for file in files}
    examples_of = st.sampled_from(files).flatmap(lambda file: contents[file].map(lambda content: (file, content)))
    for module in reader.imports:
        importlib.import_module(module)
    watch = _Watch(folder / "box")

    @seed(seed_of_run)
    @settings(max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(examples_of)
    def check(example: tuple[str, bytes]) -> None:
        _check(reader, example, samples, folder / "box", watch, found)

    check()
    queue.put(found)


def _check(reader: Reader, example: tuple[str, bytes], samples: Path, box: Path, watch: _Watch, found: Fuzzed) -> None:
    """Let the reader read one file, and count what it does."""
    from dmlbench.errors import UserError

    shutil.rmtree(box, ignore_errors=True)
    if reader.sample is None:
        box.mkdir()
    else:
        shutil.copytree(samples, box)
    file = box / example[0]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(example[1])
    found.examples += 1
    try:
        with watch, _limited():
            reader.read(box)
        found.read += 1
    except UserError:
        found.refused += 1
    except TooSlowError:
        found.slow += 1
        _note(found, "slow", f"{example[0]} took more than {SLOW_S:.0f} s", example[1])
    except Exception as error:
        found.crashed += 1
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "dmlbench/" in frame.filename]
        where = f"{frames[-1].filename.rpartition('dmlbench/')[2]}:{frames[-1].lineno}" if frames else ""
        _note(
            found,
            f"{type(error).__name__} {where}",
            f"{example[0]}: {type(error).__name__}: {str(error)[:200]} ({where})",
            example[1],
        )
    if watch.seen:
        found.outside += 1
        _note(found, watch.seen[0], f"{example[0]}: {', '.join(watch.seen[:3])}", example[1])


def _note(found: Fuzzed, key: str, text: str, content: bytes) -> None:
    """Keep one problem of each kind."""
    found.problems.setdefault(key, f"{text}; content {content[:80]!r}{'...' if len(content) > 80 else ''}")


class _Watch:
    """Notes what is changed outside a directory, and programs that are executed, within a `with` block."""

    def __init__(self, folder: Path) -> None:
        self._prefix, self._active = str(folder), False
        self.seen: list[str] = []
        sys.addaudithook(self._on_audit)

    def __enter__(self) -> None:
        self.seen, self._active = [], True

    def __exit__(self, *_: object) -> None:
        self._active = False

    def _on_audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if name in _EXECUTES:
            self.seen.append(f"{name} {arguments[0]!r}")
        elif name == "os.mkdir" and os.path.isdir(arguments[0]):
            return  # it fails
        elif name in _CHANGES or (name == "open" and arguments[2] & _WRITING):
            paths = [one for one in arguments[:2] if isinstance(one, str | bytes | os.PathLike)]
            for path in paths if name in ("os.rename", "os.link") else paths[:1]:
                if not self._harmless(os.fsdecode(path), arguments):
                    self.seen.append(f"{name} {os.fsdecode(path)}")

    def _harmless(self, path: str, arguments: tuple[Any, ...]) -> bool:
        directory = next((one for one in arguments[1:] if isinstance(one, int) and one > 2), None)
        relative_to_descriptor = directory is not None and not os.path.isabs(path)  # shutil.rmtree
        whole = os.path.realpath(path)
        return relative_to_descriptor or whole.startswith(self._prefix + os.sep) or path in _NO_FILES or "__pycache__" in path


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, SLOW_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _too_slow(*_: object) -> None:
    raise TooSlowError
