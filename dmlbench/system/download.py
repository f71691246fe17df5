"""Files from the network: taken up where a connection broke, judged by their hash, in place only when whole."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from dmlbench.errors import UserError

TIMEOUT_S = 20
ATTEMPTS = 5  # connections without a single byte of progress, before it is given up
CHUNK_BYTES = 1 << 18
HASHES = ("sha256", "md5")  # md5 is all that some publishers tell: it finds damage, no forgery


def download(url: str, file: Path, hashes: Mapping[str, str], otherwise: str) -> None:
    """Fetch a file; what a broken connection or a killed process left in `file.part` is gone on from.

    Args:
        url: its address.
        file: where it goes, by rename, once its hash is right; nothing is done where it is there already and right.
        hashes: `sha256` or `md5` in hex, or the first digits of it; empty where nobody has published one.
        otherwise: what the user can do instead, to end a sentence.

    Raises:
        UserError: the server cannot be reached or refuses, or the hash is wrong; what was fetched is removed then.
    """
    if file.is_file():
        verify_hash(file, hashes, f"{file}", "remove it, and it is fetched again")
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    by_hand = f"put it at {file} yourself, or {otherwise}"
    failures, before = 0, _size(part)
    while not _fetch_rest(url, part, by_hand):
        failures, before = (0 if _size(part) > before else failures + 1), _size(part)
        if failures == ATTEMPTS:
            raise UserError(f"{url} broke off {ATTEMPTS} times at byte {before:,}; {by_hand}")
        time.sleep(failures / 2)
    try:
        verify_hash(part, hashes, f"what came from {url}", "it was removed")
    except UserError:
        part.unlink()  # so that the next attempt starts anew
        raise
    part.replace(file)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _fetch_rest(url: str, part: Path, by_hand: str) -> bool:
    """Append what is missing of a file.

    Returns:
        Whether it is whole, as far as the server tells its length.

    Raises:
        UserError: the server cannot be reached, or refuses.
    """
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # nothing is missing; if that is wrong, the hash will say so
        raise UserError(f"{url} answers {error.code} {error.reason}; {by_hand}") from error
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"{url} cannot be reached ({getattr(error, 'reason', error)}); {by_hand}") from error
    with answer:
        if have and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # this server sends only whole files
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            part.open("ab" if have else "wb") as out,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, disable=None, desc=part.stem, leave=False) as bar,
        ):
            while chunk := _read(answer):
                out.write(chunk)
                bar.update(len(chunk))
    return total is None or _size(part) >= total


def _read(answer: http.client.HTTPResponse) -> bytes:
    """The next bytes; none where the connection broke: what is missing is asked for anew."""
    try:
        return answer.read1(CHUNK_BYTES)
    except (OSError, http.client.HTTPException):
        return b""


def verify_hash(file: Path, hashes: Mapping[str, str], what: str, then: str) -> None:
    """Compare a file with its published hash.

    Args:
        file: to be read.
        hashes: as for `download`; empty confirms anything.
        what: how the file is called in the sentence.
        then: what becomes of it, to end the sentence.

    Raises:
        UserError: it is another file; both hashes are said.
    """
    for name in HASHES:
        if name in hashes:
            with file.open("rb") as stream:
                found = hashlib.file_digest(stream, name).hexdigest()
            if not found.startswith(hashes[name]):
                raise UserError(f"{what} is not the published file: its {name} is {found}, not {hashes[name]}; {then}")
            return
