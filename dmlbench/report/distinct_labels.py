"""Short names of methods that stay different from each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dmlbench.pictures.labels import shortened, width

_HEAD = 8  # characters from the beginning of a name that is cut before the first difference


def distinct(names: Sequence[str], most: int) -> list[str]:
    """Shorten names. If several would be equal, the part in which they differ is kept.

    Args:
        names: Names.
        most: Largest width of a short name, in characters; twice as much if names are not unique otherwise.

    Returns:
        Short names. Those that are equal even with twice the width are numbered.

    >>> distinct(["Multi-similarity (lr=0.0001)", "Multi-similarity (lr=0.001)", "ArcFace"], 20)
    ['Multi-s… (lr=0.0001)', 'Multi-si… (lr=0.001)', 'ArcFace']
    """
    found = [_short(one, most) for one in names]
    for cut in (_around_difference, _twice_as_wide, _numbered):
        counts = Counter(found)
        for same in [one for one, n in counts.items() if n > 1]:
            places = [place for place, one in enumerate(found) if one == same]
            for place, text in zip(places, cut([names[one] for one in places], most), strict=True):
                found[place] = text
    return found


def _short(name: str, most: int) -> str:
    """Shorten a name; values in parentheses at its end are kept if there is room for them."""
    head, separator, values = name.rpartition(" (")
    room = most - width(separator + values) - 1
    if width(name) <= most or not values.endswith(")") or room < _HEAD - 1:
        return shortened(name, most)
    return f"{_begun(head, room + 1)}{separator}{values}"


def _around_difference(names: Sequence[str], most: int) -> list[str]:
    """Return the beginning of each name, and what follows from the word in which the names begin to differ."""
    n_common = next((n for n, chars in enumerate(zip(*names, strict=False)) if len(set(chars)) > 1), min(map(len, names)))
    common = names[0][:n_common]
    start = max(common.rfind(separator) for separator in " ,(") + 1
    head = common[:start] if start <= _HEAD else f"{common[: _HEAD - 1]}…"
    return [_begun(head + one[start:], most) for one in names]


def _begun(text: str, most: int) -> str:
    """Return a text without its end if it is too wide."""
    if width(text) <= most:
        return text
    while width(text) >= most:
        text = text[:-1]
    return f"{text}…"


def _twice_as_wide(names: Sequence[str], most: int) -> list[str]:
    return [shortened(one, 2 * most) for one in names]


def _numbered(names: Sequence[str], most: int) -> list[str]:
    return [f"{shortened(one, most)} #{number}" for number, one in enumerate(names, 1)]
