"""Studies of blind rating in a SQLite database. Each rating is one transaction, on the disk before it is confirmed.

A study fixes its queries and the images that each model returned for them. An image that several models returned is shown and
rated once, and its rating counts for each of them, so the page of a rater depends only on the set of images.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from dmlbench.errors import UserError
from dmlbench.web.rating_database import Database
from dmlbench.web.rating_records import SCORES, Item, Rating, Study

_NAME_LENGTH = 60


class Ratings:
    """The database of studies.

    Args:
        file: SQLite database; made on first use.
    """

    def __init__(self, file: Path) -> None:
        self._database = Database(file)

    def create(
        self,
        collection: str,
        label: str,
        models: Mapping[str, tuple[str, Mapping[str, float]]],
        answers: Sequence[tuple[int, Mapping[str, Sequence[int]]]],
    ) -> str:
        """Begin a study.

        Args:
            collection: Key of the data set.
            label: Name of the data set.
            models: Key of each model to its label and metrics.
            answers: For each query, the id of its image, and the ids of the images that each model returned, best first.

        Returns:
            The token of the study.
        """
        token = secrets.token_urlsafe(12)
        with self._database.transaction() as db:
            study = db.execute(
                "INSERT INTO studies (token, collection, label, created) VALUES (?, ?, ?, ?)",
                (token, collection, label, _now()),
            ).lastrowid
            rows = [(study, key, name, json.dumps(metrics)) for key, (name, metrics) in models.items()]
            db.executemany("INSERT INTO models VALUES (?, ?, ?, ?)", rows)
            for position, (image, found) in enumerate(answers):
                db.execute("INSERT INTO queries VALUES (?, ?, ?)", (study, position, image))
                each = [(study, position, key, rank, one) for key, ids in found.items() for rank, one in enumerate(ids, 1)]
                db.executemany("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", each)
        return token

    def studies(self) -> list[Study]:
        """Return all studies, the newest first."""
        with self._database.connected() as db:
            return [_study(db, row) for row in db.execute("SELECT * FROM studies ORDER BY id DESC").fetchall()]

    def study(self, token: str) -> Study:
        """Return a study.

        Args:
            token: Its random name.

        Raises:
            LookupError: There is no such study.
        """
        with self._database.connected() as db:
            row = db.execute("SELECT * FROM studies WHERE token = ?", (token,)).fetchone()
            if row is None:
                raise LookupError(token)
            return _study(db, row)

    def rater(self, name: str) -> int:
        """Return the number of a rater, who is new or takes up where he left.

        Args:
            name: Name that he typed; upper and lower case and spaces do not matter.

        Raises:
            UserError: The name is empty or too long.
        """
        cleaned = " ".join(name.split()).casefold()
        if not 1 <= len(cleaned) <= _NAME_LENGTH:
            raise UserError(f"type a name of 1 to {_NAME_LENGTH} characters")
        with self._database.transaction() as db:
            db.execute("INSERT INTO raters (name, created) VALUES (?, ?) ON CONFLICT DO NOTHING", (cleaned, _now()))
            return int(db.execute("SELECT id FROM raters WHERE name = ?", (cleaned,)).fetchone()[0])

    def items(self, study: Study, rater: int, position: int) -> tuple[int, list[Item]]:
        """Return the query of a page and the images to rate, in a random order that stays the same for this rater.

        Args:
            study: The study.
            rater: Number of the rater.
            position: Number of the query.

        Raises:
            LookupError: There is no such query or rater.
        """
        where = "study = ? AND position = ?"
        with self._database.transaction() as db:
            query = db.execute(f"SELECT image FROM queries WHERE {where}", (study.id, position)).fetchone()
            if query is None or db.execute("SELECT 1 FROM raters WHERE id = ?", (rater,)).fetchone() is None:
                raise LookupError(position)
            known = f"SELECT 1 FROM items WHERE {where} AND rater = ?"
            if db.execute(known, (study.id, position, rater)).fetchone() is None:
                found = db.execute(f"SELECT DISTINCT image FROM answers WHERE {where}", (study.id, position)).fetchall()
                images = [int(row[0]) for row in found]
                secrets.SystemRandom().shuffle(images)
                new = [(secrets.token_urlsafe(16), study.id, rater, position, i, image) for i, image in enumerate(images)]
                db.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", new)
            rows = db.execute(
                "SELECT token, image, score FROM items LEFT JOIN ratings ON item = token "
                f"WHERE {where} AND rater = ? ORDER BY place",
                (study.id, position, rater),
            ).fetchall()
        return int(query[0]), [Item(token, image, score) for token, image, score in rows]

    def images_of(self, token: str, rater: int) -> tuple[str, int, int] | None:
        """Return the data set's key, and the ids of an image on a page of a rater and of its query; None if there is none.

        Args:
            token: Random name of the image.
            rater: Number of the rater.
        """
        with self._database.connected() as db:
            row = db.execute(
                "SELECT collection, items.image, queries.image FROM items JOIN studies ON studies.id = items.study "
                "JOIN queries ON queries.study = items.study AND queries.position = items.position "
                "WHERE items.token = ? AND rater = ?",
                (token, rater),
            ).fetchone()
        return None if row is None else (str(row[0]), int(row[1]), int(row[2]))

    def rate(self, token: str, rater: int, score: int) -> None:
        """Store a rating. When this returns, it is on the disk. A second rating of the same image replaces the first.

        Args:
            token: Random name of the image.
            rater: Number of the rater.
            score: 1 to 5.

        Raises:
            UserError: The score is none of these, or the image is not one of this rater's.
        """
        if score not in SCORES:
            raise UserError(f"a rating is a whole number from {SCORES[0]} to {SCORES[-1]}")
        with self._database.transaction() as db:
            if db.execute("SELECT 1 FROM items WHERE token = ? AND rater = ?", (token, rater)).fetchone() is None:
                raise UserError("this image is not on a page of yours; reload the page")
            db.execute(
                "INSERT INTO ratings VALUES (?, ?, ?) ON CONFLICT (item) DO UPDATE SET score = excluded.score, "
                "rated = excluded.rated WHERE score <> excluded.score",
                (token, score, _now()),
            )

    def next_position(self, study: Study, rater: int) -> int:
        """Return the first query with an image that a rater has not rated; the number of queries if there is none.

        Args:
            study: The study.
            rater: Number of the rater.
        """
        with self._database.connected() as db:
            row = db.execute(
                "SELECT MIN(position) FROM queries WHERE study = :study AND (SELECT COUNT(DISTINCT image) FROM answers WHERE "
                "answers.study = :study AND answers.position = queries.position) > (SELECT COUNT(*) FROM items JOIN ratings "
                "ON item = token WHERE items.study = :study AND items.position = queries.position AND rater = :rater)",
                {"study": study.id, "rater": rater},
            ).fetchone()
        return study.n_queries if row[0] is None else int(row[0])

    def ratings(self, study: Study) -> list[Rating]:
        """Return all ratings of a study.

        Args:
            study: The study.
        """
        with self._database.connected() as db:
            answers: dict[tuple[int, int], dict[str, int]] = {}
            for position, model, rank, image in db.execute(
                "SELECT position, model, rank, image FROM answers WHERE study = ? ORDER BY position, model, rank", (study.id,)
            ):
                answers.setdefault((position, image), {})[model] = rank
            rows = db.execute(
                "SELECT rater, items.position, queries.image, items.image, score, rated FROM items "
                "JOIN ratings ON item = token "
                "JOIN queries ON queries.study = items.study AND queries.position = items.position "
                "WHERE items.study = ? ORDER BY rater, items.position, place",
                (study.id,),
            ).fetchall()
        return [
            Rating(rater, position, query, image, score, rated, answers.get((position, image), {}))
            for rater, position, query, image, score, rated in rows
        ]


def _study(db: sqlite3.Connection, row: Sequence[object]) -> Study:
    number, token, collection, label, _ = row
    models = db.execute("SELECT model, label, metrics FROM models WHERE study = ? ORDER BY rowid", (number,)).fetchall()
    n_queries = db.execute("SELECT COUNT(*) FROM queries WHERE study = ?", (number,)).fetchone()[0]
    return Study(
        id=int(number),  # type: ignore[call-overload]
        token=str(token),
        collection=str(collection),
        label=str(label),
        n_queries=int(n_queries),
        models={key: name for key, name, _ in models},
        metrics={key: json.loads(metrics) for key, _, metrics in models},
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
