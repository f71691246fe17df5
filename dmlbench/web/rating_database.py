"""The SQLite database of studies and ratings: its tables, connections and transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dmlbench.errors import UserError
from dmlbench.system.own_directory import refuse_links

_BUSY_SECONDS = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS studies (
    id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, collection TEXT NOT NULL, label TEXT NOT NULL, created TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS models (
    study INTEGER NOT NULL REFERENCES studies, model TEXT NOT NULL, label TEXT NOT NULL, metrics TEXT NOT NULL,
    PRIMARY KEY (study, model));
CREATE TABLE IF NOT EXISTS queries (
    study INTEGER NOT NULL REFERENCES studies, position INTEGER NOT NULL, image INTEGER NOT NULL,
    PRIMARY KEY (study, position));
CREATE TABLE IF NOT EXISTS answers (
    study INTEGER NOT NULL, position INTEGER NOT NULL, model TEXT NOT NULL, rank INTEGER NOT NULL, image INTEGER NOT NULL,
    PRIMARY KEY (study, position, model, rank), FOREIGN KEY (study, position) REFERENCES queries);
CREATE TABLE IF NOT EXISTS raters (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS items (
    token TEXT PRIMARY KEY, study INTEGER NOT NULL, rater INTEGER NOT NULL REFERENCES raters, position INTEGER NOT NULL,
    place INTEGER NOT NULL, image INTEGER NOT NULL,
    UNIQUE (study, rater, position, image), FOREIGN KEY (study, position) REFERENCES queries);
CREATE TABLE IF NOT EXISTS ratings (
    item TEXT PRIMARY KEY REFERENCES items, score INTEGER NOT NULL CHECK (score BETWEEN 1 AND 5), rated TEXT NOT NULL);
"""


class Database:
    """A database in WAL mode, for several threads and processes.

    Args:
        file: The file; made on first use.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._made = False
        self._making = threading.Lock()

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """Return a context with a new connection, which belongs to this thread."""
        try:
            with self._making:
                if not (self._made and self._file.exists()):
                    self._make()
            with closing(sqlite3.connect(self._file, timeout=_BUSY_SECONDS, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous = FULL")  # a commit waits for the disk
                db.execute("PRAGMA foreign_keys = ON")
                yield db
        except sqlite3.DatabaseError as error:
            if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
                raise
            raise UserError(
                f"{self._file} cannot be used as the database of ratings: {error}; repair it, or move it away"
            ) from None

    def _make(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        refuse_links(self._file.parent, {self._file.name})
        db = sqlite3.connect(self._file, timeout=_BUSY_SECONDS, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)
        except sqlite3.DatabaseError:
            db.close()
            raise
        # It stays open: closing the last connection copies the log into the database and waits for the disk several times.
        self._open, self._made = db, True

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Return a context with a transaction, which is on the disk when the context ends without an error."""
        with self.connected() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
