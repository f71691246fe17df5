"""The functions that read files of others, and the damaged files that each receives."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from .damage import archives, damaged, damaged_json
from .samples import CHECKPOINT, INTERRUPTED, RUN, images

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Reader:
    """A function that reads a file of somebody else.

    Args:
        file: Name of the file below the directory of the reader, or several, of which one is damaged at a time.
        strategy: Makes the strategy of its contents, from the directory of the sound file and its name.
        read: Reads it; receives the directory. It raises UserError to refuse it.
        share: Number of files, relative to other readers.
        sample: Directory of the samples, which the reader finds complete; None for an empty directory.
        imports: Modules that do more than bind names, such as matplotlib, which lists fonts; imported before files are read.
    """

    file: str | tuple[str, ...]
    strategy: Callable[[Path, str], st.SearchStrategy[bytes]]
    read: Callable[[Path], object]
    share: float = 1.0
    sample: str | None = None
    imports: tuple[str, ...] = ()


def _command(*argv: str) -> Callable[[Path], object]:
    """A command of dmlbench, which has to end with a status and without control characters in its output."""

    def read(folder: Path) -> None:
        from dmlbench.cli import run
        from dmlbench.errors import UserError

        output, before = io.StringIO(), Path.cwd()
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                status = run([*argv])
        finally:
            os.chdir(before)
        if found := _CONTROL.search(output.getvalue()):
            raise ValueError(f"the output contains the control character {found[0]!r}")
        if "Traceback (most recent call last)" in output.getvalue():
            raise ValueError(f"the output contains a traceback: {output.getvalue()[-300:]}")
        if status:
            raise UserError("refused")

    return read


def _unpack(folder: Path) -> None:
    from dmlbench.data.archive import unpack

    (folder / "unpacked").mkdir()
    unpack([folder / "archive.tar"], folder / "unpacked")
    for path in (folder / "unpacked").rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path.name} was unpacked, and is neither a file nor a directory")


def _read_image(folder: Path) -> None:
    from dmlbench.data.images import read_image

    read_image(folder / "image.jpg")


def _load_embeddings(suffix: str) -> Callable[[Path], object]:
    def read(folder: Path) -> None:
        from dmlbench.evaluation.embedding_files import load_embeddings

        load_embeddings(folder / f"file{suffix}")

    return read


def _read_row(folder: Path) -> None:
    from dmlbench.results.row_files import read_row, read_rows

    rows, skipped = read_rows(folder)  # must never raise for a directory
    if len(rows) + len(skipped) != 1:
        raise ValueError(f"{len(rows)} rows and {len(skipped)} skipped files")
    read_row(folder / "row.json")


def _read_trial(folder: Path) -> None:
    from dmlbench.tuning.trials import read_trials, read_values

    (folder / "trials" / "0001").mkdir()
    shutil.copy(folder / "trials" / "0001.json", folder / "trials" / "0001" / "values.json")
    read_trials(folder, [1])
    read_values(folder, 1)


def _load_weights(folder: Path) -> None:
    import torch

    from dmlbench.models.weights import load_weights

    load_weights("trunk/test", torch.nn.Linear(2, 2), folder / "weights.pth")


def _read_literature(folder: Path) -> None:
    from dmlbench.results.literature_files import read_tables

    read_tables(folder)


def _resume(folder: Path) -> None:
    """Continue an interrupted run from a checkpoint, which must give the row of an undisturbed run, or none."""
    from dmlbench.results.row_files import read_row

    [lock] = (folder / "runs").rglob(".lock")
    (folder / CHECKPOINT).rename(lock.with_name(CHECKPOINT))
    _command(*INTERRUPTED)(folder)
    [row], expected = folder.rglob("row.json"), folder / "expected"
    if read_row(row).outcome != read_row(expected).outcome:
        raise ValueError("the row differs from that of an undisturbed run, in silence")


_RUN_FILES = ("row.json", "classes.json", "class_groups.json", "overrides.json", "history.jsonl", "per_query.safetensors")
_OF_RUN = tuple(f"{RUN}/{name}" for name in _RUN_FILES)
_SHOWN = (*_OF_RUN, *(f"{RUN}/{name}" for name in ("images.json", "embeddings.safetensors")))
_SAVED = tuple(
    f"{RUN}/{name}"
    for name in ("row.json", "overrides.json", "model.pt", "embeddings.safetensors", "classes.json", "class_groups.json")
)


def _from_sample(samples: Path, name: str) -> st.SearchStrategy[bytes]:
    """Damaged versions of the sample file of this name."""
    content = (samples / name).read_bytes()
    return (damaged_json if name.endswith(".json") else damaged)([content])


READERS = {
    "archives": Reader("archive.tar", lambda samples, name: archives(), _unpack),
    "images": Reader("image.jpg", lambda samples, name: damaged(images()), _read_image),
    "embeddings .safetensors": Reader("file.safetensors", _from_sample, _load_embeddings(".safetensors")),
    "embeddings .npz": Reader("file.npz", _from_sample, _load_embeddings(".npz")),
    "embeddings .npy": Reader(("file.npy", "file.csv"), _from_sample, _load_embeddings(".npy"), sample="npy"),
    "rows": Reader("row.json", _from_sample, _read_row),
    "trials": Reader("trials/0001.json", _from_sample, _read_trial),
    "weights": Reader("weights.pth", _from_sample, _load_weights),
    "published results": Reader("source.yaml", _from_sample, _read_literature, 0.5),
    "dmlbench show": Reader(_OF_RUN, _from_sample, _command("show", RUN), 0.25, "with-run"),
    "dmlbench show --pictures": Reader(
        _SHOWN,
        _from_sample,
        _command("show", RUN, "--pictures", "out.png", "--queries", "worst:1", "--classes", "2"),
        0.05,
        "with-run",
        ("matplotlib.font_manager",),
    ),
    "dmlbench report": Reader(
        _SHOWN,
        _from_sample,
        _command("report", "runs", "--output", "report.html"),
        0.05,
        "with-run",
        ("matplotlib.font_manager",),
    ),
    "dmlbench table": Reader(_OF_RUN, _from_sample, _command("table", "--explain"), 0.25, "with-run"),
    "dmlbench table --format csv": Reader(_OF_RUN, _from_sample, _command("table", "--format", "csv"), 0.1, "with-run"),
    "dmlbench compare": Reader(_OF_RUN, _from_sample, _command("compare", "a/b", "a/c"), 0.25, "with-run"),
    "dmlbench evaluate": Reader(_SAVED, _from_sample, _command("evaluate", RUN, "--layer", "pooled"), 0.05, "with-run"),
    "dmlbench train, loss file": Reader(
        "conf/loss/mine.yaml",
        _from_sample,
        _command("train", "loss=mine", "dataset=synthetic", "--config-dir", "conf", "--cfg", "job"),
        0.05,
    ),
    "dmlbench train, checkpoint": Reader(CHECKPOINT, _from_sample, _resume, 0.05, "interrupted"),
}
