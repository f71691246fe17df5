"""Uploads from anybody: a sentence and a status of 4xx, the server stays up, and memory stays bounded."""

from __future__ import annotations

import io
import resource
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from web_helpers import Browserless, encoded, noise

from dmlbench.errors import UserError
from dmlbench.web.decoder import MAX_BYTES, Decoder


def png(width: int, height: int, bits: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    """A PNG file whose header says what is given."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as members:
        members.writestr("photo.jpg", b"x" * 1000)
    return out.getvalue()


def tiff(kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).random((9, 9)).astype(np.float32)).save(out, kind)
    return out.getvalue()


JPEG = encoded(noise(60, 80), "JPEG")
PNG = encoded(noise(60, 80))
WEBP = encoded(noise(60, 80), "WEBP")
GIF = encoded(noise(60, 80), "GIF")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
BOMB = b"\0" * 30_000_000
REFUSED = {
    "an empty file": b"",
    "one byte": b"x",
    "zeros": bytes(10_000),
    "text": b"hello, world\n" * 100,
    "HTML": b"<!doctype html><script>alert(1)</script>",
    "SVG with a script": SVG,
    "SVG after the start of a PNG": b"\x89PNG\r\n\x1a\n" + SVG,
    "a ZIP archive named .jpg": archive(),
    "a gzip bomb": zlib.compress(BOMB),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93.",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(x) run\n",
    "PDF": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
    "ELF": b"\x7fELF\x02\x01\x01" + bytes(200),
    "ICO": encoded(noise(16, 16), "ICO"),
    "TGA": encoded(noise(16, 16), "TGA"),
    "PCX": encoded(noise(16, 16), "PCX"),
    "a truncated JPEG": JPEG[: len(JPEG) // 2],
    "a JPEG header only": JPEG[:20],
    "a truncated PNG": PNG[: len(PNG) // 2],
    "a PNG header only": PNG[:33],
    "a truncated WebP": WEBP[: len(WEBP) // 2],
    "a truncated GIF": GIF[:30],
    "a PNG of 2^31 pixels per side": png(2**31 - 1, 2**31 - 1),
    "a PNG of 65,535 x 65,535 pixels": png(65535, 65535),
    "a PNG of 51 megapixels": png(10_000, 5_100),
    "a PNG bomb": png(60_000, 60_000, data=BOMB),
    "a PNG of 0 pixels": png(0, 0),
    "a PNG of 0 x 5 pixels": png(0, 5),
    "a strip of 1 x 20,000 pixels": png(20_000, 1, data=bytes(60_001)),
    "a PNG with an unknown colour type": png(9, 9, colour=9),
    "a PNG with 3 bits": png(9, 9, bits=3),
    "a PNG with too few data": png(500, 500, data=b"\0" * 100),
    "a BMP of 2^31 pixels per side": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
    "a GIF of 65,535 x 65,535 pixels": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";",
    "a PPM of 10^9 x 10^9 pixels": b"P6 1000000000 1000000000 255\n",
    "a JPEG with 65,535 x 65,535 pixels": JPEG.replace(struct.pack(">HH", 60, 80), struct.pack(">HH", 65535, 65535), 1),
    "floating-point pixels": tiff("TIFF"),
    "a TIFF whose directory refers to itself": b"II*\0\x08\0\0\0"
    + b"\x01\0"
    + b"\0\x01\x04\0\xff\xff\xff\xff\x08\0\0\0"
    + b"\x08\0\0\0",
    "50 MB": b"\xff\xd8\xff" + bytes(50_000_000),
    "a file just above the limit": bytes(MAX_BYTES + 1),
}


def test_forty_hostile_uploads_are_tried() -> None:
    assert len(REFUSED) >= 40


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_upload_is_refused_with_a_sentence(shared: Browserless, name: str) -> None:
    answer = shared.upload(REFUSED[name], "photo.jpg")
    assert 400 <= answer.status_code < 500
    assert answer.text.count('id="error"') == 1
    sentence = answer.text.partition('role="alert">')[2].partition("</p>")[0]
    assert sentence.endswith(".")
    assert "upload-" not in sentence
    assert "dataset." not in sentence
    assert shared.get("/api/models").status_code == 200


ACCEPTED = {
    "16 bits": (np.arange(2500, dtype=np.uint16).reshape(50, 50) * 26, "PNG"),
    "grey": (noise(50, 50)[..., 0], "PNG"),
    "transparent": (np.dstack([noise(50, 50), noise(50, 50)[..., 0]]), "PNG"),
    "animated": (noise(50, 50), "GIF"),
    "one pixel": (noise(1, 1), "PNG"),
    "JPEG 2000": (noise(50, 50), "JPEG2000"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_unusual_images_are_accepted(shared: Browserless, name: str) -> None:
    sent = shared.upload(encoded(*ACCEPTED[name]), dataset=shared.first.key)
    assert sent.status_code == 303
    assert shared.get(sent.location).status_code == 200


def test_an_exif_orientation_is_applied_and_the_position_is_dropped(shared: Browserless) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[1] = "N"
    pixels = noise(30, 60)
    turned = shared.services.uploads.add(encoded(pixels, "PNG", exif=exif))
    assert (turned.pixels == np.rot90(pixels, -1)).all()
    assert b"Exif" not in turned.picture


def test_the_name_of_a_file_is_not_used(client: Browserless, place: Path) -> None:
    before = files_below(place)
    names = ["../../etc/passwd", "/etc/passwd", "a\x00b.png", "..\\..\\x.png", "<script>.png", "x" * 3000]
    for name in names:
        sent = client.upload(PNG, name, dataset=client.first.key)
        assert sent.status_code == 303
        page = client.get(sent.location)
        assert page.status_code == 200
        assert name not in page.text
    assert files_below(place) - before <= {"runs/.web/uploads"}


def files_below(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*")}


def test_a_decoder_that_takes_too_long_is_ended_and_the_next_image_is_decoded(tmp_path: Path) -> None:
    decoder = Decoder(tmp_path, seconds=0.02)
    try:
        with pytest.raises(UserError, match="cannot be decoded within"):
            decoder.decode(encoded(noise(2000, 2000), "PNG", compress_level=1))
        decoder._seconds = 20
        assert (decoder.decode(PNG) == noise(60, 80)).all()
        assert list(tmp_path.iterdir()) == []
    finally:
        decoder.close()


def test_a_decoder_that_dies_is_started_again(tmp_path: Path) -> None:
    decoder = Decoder(tmp_path)
    try:
        decoder.decode(PNG)
        assert decoder._process is not None
        decoder._process.kill()
        decoder._process.wait()
        assert decoder.decode(PNG).shape == (60, 80, 3)
    finally:
        decoder.close()


def test_memory_of_uploads_is_bounded(shared: Browserless) -> None:
    uploads = shared.services.uploads
    kept = uploads._kept
    capacity, kept.capacity = kept.capacity, 10 * 2**20
    try:
        first = uploads.add(encoded(noise(1000, 1000), "JPEG"))
        for seed in range(1, 8):
            uploads.add(encoded(noise(1000, 1000, seed), "JPEG"))
        assert len(kept) == 3
        with pytest.raises(UserError, match="upload it again"):
            uploads.get(first.token)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name in ("a PNG bomb", "a PNG of 65,535 x 65,535 pixels", "a JPEG with 65,535 x 65,535 pixels"):
            shared.upload(REFUSED[name])
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 2**10  # KiB
    finally:
        kept.capacity = capacity


def test_an_upload_without_file_is_refused(shared: Browserless) -> None:
    assert "choose an image" in shared.post("/upload").text
    assert shared.post("/upload").status_code == 422
