"""Pack runs as entries. All runs are checked before the first entry is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dmlbench.errors import UserError
from dmlbench.publication.claim import Artifact, Claim, claim_text, parse_claim
from dmlbench.publication.entries import read_entry
from dmlbench.publication.entry_files import check_row
from dmlbench.publication.eval_results import eval_results_text
from dmlbench.publication.layout import CLAIM, EVAL_RESULTS, MAX_BYTES, entry_path
from dmlbench.publication.scrub import scrubbed
from dmlbench.results import run_files
from dmlbench.results.class_files import class_group_names, class_names
from dmlbench.results.row import Row
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.own_directory import refuse_links
from dmlbench.system.regular_files import parse_json, read_bytes
from dmlbench.verification import Tier, Verdict

Outcome = Literal["written", "updated", "unchanged"]
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


class PackedEntry(NamedTuple):
    """An entry to be written: its directory below the root, and the contents of its files, `claim.yaml` last."""

    path: Path
    contents: dict[str, bytes]


def pack(verdict: Verdict, statement: Statement) -> PackedEntry:
    """Return the entry of a verified run.

    Args:
        verdict: Verdict on the row of the run, which has the directory of the run.
        statement: What its publisher states.

    Raises:
        ValueError: The run cannot be published. The message is a clause.
        OSError: A file of the run cannot be read.
    """
    if verdict.findings:
        raise ValueError("; ".join(finding.message for finding in verdict.findings))
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
    claim = _claim(row, statement, verdict.tier)
    contents[EVAL_RESULTS] = eval_results_text(row, claim).encode()
    for name, content in contents.items():
        if len(content) > MAX_BYTES[name]:
            raise ValueError(f"its {name} would have {len(content):,} bytes; at most {MAX_BYTES[name]:,} are published")
    contents[CLAIM] = claim_text(_with_files(claim, contents)).encode()
    return PackedEntry(Path(entry_path(row)), contents)


def write_entries(packed: Iterable[PackedEntry], root: Path) -> list[Outcome]:
    """Write entries. None is written if one of them would replace other results.

    Args:
        packed: Entries to write.
        root: Root of the entries; created if missing.

    Returns:
        What happened to each.

    Raises:
        UserError: An entry with the same run id has other results, or a directory is a link.
    """
    dated = [_with_former_date(one, root) for one in packed]
    return [_write(one, root) for one in dated]


def _with_former_date(packed: PackedEntry, root: Path) -> PackedEntry:
    """Return an entry with the date of the one that it replaces, which has to have the same results."""
    folder = root / packed.path
    refuse_links(folder, tuple(MAX_BYTES))
    try:
        former = read_entry(folder)
    except (OSError, ValueError, UserError):  # there is none, or it is damaged
        return packed
    row = Row(parse_json(packed.contents[run_files.ROW]))
    if former.row.outcome != row.outcome:
        raise UserError(
            f"{folder} has other results of the same run; keep it, or delete it and publish again. A repetition on another "
            "machine is evidence for the tier `retrained`, not another entry"
        )
    claim = replace(parse_claim(packed.contents[CLAIM].decode()), published=former.claim.published)
    contents = {**packed.contents, EVAL_RESULTS: eval_results_text(row, claim).encode()}
    return packed._replace(contents={**contents, CLAIM: claim_text(_with_files(claim, contents)).encode()})


def _write(packed: PackedEntry, root: Path) -> Outcome:
    folder = root / packed.path
    former = {name: _content(folder / name) for name in MAX_BYTES}
    if {name: content for name, content in former.items() if content is not None} == packed.contents:
        return "unchanged"
    with suppress(FileNotFoundError):
        (folder / CLAIM).unlink()  # an entry without claim is none, until everything else is written
    for name in former.keys() - packed.contents.keys():
        (folder / name).unlink(missing_ok=True)
    for name, content in packed.contents.items():  # the claim is the last
        atomic_write(folder / name, content)
    return "updated" if any(former.values()) else "written"


def _content(file: Path) -> bytes | None:
    try:
        return read_bytes(file, MAX_BYTES[file.name])
    except OSError:
        return None


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


def _with_files(claim: Claim, contents: Mapping[str, bytes]) -> Claim:
    """Return a claim with the digests of the other files."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items()) if name != CLAIM}
    return replace(claim, files=digests)
