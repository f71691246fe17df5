"""Fake runs with all their files, and a reader of report pages that uses the standard library only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rows_factory import METRICS, make_row
from safetensors.numpy import save_file

from dmlbench.cli import run

N_CLASSES, PER_CLASS, DIM = 6, 4, 8
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@dataclass
class Node:
    """An element of a page."""

    tag: str
    attributes: dict[str, str]
    children: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, without superfluous white space."""
        return " ".join("".join(one if isinstance(one, str) else f" {one.text} " for one in self.children).split())

    @property
    def raw(self) -> str:
        """All text inside, unchanged."""
        return "".join(one if isinstance(one, str) else one.raw for one in self.children)

    def all(self, tag: str = "", **attributes: str) -> list[Node]:
        """All elements inside with a tag and attributes, in the order of the page; `class_` matches one of the classes."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        found = []
        for child in self.children:
            if isinstance(child, Node):
                found += [child] * child._matches(tag, wanted)
                found += child.all(tag, **attributes)
        return found

    def one(self, tag: str = "", **attributes: str) -> Node:
        """The only such element."""
        [found] = self.all(tag, **attributes)
        return found

    def _matches(self, tag: str, wanted: dict[str, str]) -> bool:
        own = self.attributes
        fits = all(
            value in own.get(name, "").split() if name == "class" else own.get(name) == value for name, value in wanted.items()
        )
        return fits and tag in ("", self.tag)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        assert len(node.attributes) == len(attrs), f"<{tag}> has an attribute twice"
        self.open[-1].children.append(node)
        if tag not in _VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(text: str) -> Node:
    """Read a page whose elements are all closed."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == [reader.root]
    return reader.root


def report(*arguments: str, output: str = "report.html") -> Node:
    """Write a report in the current directory, and read it."""
    assert run(["report", *arguments, "--output", output]) == 0
    return parse(Path(output).read_text(encoding="utf-8"))


def write_run(runs: Path, loss: str, seed: int, score: float = 0.5, photos: Path | None = None, **columns: Any) -> Path:
    """Write a finished run with scores of its queries, embeddings, names of classes and a history."""
    generator = np.random.default_rng([seed, *loss.encode()])
    labels = np.repeat(np.arange(N_CLASSES), PER_CLASS)
    ids = np.arange(len(labels))
    scores = np.clip(generator.normal(score, 0.05, len(labels)) + 0.05 * (labels % 3 - 1), 0, 1).astype(np.float32)
    metrics = dict.fromkeys(METRICS, float(scores.mean(dtype=np.float64)))
    own = {"overrides": json.dumps([f"loss={loss}"]), "train_seconds": 10.0 + seed + len(loss), **columns}
    row = make_row(**{**metrics, "loss": loss, "seed": seed, "n_queries": len(labels), "n_test_classes": N_CLASSES, **own})
    folder = runs / str(row["dataset"]) / loss / str(row["run_id"])
    folder.mkdir(parents=True)
    (folder / "row.json").write_text(json.dumps(dict(row.columns)))
    save_file({"ids": ids, "labels": labels, **dict.fromkeys(METRICS, scores)}, folder / "per_query.safetensors")
    rows = np.eye(DIM, dtype=np.float32)[labels] + generator.normal(0, 0.5, (len(labels), DIM)).astype(np.float32)
    flags = np.ones(len(labels), dtype=bool)
    embeddings = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    save_file(
        {"embeddings": embeddings, "labels": labels, "ids": ids, "is_query": flags, "is_gallery": flags},
        folder / "embeddings.safetensors",
    )
    (folder / "classes.json").write_text(json.dumps({str(label): f"class {label}" for label in range(N_CLASSES)}))
    epochs = [{"epoch": epoch, "loss": 1 / epoch, "validation_map_at_r": 0.1 * epoch} for epoch in (1, 2, 3)]
    (folder / "history.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    if photos is not None:
        paths = [f"{image_id}.png" for image_id in ids.tolist()]
        (folder / "images.json").write_text(json.dumps({"root": str(photos), "ids": ids.tolist(), "paths": paths}))
    return folder


def write_photos(root: Path) -> Path:
    """Write one small image per query."""
    root.mkdir()
    generator = np.random.default_rng(0)
    for image_id in range(N_CLASSES * PER_CLASS):
        Image.fromarray(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(root / f"{image_id}.png")
    return root


def write_study(runs: Path, losses: Sequence[str] = ("untrained", "contrastive", "triplet", "arcface"), **columns: Any) -> None:
    """Write runs of some losses with three seeds each; each loss is better than the one before it."""
    for place, loss in enumerate(losses):
        for seed in range(3):
            write_run(runs, loss, seed, 0.3 + 0.1 * place, **columns)
