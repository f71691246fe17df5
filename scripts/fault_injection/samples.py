"""Sound files, which are then damaged."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import shutil
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from .faults import Fault
from .kinds import KINDS, Kind, execute, make_template
from .processes import run_command

RUN = "runs/a/b/05c5c0ef-9551612e-0"
INTERRUPTED = KINDS["train"].command
CHECKPOINT = "checkpoint.pt"  # at the top of the sample; the reader moves it into the run
_TRIAL = (
    '{"number": 1, "state": "complete", "score": 0.5, "values": {"a": 1}, "intermediate_values": [[1, 0.5]], "seconds": 1.0}'
)


@cache
def images() -> tuple[bytes, ...]:
    """Return small images of all formats, and files of formats that must be refused."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    found = []
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "ICO", "TGA", "PCX", "SGI", "DDS"):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, form)
        found.append(out.getvalue())
    for mode in ("L", "P", "LA", "RGBA", "1", "I;16", "CMYK", "F"):
        out = io.BytesIO()
        grey = Image.fromarray(pixels).convert("L")
        image = Image.fromarray(np.array(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert("RGB").convert(mode)
        image.save(out, "TIFF" if mode in ("CMYK", "F") else "PNG")
        found.append(out.getvalue())
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(evil) run\nshowpage\n%%EOF\n"
    return (*found, postscript, b"%PDF-1.4\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"")


def make_embeddings(folder: Path) -> None:
    """Write `file.safetensors`, `file.npz`, and `file.npy` with `file.csv`.

    Args:
        folder: Directory to write to.
    """
    import torch
    from safetensors.numpy import save_file

    rows = torch.nn.functional.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(0))).numpy()
    labels = np.arange(8) % 4
    roles = {"is_query": np.arange(8) < 4, "is_gallery": np.arange(8) >= 4}
    everything = {"embeddings": rows, "labels": labels, "ids": np.arange(8), **roles}
    save_file(everything, str(folder / "file.safetensors"))
    np.savez(folder / "file.npz", **everything)  # type: ignore[arg-type]
    np.save(folder / "file.npy", rows)
    lines = [f"{label},{number},{number < 4},{number >= 4}" for number, label in enumerate(labels)]
    (folder / "file.csv").write_text("\n".join(["labels,ids,is_query,is_gallery", *lines]) + "\n")


def make_samples(folder: Path) -> None:
    """Write all sound files: single ones, `with-run/` with two runs, and `interrupted/` with a run that was killed.

    Args:
        folder: A new directory.
    """
    import torch

    from dmlbench.config.files import conf_dir

    make_template(KINDS["train"], folder / "made")
    with contextlib.redirect_stdout(io.StringIO()):
        execute([KINDS["train"].command], folder / "made")
    [row] = (folder / "made").rglob("row.json")
    make_embeddings(folder)
    for name in ("file.npy", "file.csv"):
        (folder / "npy").mkdir(exist_ok=True)
        shutil.copy(folder / name, folder / "npy" / name)
    shutil.copy(row, folder / "row.json")
    (folder / "trials").mkdir()
    (folder / "trials" / "0001.json").write_text(_TRIAL)
    torch.save(torch.nn.Linear(2, 2).state_dict(), folder / "weights.pth")
    shutil.copy(conf_dir() / "published" / "roadmap.yaml", folder / "source.yaml")
    (folder / "conf" / "loss").mkdir(parents=True)
    shutil.copy(conf_dir() / "loss" / "triplet.yaml", folder / "conf" / "loss" / "mine.yaml")
    for loss, run_id in (("b", row.parent.name), ("c", "05c5c0ef-9551612f-0")):
        other = folder / "with-run" / RUN.replace("/b/", f"/{loss}/")
        shutil.copytree(row.parent, other)
        text = (other / "row.json").read_text()
        (other / "row.json").write_text(text.replace(row.parent.name, run_id))
    _interrupt(folder, row)


def _interrupt(folder: Path, row: Path) -> None:
    """Make `interrupted/`, whose run is killed after its last checkpoint, and in which `expected` is its row."""
    kind, target = KINDS["train"], folder / "interrupted"
    process = multiprocessing.get_context("fork").Process(target=_run_until_embeddings, args=(kind, target, folder / "control"))
    process.start()
    process.join()
    [checkpoint] = target.rglob("checkpoint.pt")
    checkpoint.rename(target / CHECKPOINT)
    shutil.copy(row, target / "expected")


def _run_until_embeddings(kind: Kind, target: Path, control: Path) -> None:
    make_template(kind, target)
    undisturbed = control.with_name("undisturbed")
    shutil.copytree(target, undisturbed)
    events = run_command(kind, undisturbed, control, Fault()).traces["command"]
    number = next(i for i, event in enumerate(events, 1) if "embeddings.safetensors" in event)
    run_command(kind, target, control.with_name("control-of-kill"), Fault("kill", number))
