"""Generated hostile archives and images: nothing is executed or written outside, and each ends in a sentence within seconds."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import signal
import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmlbench.data.archive import unpack
from dmlbench.data.images import read_image
from dmlbench.errors import UserError

MOST_SECONDS = 5
MUTANTS = 12  # of each valid file
# PostScript, scripts and markup that a program which trusts the suffix would interpret.
PROGRAMS = {
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch executed) (w) file\nshowpage\n%%EOF\n",
    "dos_eps": struct.pack("<I6I", 0xC6D3D0C5, 32, 100, 0, 0, 0, 0).ljust(32, b"\0") + b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "pdf": b"%PDF-1.7\n1 0 obj << /OpenAction << /S /Launch /F (touch executed) >> >>\n%%EOF\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "mvg": b"push graphic-context\nfill 'url(https://localhost/\"|touch \"executed)'\npop graphic-context\n",
    "script": b"#!/bin/sh\ntouch executed\n",
    "pickle": b"cos\nsystem\n(S'touch executed'\ntR.",
    "wmf": b"\xd7\xcd\xc6\x9a" + bytes(200),
    "fits": b"SIMPLE  =                    T".ljust(2880),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(200),
}


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"it took more than {MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutants(content: bytes, seed: int, count: int = MUTANTS) -> Iterator[bytes]:
    """The content truncated, with changed bytes near its start or anywhere, with large numbers, or with a part repeated."""
    draw = random.Random(seed)
    for number in range(count):
        changed = bytearray(content)
        where = draw.randrange(min(len(content), 600))
        kind = number % 5
        if kind == 0:
            changed = changed[: draw.randrange(1, len(content))]
        elif kind == 1:
            for _ in range(8):
                changed[draw.randrange(min(len(content), 600))] = draw.randrange(256)
        elif kind == 2:
            changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        elif kind == 3:
            changed[where : where + 4] = draw.choice(
                [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"]
            )
        else:
            changed[where:where] = changed[where : where + draw.randrange(1, 200)] * 3
        yield bytes(changed)


# ---- archives


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(content)
    return info, content


def tar_file(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zip_file(*members: tuple[str, int, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, mode, content in members:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, mode << 16
            archive.writestr(info, content)
    return out.getvalue()


def hostile_archives(outside: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each archive."""
    up = "../" * 40
    escapes = (
        f"{up}{outside}",
        str(outside),
        "../escaped",
        "a/../../escaped",
        "./../escaped",
        "..",
        "/../escaped",
        "\\..\\x/../..",
    )
    for number, name in enumerate(escapes):
        yield f"escape{number}.tar", tar_file(member(name, content=b"x"))
        yield f"escape{number}.zip", zip_file((name, stat.S_IFREG | 0o644, b"x"))
    links = (str(outside), up, "../escaped", "one", "/dev/zero", "/proc/self/environ")
    for number, target in enumerate(links):
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
                pair = (member("one", kind, target), member("one/escaped", content=b"x"))
                yield f"link{number}{kind.decode()}{form}.tar", tar_file(*pair, form=form)
        yield f"link{number}.zip", zip_file(("one", stat.S_IFLNK | 0o777, target.encode()), ("one/escaped", 0, b"x"))
    for kind in (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z"):
        yield f"special{kind.decode()}.tar", tar_file(member("one", kind))
    for mode in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK):
        yield f"special{mode}.zip", zip_file(("one", mode | 0o644, b""))
    for number, name in enumerate(
        ("\x1b]0;x\x07", "\x9b31m", "a\nb", "\udcff", "x" * 5000, "a/" * 3000 + "b", "nul\0", "a" * 300)
    ):
        yield f"name{number}.tar", tar_file(member(name, content=b"x"), form=tarfile.PAX_FORMAT if name != "\udcff" else 1)
    bomb = tar_file(member("bomb", content=bytes(2**21)))
    huge = bytearray(tar_file(member("bomb")))
    huge[124:136] = b"\x80" + (2**60).to_bytes(11, "big")
    huge[148:156] = b"%06o\0 " % (sum(huge[:148]) + 256 + sum(huge[156:512]))
    yield "huge.tar", bytes(huge)
    yield "huge.tar.gz", gzip.compress(bytes(huge))
    yield "nested.tar.gz", gzip.compress(gzip.compress(bomb))
    good_tar = tar_file(member("top", tarfile.DIRTYPE), *(member(f"top/{k}", content=os.urandom(700)) for k in range(4)))
    good_zip = zip_file(*((f"top/{k}", 0, bytes(700)) for k in range(4)))
    forms = {
        "a.tar": good_tar,
        "a.tar.gz": gzip.compress(good_tar, mtime=0),
        "a.tar.bz2": bz2.compress(good_tar),
        "a.tar.xz": lzma.compress(good_tar),
        "a.zip": good_zip,
    }
    for seed, (name, content) in enumerate(forms.items()):
        yield name, content
        for number, mutant in enumerate(mutants(content, seed)):
            yield f"{number}{name}", mutant


def test_hostile_archives_write_nothing_outside_and_end_in_a_sentence(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("before")
    sentences, count = [], 0
    for name, content in hostile_archives(outside):
        work = tmp_path / "work"
        target = work / "in" / "out"
        target.mkdir(parents=True)
        (work / name).write_bytes(content)
        count += 1
        with time_limit():
            try:
                unpack([work / name], target)
            except UserError as error:
                sentences.append(str(error))
        assert {path.name for path in work.iterdir()} == {name, "in"}, name
        assert [path.name for path in (work / "in").iterdir()] == ["out"], name
        for path in target.rglob("*"):
            assert stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR), name
            assert path.is_dir() or path.stat().st_nlink == 1, name
        work.rename(tmp_path / f"done{count}")
    assert outside.read_text() == "before"
    assert count > 120
    assert len(sentences) > 80
    assert all(sentence.isprintable() for sentence in sentences)


# ---- images


def image_files() -> Iterator[tuple[str, bytes]]:
    """A valid file of each format."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, dict[str, object]] = {
        "a.jpg": {"exif": exif},
        "progressive.jpg": {"progressive": True},
        "a.png": {"exif": exif},
        "a.bmp": {},
        "a.gif": {},
        "a.webp": {"exif": exif},
        "a.tif": {},
        "lzw.tif": {"compression": "tiff_lzw"},
        "jpeg.tif": {"compression": "jpeg"},
        "a.ppm": {},
        "a.jp2": {},
    }
    for name, arguments in options.items():
        out = io.BytesIO()
        image = Image.fromarray(pixels)
        (image.quantize(16) if name == "a.gif" else image).save(
            out, Image.registered_extensions()[Path(name).suffix], **arguments
        )
        yield name, out.getvalue()


def hostile_images() -> Iterator[tuple[str, bytes]]:
    """Name and content of each file."""
    for name, content in PROGRAMS.items():
        yield f"{name}.jpg", content
        yield f"{name}_2.png", b"\x89PNG\r\n\x1a\n" + content
    for number, header in enumerate(
        (b"P6 99999999 99999999 255\n", b"P6 1 99999999 255\n", b"P5 -1 5 255\n", b"P6 " + b"9" * 5000)
    ):
        yield f"header{number}.ppm", header
    for seed, (name, content) in enumerate(image_files()):
        yield name, content
        for number, mutant in enumerate(mutants(content, seed, 2 * MUTANTS)):
            yield f"{number}{name}", mutant


def test_hostile_images_execute_nothing_and_are_read_or_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    started = tmp_path / "started"
    for program in ("gs", "gswin32c", "convert", "sh"):
        path = tmp_path / "bin" / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\ntouch {started}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)
    n_read, sentences = 0, []
    for name, content in hostile_images():
        path = tmp_path / name
        path.write_bytes(content)
        with time_limit():
            try:
                assert read_image(path, upright=True).shape[0] == 3
                n_read += 1
            except UserError as error:
                sentences.append(str(error))
    assert not started.exists()
    assert not (tmp_path / "executed").exists()
    assert n_read > 50
    assert len(sentences) > 150
    assert not any("\n" in sentence for sentence in sentences)
