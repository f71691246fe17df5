"""The digest of the user's own images covers their contents, which are hashed again only if a file has changed."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from dmlbench.data import contents
from dmlbench.data.contents import hash_contents
from dmlbench.data.datasets.image_folder import folder
from dmlbench.data.split import Split


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Four classes of two files, all of the same size."""
    for number in range(8):
        path = tmp_path / "photos" / "abcd"[number // 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * 100)
    return folder(str(tmp_path / "photos"))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that have been hashed so far."""
    names: list[str] = []
    original = contents._hash_file
    monkeypatch.setattr(contents, "_hash_file", lambda path, buffer: (names.append(path.name), original(path, buffer))[1])
    return names


def test_the_content_of_an_image_is_the_sha256_of_its_file(split: Split, tmp_path: Path) -> None:
    with_contents = hash_contents(split, tmp_path / "store").split
    assert with_contents.frame["content"].tolist() == [hashlib.sha256(bytes([k]) * 100).hexdigest() for k in range(8)]


def test_images_whose_contents_are_exchanged_are_another_data_set(split: Split, tmp_path: Path) -> None:
    before = hash_contents(split, tmp_path / "store").split
    first, last = tmp_path / "photos/a/0.png", tmp_path / "photos/d/7.png"
    exchanged = first.read_bytes(), last.read_bytes()
    last.write_bytes(exchanged[0])
    first.write_bytes(exchanged[1])
    again = folder(str(tmp_path / "photos"))
    assert again.digest == split.digest  # names, sizes and roles are the same
    assert hash_contents(again, tmp_path / "store").split.digest != before.digest


def test_the_same_images_in_another_directory_are_the_same_data_set(split: Split, tmp_path: Path) -> None:
    before = hash_contents(split, tmp_path / "store").split.digest
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert hash_contents(folder(str(tmp_path / "moved")), tmp_path / "store").split.digest == before


@pytest.mark.parametrize("origin", ["published", "generated"])
def test_published_and_generated_data_sets_keep_their_digests_and_record_contents_apart(
    split: Split, tmp_path: Path, origin: str
) -> None:
    split = replace(split, origin=origin)
    with_contents = hash_contents(split, tmp_path / "store").split
    assert with_contents.digest == split.digest
    assert (with_contents.images_digest is None) == (origin == "generated")


def test_images_that_are_permuted_by_renaming_are_another_data_set(split: Split, tmp_path: Path) -> None:
    """Renaming keeps size and modification time of a file."""
    first, last = tmp_path / "photos/a/0.png", tmp_path / "photos/d/7.png"
    for path in (first, last):
        os.utime(path, ns=(1, 1))
    before = hash_contents(split, tmp_path / "store").split
    first.rename(tmp_path / "other")
    last.rename(first)
    (tmp_path / "other").rename(last)
    permuted = hash_contents(split, tmp_path / "store").split
    assert permuted.frame["content"].tolist() == [before.frame["content"][k] for k in (7, 1, 2, 3, 4, 5, 6, 0)]
    assert permuted.digest != before.digest


def test_a_file_that_was_rewritten_with_its_former_time_is_hashed_again(split: Split, tmp_path: Path) -> None:
    path = tmp_path / "photos/b/3.png"
    hash_contents(split, tmp_path / "store")
    time = path.stat().st_mtime_ns
    path.write_bytes(b"x" * 100)
    os.utime(path, ns=(time, time))
    assert hash_contents(split, tmp_path / "store").split.frame["content"][3] == hashlib.sha256(b"x" * 100).hexdigest()


def test_a_file_is_hashed_again_only_if_its_status_has_changed(split: Split, tmp_path: Path, hashed: list[str]) -> None:
    hash_contents(split, tmp_path / "store")
    hash_contents(split, tmp_path / "store")
    assert len(hashed) == 8
    (tmp_path / "photos/b/3.png").write_bytes(b"x" * 100)
    os.utime(tmp_path / "photos/b/3.png", ns=(1, 1))
    changed = hash_contents(split, tmp_path / "store").split
    assert hashed[8:] == ["3.png"]
    assert changed.frame["content"][3] == hashlib.sha256(b"x" * 100).hexdigest()


def test_hashing_again_finds_files_whose_bytes_changed_without_a_new_status(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes on a failing disk, for example."""
    monkeypatch.setattr(contents, "file_status", lambda path: (1, 2, 3, 4))
    hash_contents(split, tmp_path / "store")
    (tmp_path / "photos/b/3.png").write_bytes(b"x" * 100)
    remembered = hash_contents(split, tmp_path / "store")
    again = hash_contents(split, tmp_path / "store", again=True)
    assert remembered.split.digest != again.split.digest
    assert again.changed == ("b/3.png",)
    assert hash_contents(split, tmp_path / "store").split.digest == again.split.digest


def test_digests_remembered_by_size_and_time_only_are_not_used(split: Split, tmp_path: Path, hashed: list[str]) -> None:
    hash_contents(split, tmp_path / "store")
    [file] = (tmp_path / "store").iterdir()
    content = json.loads(file.read_text())
    content["files"] = {name: [100, 1, "0" * 64] for name in content["files"]}
    file.write_text(json.dumps(content))
    assert set(hash_contents(split, tmp_path / "store").split.frame["content"]).isdisjoint({"0" * 64})
    assert len(hashed) == 16


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"files": {"a/0.png": [1]}}', '{"files": 3}'])
def test_a_damaged_store_is_written_again(split: Split, tmp_path: Path, hashed: list[str], text: str) -> None:
    before = hash_contents(split, tmp_path / "store").split.digest
    [file] = (tmp_path / "store").iterdir()
    file.write_text(text)
    assert hash_contents(split, tmp_path / "store").split.digest == before
    assert len(hashed) == 16
    assert len(json.loads(file.read_text())["files"]) == 8


def test_a_directory_that_cannot_be_written_costs_only_time(split: Split, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    digests = {hash_contents(split, tmp_path / name / "store").split.digest for name in ("file", "directory")}
    assert len(digests) == 1


def test_files_that_cannot_be_read_have_no_content_and_are_not_remembered(split: Split, tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / f"photos/a/{number}.png").unlink()
    os.mkfifo(tmp_path / "photos/a/0.png")
    (tmp_path / "photos/a/1.png").symlink_to("nowhere")
    assert hash_contents(split, tmp_path / "store").split.frame["content"].tolist()[:2] == ["", ""]
    [file] = (tmp_path / "store").iterdir()
    assert len(json.loads(file.read_text())["files"]) == 6
