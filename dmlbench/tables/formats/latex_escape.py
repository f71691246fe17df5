"""Escape text for LaTeX: ASCII only, for pdflatex with its standard fonts and any input encoding."""

from __future__ import annotations

import unicodedata

_MARKUP = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # At the start of a row of a tabular, LaTeX would read these two as arguments of the preceding \\.
    "[": "{[}",
    "*": "{*}",
}
_LATIN = {
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "§": r"\S{}",
    "©": r"\copyright{}",
}
_MATHEMATICS = {
    "±": r"\pm",
    "×": r"\times",
    "·": r"\cdot",
    "−": "-",
    "≤": r"\leq",
    "≥": r"\geq",
    "≈": r"\approx",
    "≠": r"\neq",
    "∞": r"\infty",
    "→": r"\rightarrow",
    "←": r"\leftarrow",
    "°": r"^\circ",
    "²": "^2",
    "³": "^3",
    "µ": r"\mu",
    "√": r"\surd",
    "∈": r"\in",
    "ϵ": r"\epsilon",
    "ϕ": r"\phi",
    "ς": r"\varsigma",
    "ε": r"\varepsilon",
    "φ": r"\varphi",
    "ο": "o",
}
_GREEK = "alpha beta gamma delta zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon chi psi omega"
# LaTeX has no command for Greek capitals that look like a Latin capital.
_CAPITALS = {
    **{greek: rf"\mathrm{{{latin}}}" for greek, latin in zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧ", "ABEZHIKMNOPTX", strict=True)},
    **{greek: rf"\{unicodedata.name(greek).split()[-1].title()}" for greek in "ΓΔΘΞΠΣΥΦΨΩ"},
    "Λ": r"\Lambda",
}
_ACCENTS = {
    "\u0300": r"\`",
    "\u0301": r"\'",
    "\u0302": r"\^",
    "\u0303": r"\~",
    "\u0304": r"\=",
    "\u0306": r"\u",
    "\u0307": r"\.",
    "\u0308": r"\"",
    "\u030a": r"\r",
    "\u030b": r"\H",
    "\u030c": r"\v",
    "\u0323": r"\d",
    "\u0327": r"\c",
    "\u0331": r"\b",
}


def _greek() -> dict[str, str]:
    """Return the command of each small Greek letter; Unicode spells lambda as LAMDA."""
    unicode_names = {name: "LAMDA" if name == "lambda" else name.upper() for name in _GREEK.split()}
    return {unicodedata.lookup(f"GREEK SMALL LETTER {known}"): rf"\{name}" for name, known in unicode_names.items()}


_REPLACEMENTS = {
    **_MARKUP,
    **_LATIN,
    **{character: rf"\ensuremath{{{command}}}" for character, command in {**_greek(), **_CAPITALS, **_MATHEMATICS}.items()},
    "±": r"$\pm$",
}


def escape(text: str) -> str:
    r"""Escape LaTeX's special characters, and characters that its standard fonts do not have.

    Args:
        text: Any Unicode text. Consecutive white space becomes one space.

    Returns:
        ASCII text. A character that no standard font has is replaced by its code point.

    >>> print(escape("50 % of R&D_1 ± 2"))
    50 \% of R\&D\_1 $\pm$ 2
    >>> print(escape("Müller's α, 中"))
    M\"{u}ller's \ensuremath{\alpha}, {[}U+4E2D]
    """
    return "".join(_escaped(character) for character in unicodedata.normalize("NFC", " ".join(text.split())))


def _escaped(character: str) -> str:
    if character in _REPLACEMENTS:
        return _REPLACEMENTS[character]
    if character.isascii() and character.isprintable():
        return character
    base, *marks = list(unicodedata.normalize("NFD", character))
    if not marks or not base.isascii() or any(mark not in _ACCENTS for mark in marks):
        return f"{{[}}U+{ord(character):04X}]"
    accented = {"i": r"\i", "j": r"\j"}.get(base, base)
    for mark in marks:
        accented = f"{_ACCENTS[mark]}{{{accented}}}"
    return accented
