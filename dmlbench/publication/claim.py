"""What the publisher of an entry states: `claim.yaml`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from dmlbench.publication.names import why_not_printable
from dmlbench.system.plain_yaml import parse_plain_yaml, plain_yaml
from dmlbench.verification import Tier

FORMAT = "1"
_PATTERNS = {
    "commit": (re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{3,79}"), "a revision, such as 9a58512"),
    "licence": (re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,39}"), "an SPDX identifier, such as CC-BY-4.0"),
    "published": (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "a date, such as 2026-11-22"),
    "sha256": (re.compile(r"[0-9a-f]{64}"), "64 hex digits"),
    "url": (
        re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?(/[A-Za-z0-9._~!$&()*+,;=:@%/?#-]*)?"),
        "an address that begins with https://",
    ),
}
_KEYS = (
    "format",
    "who",
    "paper",
    "paper_url",
    "code",
    "commit",
    "licence",
    "tier",
    "published",
    "embeddings",
    "weights",
    "files",
)


class Artifact(NamedTuple):
    """A file that can be downloaded: its address, and its SHA-256 in hex."""

    url: str
    sha256: str


@dataclass(frozen=True)
class Claim:
    """What the publisher of an entry states. Nothing of it is believed without being checked.

    Args:
        who: Name of the publisher.
        licence: SPDX identifier of the licence of the entry.
        published: Day of the publication, `YYYY-MM-DD`.
        tier: Tier that the publisher's verification reached.
        paper: Authors, title and venue of the paper; None without one.
        paper_url: Address of the paper.
        code: Address of the code.
        commit: Revision of the code.
        embeddings: Where the embeddings are.
        weights: Where the model is.
        files: Name to SHA-256 of the other files of the entry.

    Raises:
        ValueError: A value is not accepted. The message is a clause.
    """

    who: str
    licence: str
    published: str
    tier: Tier = Tier.CONSISTENT
    paper: str | None = None
    paper_url: str | None = None
    code: str | None = None
    commit: str | None = None
    embeddings: Artifact | None = None
    weights: Artifact | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("who", "paper"):
            if (text := getattr(self, name)) is not None and (reason := why_not_printable(text)):
                raise ValueError(f"its {name} {reason}")
        if not self.who.strip():
            raise ValueError("it does not say who publishes the entry (who)")
        for name, kind in (("licence", "licence"), ("published", "published"), ("commit", "commit")):
            _check(name, getattr(self, name), kind)
        _check_day(self.published)
        for name in ("paper_url", "code"):
            _check(name, getattr(self, name), "url")
        for name in ("embeddings", "weights"):
            if (artifact := getattr(self, name)) is not None:
                _check(f"{name}.url", artifact.url, "url")
                _check(f"{name}.sha256", artifact.sha256, "sha256")
        for name, digest in self.files.items():
            _check(f"files.{name}", digest, "sha256")


def claim_text(claim: Claim) -> str:
    """Return the contents of `claim.yaml`.

    Args:
        claim: Claim of an entry.
    """
    values: dict[str, Any] = {"format": FORMAT, **{name: getattr(claim, name) for name in _KEYS[1:]}}
    values["tier"] = str(claim.tier)
    for name in ("embeddings", "weights"):
        values[name] = None if values[name] is None else values[name]._asdict()
    return plain_yaml({**values, "files": dict(claim.files)})


def parse_claim(text: str) -> Claim:
    """Parse `claim.yaml`.

    Args:
        text: Contents of the file. It may come from anybody.

    Raises:
        ValueError: It is no claim. The message is a clause.
    """
    values = parse_plain_yaml(text)
    if unknown := [name for name in values if name not in _KEYS]:
        raise ValueError(f"it has the unknown key {unknown[0][:80]!r}")
    if missing := [name for name in ("format", "who", "licence", "published", "tier", "files") if values.get(name) is None]:
        raise ValueError(f"it has no value for '{missing[0]}'")
    if values.pop("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}; update dmlbench")
    convert: dict[str, Callable[[str, Any], Any]] = {
        "embeddings": _artifact,
        "weights": _artifact,
        "files": _texts,
        "tier": _tier,
    }
    return Claim(**{name: convert.get(name, _text)(name, value) for name, value in values.items() if value is not None})


def _check(name: str, value: str | None, kind: str) -> None:
    pattern, meaning = _PATTERNS[kind]
    if value is not None and not (len(value) <= 2000 and pattern.fullmatch(value)):
        raise ValueError(f"its {name} is {value[:80]!r}; it needs {meaning}")


def _check_day(published: str) -> None:
    try:
        date.fromisoformat(published)
    except ValueError:
        raise ValueError(f"its published is {published!r}, which is no day of the calendar") from None


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"its {name} is not text")
    return value


def _texts(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"its {name} is not a mapping")
    return {key: _text(f"{name}.{key}", one) for key, one in value.items()}


def _artifact(name: str, value: Any) -> Artifact:
    texts = _texts(name, value)
    if set(texts) != set(Artifact._fields):
        raise ValueError(f"its {name} needs {' and '.join(Artifact._fields)}")
    return Artifact(**texts)


def _tier(name: str, value: Any) -> Tier:
    text = _text(name, value)
    if text not in list(Tier):
        raise ValueError(f"its {name} is {text[:80]!r}; it needs one of {', '.join(Tier)}")
    return Tier(text)
