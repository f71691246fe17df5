"""Pack runs as entries, in memory. Each is read again as everybody else will read it; `writing` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dmlbench.publication.claim import Artifact, Claim
from dmlbench.publication.entry_files import check_row, parse_entry
from dmlbench.publication.layout import MAX_BYTES, entry_path
from dmlbench.publication.scrub import scrubbed
from dmlbench.publication.writing import PackedEntry, with_claim, write_entries
from dmlbench.results import run_files
from dmlbench.results.class_files import class_group_names, class_names
from dmlbench.results.row import Row
from dmlbench.system.regular_files import parse_json, read_bytes
from dmlbench.verification import Tier, Verdict, verify_row

__all__ = ["PackedEntry", "Statement", "pack", "write_entries"]

MAX_SOURCE_BYTES = 2**29  # of the scores of a run
RUN_ID = "{run_id}"  # stands for the run id in addresses


@dataclass(frozen=True)
class Statement:
    """What a publisher states about some runs.

    Args:
        who: Name of the publisher.
        licence: SPDX identifier of the licence of the entries.
        paper: Authors, title and venue of the paper.
        paper_url: Address of the paper.
        code: Address of the code.
        commit: Revision of the code; None for the revision that the row records.
        embeddings: Address of the embeddings, in which `{run_id}` stands for the run id.
        weights: Address of the model, likewise.
    """

    who: str
    licence: str
    paper: str | None = None
    paper_url: str | None = None
    code: str | None = None
    commit: str | None = None
    embeddings: str | None = None
    weights: str | None = None


def pack(verdict: Verdict, statement: Statement) -> PackedEntry:
    """Return the entry of a verified run.

    Args:
        verdict: Verdict on the row of the run, which has the directory of the run.
        statement: What its publisher states.

    Raises:
        ValueError: The run cannot be published. The message is a clause.
        OSError: A file of the run cannot be read.
    """
    _refuse_inconsistent(verdict)
    folder = verdict.row.folder
    assert folder is not None
    columns = scrubbed(parse_json(read_bytes(folder / run_files.ROW, MAX_BYTES[run_files.ROW])))  # not yet migrated
    row = Row(columns, folder)
    check_row(row)
    contents = {run_files.ROW: _json(columns)}
    if row.ok:
        contents[run_files.COMPACT_SCORES] = _scores(row)
    for name, values in ((run_files.CLASSES, class_names(row)), (run_files.CLASS_GROUPS, class_group_names(row))):
        if values and row.ok:
            contents[name] = _json(values)
    contents = with_claim(row, _claim(row, statement, verdict.tier), contents)
    for name, content in contents.items():
        if len(content) > MAX_BYTES[name]:
            raise ValueError(f"its {name} would have {len(content):,} bytes; at most {MAX_BYTES[name]:,} are published")
    found = parse_entry(contents, folder)
    packed = verify_row(found.row, found.scores)
    _refuse_inconsistent(packed)
    return PackedEntry(Path(entry_path(row)), contents, packed)


def _refuse_inconsistent(verdict: Verdict) -> None:
    if verdict.findings:
        raise ValueError("; ".join(finding.message for finding in verdict.findings))


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def _scores(row: Row) -> bytes:
    """Return the compact scores of the queries of a run, or those of an entry that is published again."""
    from safetensors import SafetensorError
    from safetensors.numpy import load, save

    from dmlbench.results.score_packing import compact_scores

    assert row.folder is not None
    try:
        scores = load(read_bytes(row.folder / run_files.PER_QUERY, MAX_SOURCE_BYTES))
    except FileNotFoundError:
        try:
            return read_bytes(row.folder / run_files.COMPACT_SCORES, MAX_BYTES[run_files.COMPACT_SCORES])
        except FileNotFoundError:
            raise ValueError(f"it has no scores of single queries ({run_files.PER_QUERY}), so nobody could check it") from None
    except SafetensorError as error:
        raise ValueError(f"its {run_files.PER_QUERY} is damaged ({error})") from None
    models = row.get("n_models") if row.get("protocol_fold") == "all" else 1
    return save(compact_scores(scores, models if isinstance(models, int) else 1))


def _claim(row: Row, statement: Statement, tier: Tier) -> Claim:
    return Claim(
        who=statement.who,
        licence=statement.licence,
        published=datetime.now(UTC).date().isoformat(),
        tier=tier,
        paper=statement.paper,
        paper_url=statement.paper_url,
        code=statement.code,
        commit=statement.commit or _text(row.get("code_revision")),
        embeddings=_artifact(row, statement.embeddings, "embeddings_sha256"),
        weights=_artifact(row, statement.weights, "model_sha256"),
    )


def _artifact(row: Row, url: str | None, column: str) -> Artifact | None:
    if url is None:
        return None
    digest = row.get(column)
    if not isinstance(digest, str):
        raise ValueError(f"its row has no {column}, so nobody could check the file at {url}")
    return Artifact(url.replace(RUN_ID, str(row["run_id"])), digest)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
