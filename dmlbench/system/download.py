"""Download files: interrupted downloads resume, and a file gets its final name once it is complete and its hash is verified."""

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
ATTEMPTS = 5  # consecutive connections without a new byte, before the download fails
CHUNK_BYTES = 1 << 18
HASHES = ("sha256", "md5")  # some publishers give only the md5, which detects damage but not forgery


def download(url: str, file: Path, hashes: Mapping[str, str], otherwise: str) -> None:
    """Download a file unless it exists. A partial download in `FILE.part` is continued.

    Args:
        url: Address of the file.
        file: Destination. An existing file is only verified. Missing parent directories are created.
        hashes: `sha256` or `md5` to the hex digest, or to its first digits. Empty if no hash is published.
        otherwise: What the user can do instead; the last clause of the error messages.

    Raises:
        UserError: The address is not one of a web server, the server cannot be reached or returns an error, or the hash is
            wrong. A download with a wrong hash is removed.
    """
    if not url.lower().startswith(("https://", "http://")):  # urllib would also read local files
        raise UserError(f"{url!r} is not an address that starts with https:// or http://; {otherwise}")
    if file.is_file():
        verify_hash(file, hashes, f"{file}", "remove it, and it is fetched again")
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    advice = f"put it at {file} yourself, or {otherwise}"
    failures, before = 0, _size(part)
    while not _download_rest(url, part, advice):
        failures, before = (0 if _size(part) > before else failures + 1), _size(part)
        if failures == ATTEMPTS:
            raise UserError(f"the download of {url} was interrupted {ATTEMPTS} times at byte {before:,}; {advice}")
        time.sleep(failures / 2)
    try:
        verify_hash(part, hashes, f"the download of {url}", "it was removed")
    except UserError:
        part.unlink()  # the next attempt has to start from the first byte
        raise
    part.replace(file)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _download_rest(url: str, part: Path, advice: str) -> bool:
    """Append the missing bytes of a file.

    Returns:
        Whether the file is complete, according to the length that the server declares.

    Raises:
        UserError: The server cannot be reached, or returns an error.
    """
    present = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={present}-"} if present else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # nothing is missing, or the part is another file, which its hash reveals
        raise UserError(f"the server returns {error.code} {error.reason} for {url}; {advice}") from error
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"{url} cannot be reached ({getattr(error, 'reason', error)}); {advice}") from error
    with response:
        if present and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            present = 0  # this server does not support ranges and sends the whole file
        length = response.headers.get("Content-Length")
        total = present + int(length) if length else None
        with (
            part.open("ab" if present else "wb") as out,
            tqdm(total=total, initial=present, unit="B", unit_scale=True, disable=None, desc=part.stem, leave=False) as bar,
        ):
            while chunk := _read_chunk(response):
                out.write(chunk)
                bar.update(len(chunk))
    return total is None or _size(part) >= total


def _read_chunk(response: http.client.HTTPResponse) -> bytes:
    """Return the next bytes, or none if the connection broke: the next request asks for the missing ones."""
    try:
        return response.read1(CHUNK_BYTES)
    except (OSError, http.client.HTTPException):
        return b""


def verify_hash(file: Path, hashes: Mapping[str, str], name: str, consequence: str) -> None:
    """Compare a file with its published hash.

    Args:
        file: The file.
        hashes: As in `download`. Empty accepts every file.
        name: Name of the file in the error message.
        consequence: Last clause of the error message, such as `"it was removed"`.

    Raises:
        UserError: The hash is wrong. The message contains both hashes.
    """
    for algorithm in HASHES:
        if algorithm in hashes:
            with file.open("rb") as stream:
                actual = hashlib.file_digest(stream, algorithm).hexdigest()
            if not actual.startswith(hashes[algorithm]):
                raise UserError(
                    f"{name} is not the published file: its {algorithm} is {actual}, not {hashes[algorithm]}; {consequence}"
                )
            return
