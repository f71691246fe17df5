"""The finished runs that the application offers, found again when files appear, change or vanish. Imports no torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dmlbench.errors import UserError
from dmlbench.pictures.saved_embeddings import SavedEmbeddings, read_saved
from dmlbench.results import run_files
from dmlbench.results.row_files import find_rows
from dmlbench.web.least_used import LeastUsed
from dmlbench.web.run_state import Run, Stamp, read_run, run_stamp
from dmlbench.web.snapshot import Model, Snapshot, make_snapshot

_SCAN_SECONDS = 1.0  # between two searches for runs; ten times the duration of a search if that is longer
_MAPPED_FILES = 128


class RunChangedError(UserError):
    """A run was replaced or removed while a page was made, or turned out to be damaged. The next snapshot lacks it."""


class Catalogue:
    """Finds runs, and maps their embeddings into memory.

    Args:
        paths: Directories that contain runs, or files `row.json`, which may be missing; or a function that returns them, which
            is called for each search for runs.
    """

    def __init__(self, paths: Sequence[Path] | Callable[[], Sequence[Path]]) -> None:
        self._paths = paths if callable(paths) else lambda: paths
        self._runs: dict[Path, Run] = {}
        self._snapshot = Snapshot()
        self._next_scan = 0.0
        self._lock = threading.Lock()
        self._mapped: LeastUsed[tuple[str, Stamp], SavedEmbeddings] = LeastUsed(_MAPPED_FILES)

    @property
    def paths(self) -> Sequence[Path]:
        """Directories that contain runs, or files `row.json`."""
        return self._paths()

    def snapshot(self) -> Snapshot:
        """Return what there is now; files are searched at most once per second."""
        if time.monotonic() >= self._next_scan and self._lock.acquire(blocking=not self._next_scan):
            try:
                began = time.monotonic()
                self._snapshot = self._scan()
                ended = time.monotonic()
                self._next_scan = ended + max(_SCAN_SECONDS, 10 * (ended - began))
            finally:
                self._lock.release()
        return self._snapshot

    def embeddings(self, model: Model) -> SavedEmbeddings:
        """Return the embeddings of a model, whose rows stay in their file.

        Args:
            model: A model.

        Raises:
            RunChangedError: The run has changed since the snapshot, or its embeddings are not what it wrote.
        """
        assert model.row.folder is not None
        if run_stamp(model.row.folder) != model.stamp:  # a mapped file that has become shorter would end the process
            self._next_scan = 0.0
            raise RunChangedError(f"run {model.key} has changed or vanished; reload the page")
        try:
            return self._mapped.get((model.key, model.stamp), lambda: read_saved(model.row))
        except UserError as error:
            self._refuse(model, str(error))
            raise RunChangedError(str(error)) from None

    def _scan(self) -> Snapshot:
        runs: dict[Path, Run] = {}
        for path in find_rows(*self.paths):
            stamp, last = run_stamp(path.parent), self._runs.get(path)
            runs[path] = last if last and last.stamp == stamp else read_run(path, stamp)
        if runs == self._runs:
            return self._snapshot
        self._runs = runs
        return make_snapshot(runs)

    def _refuse(self, model: Model, reason: str) -> None:
        """Offer a model no longer, until its files change."""
        assert model.row.folder is not None
        path = model.row.folder / run_files.ROW
        with self._lock:
            run = self._runs.get(path)
            if run is not None and run.stamp == model.stamp:
                self._runs = {**self._runs, path: replace(run, problem=reason)}
                self._snapshot = make_snapshot(self._runs)
