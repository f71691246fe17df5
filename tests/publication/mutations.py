"""Single changes of an honest entry, by name: what somebody might submit, by mistake or on purpose.

A change of a file alone contradicts its SHA-256 in the claim. `resigned` writes the file and the claim that belongs to it, as
somebody would who knows the format.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load, save

from dmlbench.publication.claim import parse_claim
from dmlbench.publication.eval_results import eval_results_text
from dmlbench.publication.layout import CLAIM, EVAL_RESULTS, entry_path
from dmlbench.results import run_files
from dmlbench.results.columns import run_id
from dmlbench.results.row import Row

ROW, SCORES, CLASSES, GROUPS = run_files.ROW, run_files.COMPACT_SCORES, run_files.CLASSES, run_files.CLASS_GROUPS
FILES = (ROW, SCORES, CLASSES, GROUPS, CLAIM, EVAL_RESULTS)
LARGE = 2**30
PAYLOAD = "touch executed"
CYRILLIC_E, REVERSED, ZERO_WIDTH = "\u0435", "\u202e", "\u200b"


class Mutation(NamedTuple):
    """Name of a change, and a function that makes it in an entry, given another honest entry."""

    name: str
    apply: Callable[[Path, Path], object]


def sign(entry: Path) -> None:
    """Write `eval_results.yaml` and the digests of the claim anew, as far as the row can be read."""
    claim = entry / CLAIM
    try:
        text = eval_results_text(Row(json.loads((entry / ROW).read_text())), parse_claim(claim.read_text()))
        (entry / EVAL_RESULTS).write_text(text)
    except Exception:
        pass  # a reader refuses the row before it compares these files
    body = claim.read_text().partition("files:")[0]
    names = sorted(file.name for file in entry.iterdir() if file.name != CLAIM)
    digests = (f"  {name}: {hashlib.sha256((entry / name).read_bytes()).hexdigest()}\n" for name in names)
    claim.write_text(f"{body}files:\n{''.join(digests)}")


def of_files() -> Iterator[Mutation]:
    for name in FILES:
        for size in (0.0, 0.25, 0.5, 0.75, 0.99):
            yield Mutation(f"{name} cut to {size:.0%}", lambda entry, _, name=name, size=size: _cut(entry / name, size))
        for part in (0.0, 0.2, 0.4, 0.6, 0.8):
            yield Mutation(f"a bit of {name} at {part:.0%}", lambda entry, _, name=name, part=part: _flip(entry / name, part))
        yield Mutation(f"{name} with another line", lambda entry, _, name=name: _append(entry / name))
        yield Mutation(f"{name} of another entry", lambda entry, other, name=name: shutil.copy(other / name, entry / name))
        yield Mutation(f"{name} missing", lambda entry, _, name=name: (entry / name).unlink())
        yield Mutation(f"{name} of 1 GiB", lambda entry, _, name=name: os.truncate(entry / name, LARGE))
        yield Mutation(f"{name} a link to another entry", lambda entry, other, name=name: _link(entry / name, other / name))
        yield Mutation(f"{name} a link to a device", lambda entry, _, name=name: _link(entry / name, Path("/dev/zero")))
        yield Mutation(f"{name} a FIFO", lambda entry, _, name=name: _fifo(entry / name))
        yield Mutation(f"{name} a directory", lambda entry, _, name=name: _directory(entry / name))
        yield Mutation(f"{name} empty", lambda entry, _, name=name: _exchange(entry / name, b""))
    for name in (
        "conftest.py",
        "__init__.py",
        "model.pt",
        ".git",
        "row.json.bak",
        "sitecustomize.py",
        "index.html",
        "\u202egpj.exe",
    ):
        yield Mutation(f"the file {name!r}", lambda entry, _, name=name: (entry / name).write_bytes(_pickled()))
        yield Mutation(f"the listed file {name!r}", lambda entry, _, name=name: _add_listed(entry, name))
    yield Mutation("a link beside the files", lambda entry, _: (entry / "data").symlink_to("/etc"))


def of_directories() -> Iterator[Mutation]:
    def renamed(level: int, name: str) -> Callable[[Path, Path], object]:
        def apply(entry: Path, _: Path) -> None:
            folder = [entry, *entry.parents][level]
            folder.rename(folder.with_name(name))

        return apply

    for level, names in enumerate(
        (("0" * 8 + "-" + "0" * 8 + "-0", "x"), ("arcface", "TRIPLET"), ("quick-v2", "quick"), ("cub",))
    ):
        for name in names:
            yield Mutation(f"directory {level} called {name}", renamed(level, name))
    yield Mutation("moved one directory up", lambda entry, _: entry.rename(entry.parent.parent / entry.name))
    yield Mutation(
        "the directory a link",
        lambda entry, _: (entry.rename(entry.parents[4] / "out"), _link(entry, entry.parents[4] / "out")),
    )
    yield Mutation(
        "a copy below another root", lambda entry, _: shutil.copytree(entry.parents[2], entry.parents[3] / "more/digits")
    )
    yield Mutation(
        "a copy as another method", lambda entry, _: shutil.copytree(entry, entry.parents[1] / "arcface" / entry.name)
    )
    yield Mutation("a copy inside of itself", lambda entry, _: shutil.copytree(entry, entry / "digits"))
    yield Mutation("a file above entries", lambda entry, _: (entry.parent / "classes.json").write_text("{}"))
    yield Mutation("a link above entries", lambda entry, _: (entry.parent / "etc").symlink_to("/etc"))


def of_claims() -> Iterator[Mutation]:
    def replaced(old: str, new: str) -> Callable[[Path, Path], object]:
        def apply(entry: Path, _: Path) -> None:
            text = (entry / CLAIM).read_text()
            changed = re.sub(old, lambda match: new, text, count=1, flags=re.MULTILINE)
            assert changed != text
            (entry / CLAIM).write_text(changed)

        return apply

    tags = (
        f"!!python/object/apply:os.system ['{PAYLOAD}']",
        "!!python/name:os.system",
        "!!binary aGk=",
        "!who x",
        "!!str x",
        "! x",
    )
    values = (
        *(
            "[a, b]",
            "{a: b}",
            "&a x",
            "*a",
            '"\\u202ecod"',
            f'"Jane{ZERO_WIDTH}"',
            '"a\\nb"',
            "x" * 501,
            "",
            "~",
            '" "',
            '"\\0"',
        ),
        *tags,
    )
    for value in values:
        yield Mutation(f"who: {value[:40]!r}", replaced("^who: .*$", f"who: {value}"))
    others = {
        "licence": ("all rights reserved", "<b>", "../MIT", "~"),
        "published": ("yesterday", "2026-1-1", "0x10"),
        "tier": ("winner", "TRAINED", "~", "5"),
        "format": ("2", "1.0", "~"),
        "code": (
            "javascript:alert(1)",
            "http://example.org",
            'https://e.org/" onload=x',
            "https://e.org/<script>",
            "data:text/html,x",
        ),
        "commit": ("$(touch executed)", "main branch", "-x", "a" * 100),
        "paper_url": ("//example.org", "https://user@e.org", "https://\u0435xample.org"),
        "embeddings": ("https://example.org/x", "{url: 'https://e.org'}", "{url: 'https://e.org', sha256: 0}"),
        "weights": (f"{{url: 'https://e.org/x', sha256: {'0' * 64}}}", "{url: x, sha256: y, more: z}"),
    }
    for key, wrong in others.items():
        for value in wrong:
            yield Mutation(f"{key}: {value[:40]!r}", replaced(f"^{key}: .*$", f"{key}: {value}"))
    yield Mutation(
        "embeddings of another run", replaced("^embeddings: .*$", f"embeddings: {{url: 'https://e.org/x', sha256: {'0' * 64}}}")
    )
    yield Mutation("a key twice", replaced("^who: .*$", "who: a\nwho: b"))
    yield Mutation("an unknown key", replaced("^who: .*$", "who: a\nverified: true"))
    yield Mutation("a merge key", replaced("^who: .*$", "who: a\n<<: {tier: retrained}"))
    yield Mutation("two documents", replaced("^who: .*$", "who: a\n---\nwho: b"))
    yield Mutation("a file outside", replaced("^files:$", f"files:\n  ../../../secret: {'0' * 64}"))
    yield Mutation("a digest of another file", replaced(r"(?<=row\.json: )\w+", "0" * 64))
    aliases = "".join(f"k{i}: [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]\n".replace(": [", f": &a{i} [") for i in range(9))
    for name, text in {
        **{"not YAML": "{", "a text": "who", "a list": "- who", "empty": "", "a bomb": aliases, "deep": "{a: " * 50_000},
        **{
            "UTF-16": "who: x".encode("utf-16").decode("latin-1"),
            "a tab": "who:\n\tx: y",
            "a program": "#!/bin/sh\ntouch executed\n",
        },
        **{"JSON": '{"who": 1}', "large": "who: x\n" + "# comment\n" * 100_000},
    }.items():
        yield Mutation(
            f"a claim that is {name}", lambda entry, _, text=text: (entry / CLAIM).write_text(text, encoding="latin-1")
        )
    yield Mutation("a claim that is pickled", lambda entry, _: (entry / CLAIM).write_bytes(_pickled()))


def of_rows() -> Iterator[Mutation]:
    def set_to(**columns: Any) -> Callable[[Path, Path], object]:
        return lambda entry, _: (_write_row(entry, {**_row(entry), **columns}), sign(entry))

    def text(old: str, new: str) -> Callable[[Path, Path], object]:
        def apply(entry: Path, _: Path) -> None:
            before = (entry / ROW).read_text()
            (entry / ROW).write_text(re.sub(old, lambda match: new, before, count=1))
            sign(entry)

        return apply

    for columns in (
        *({"run_id": "../../../x"}, {"run_id": None}, {"run_id": "a" * 5000}, {"seed": True}, {"seed": -1}, {"seed": 10**30}),
        *({"dataset": "<script>alert(1)</script>"}, {"dataset": "digit\u0455"}, {"dataset": "../.."}, {"dataset": ""}),
        *(
            {"loss": f"tripl{CYRILLIC_E}t"},
            {"loss": "triplet "},
            {"loss": "a" * 300},
            {"protocol": "quick\n"},
            {"trunk": "<img>"},
        ),
        *({"loss_label": f"Tripl{CYRILLIC_E}t"}, {"loss_label": f"{REVERSED}telpirT"}, {"loss_label": "e\u0301"}),
        *({"loss_label": f"Trip{ZERO_WIDTH}let"}, {"loss_label": "\uff34riplet"}, {"dataset_label": "Digit\x1b[31m"}),
        *({"protocol_version": 2}, {"protocol_version": "1"}, {"protocol_version": None}, {"schema_version": 10**6}),
        *(
            {"status": "failed"},
            {"status": "ok\x00"},
            {"map_at_r": [1]},
            {"map_at_r": {}},
            {"map_at_r": "0.9"},
            {"map_at_r": True},
        ),
        *({"n_queries": 7}, {"n_test_classes": 3}, {"class_groups_digest": "0" * 16}, {"embeddings_sha256": "x"}),
        *({"split_digest": "0" * 16}, {"protocol_epochs": 800}, {"loss_samples_per_class": 8}, {"fingerprint": "0" * 8}),
    ):
        yield Mutation(f"row with {json.dumps(columns)[:60]}", set_to(**columns))
    for name, new in {
        "NaN": "NaN",
        "infinity": "Infinity",
        "1e999": "1e999",
        "400 digits": "1" * 400,
        "a list": "[0.5]",
    }.items():
        yield Mutation(f"MAP@R {name}", text(r'(?<="map_at_r": )[^,\n]+', new))
    yield Mutation("a column twice", text(r"^\{", '{"map_at_r": 0.9,'))
    yield Mutation("a row with half a surrogate", text(r'(?<="loss_label": )"[^"]*"', '"\\ud800"'))
    yield Mutation("a deep row", text(r"^\{", '{"x": ' + "[" * 100_000))
    yield Mutation("a row that is a list", lambda entry, _: ((entry / ROW).write_text("[]"), sign(entry)))
    yield Mutation("a row that is pickled", lambda entry, _: ((entry / ROW).write_bytes(_pickled()), sign(entry)))
    yield Mutation("the same scores as another seed", _another_seed)


def of_scores() -> Iterator[Mutation]:
    def changed(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path, Path], object]:
        def apply(entry: Path, _: Path) -> None:
            arrays = {name: values.copy() for name, values in load((entry / SCORES).read_bytes()).items()}
            change(arrays)
            (entry / SCORES).write_bytes(save(arrays))
            sign(entry)

        return apply

    names = ("best_rank", "hits_at_1", "hits_at_2", "hits_at_4", "hits_at_8", "hits_at_r", "n_relevant", "map_at_r", "labels")
    for name in names:
        yield Mutation(f"scores without {name}", changed(lambda arrays, name=name: arrays.pop(name)))
        yield Mutation(
            f"scores with half of {name}", changed(lambda arrays, name=name: arrays.update({name: arrays[name][::2].copy()}))
        )
        yield Mutation(f"scores with {name} of zeros", changed(lambda arrays, name=name: arrays[name].fill(0)))
        yield Mutation(
            f"one of {name} changed",
            changed(
                lambda arrays, name=name: arrays[name].__setitem__(
                    3, arrays[name][3] ^ 1 if arrays[name].dtype.kind == "u" else 0.3
                )
            ),
        )
    yield Mutation("NaN among scores", changed(lambda arrays: arrays["map_at_r"].__setitem__(0, np.nan)))
    yield Mutation("scores above 1", changed(lambda arrays: arrays["map_at_r"].__setitem__(0, 2.0)))
    yield Mutation("an unknown array", changed(lambda arrays: arrays.update({"eval": np.zeros(60)})))
    yield Mutation("five models", changed(lambda arrays: arrays.update({"n_models": np.array([5], np.uint8)})))
    yield Mutation(
        "scores of half precision", changed(lambda arrays: arrays.update({"map_at_r": arrays["map_at_r"].astype(np.float16)}))
    )
    yield Mutation(
        "exceptions outside",
        changed(
            lambda arrays: arrays.update({"recall_at_1.index": np.array([999], np.uint32), "recall_at_1.value": np.ones(1)})
        ),
    )
    yield Mutation("scores of another entry", lambda entry, other: (shutil.copy(other / SCORES, entry / SCORES), sign(entry)))
    yield Mutation("no scores", lambda entry, _: ((entry / SCORES).unlink(), sign(entry)))
    yield Mutation("pickled scores", lambda entry, _: ((entry / SCORES).write_bytes(_pickled()), sign(entry)))
    yield Mutation("a header of 2 GiB", lambda entry, _: (_header(entry / SCORES, 2**31), sign(entry)))
    yield Mutation("a header of 2^63 bytes", lambda entry, _: (_header(entry / SCORES, 2**63 - 1), sign(entry)))


def of_classes() -> Iterator[Mutation]:
    def changed(name: str, values: object) -> Callable[[Path, Path], object]:
        return lambda entry, _: ((entry / name).write_text(json.dumps(values)), sign(entry))

    names = {str(label): f"class {label}" for label in range(10)}
    for name in (CLASSES, GROUPS):
        for values in (
            [],
            {},
            {"0": "a"},
            {**names, "3": 5},
            {**names, "3": REVERSED},
            {**names, "3": "x" * 501},
            {**names, "3": "\x1b["},
        ):
            yield Mutation(f"{name} {json.dumps(values).replace('class', '')[:100]}", changed(name, values))
    yield Mutation("other groups", changed(GROUPS, names))
    yield Mutation("a script as a class", changed(CLASSES, {**names, "3": "<script>alert(1)</script>"}))


def _row(entry: Path) -> dict[str, Any]:
    found = json.loads((entry / ROW).read_text())
    assert isinstance(found, dict)
    return found


def _write_row(entry: Path, columns: dict[str, Any]) -> None:
    (entry / ROW).write_text(json.dumps(columns))


def _another_seed(entry: Path, _: Path) -> None:
    """Submit the same scores once more, as those of another seed, with everything recomputed."""
    columns = {**_row(entry), "seed": 7}
    columns["run_id"] = run_id(columns["fingerprint"], columns["method_digest"], 7)
    copy = shutil.copytree(entry, entry.parents[3] / entry_path(Row(columns)))
    _write_row(copy, columns)
    sign(copy)


def _cut(file: Path, part: float) -> None:
    os.truncate(file, int(file.stat().st_size * part))


def _flip(file: Path, part: float) -> None:
    data = bytearray(file.read_bytes())
    data[int(len(data) * part)] ^= 1
    file.write_bytes(data)


def _append(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"\nx: y\n")


def _exchange(file: Path, content: bytes) -> None:
    file.unlink()
    file.write_bytes(content)


def _link(file: Path, target: Path) -> None:
    if not file.is_symlink() and file.is_file():
        file.unlink()
    file.symlink_to(target)


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _add_listed(entry: Path, name: str) -> None:
    (entry / name).write_bytes(_pickled())
    sign(entry)


def _header(file: Path, size: int) -> None:
    file.write_bytes(size.to_bytes(8, "little") + file.read_bytes()[8:])


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (PAYLOAD,)


def _pickled() -> bytes:
    return pickle.dumps(_Payload())


GROUPS_OF_MUTATIONS = {
    "files": list(of_files()),
    "directories": list(of_directories()),
    "claims": list(of_claims()),
    "rows": list(of_rows()),
    "scores": list(of_scores()),
    "classes": list(of_classes()),
}
