"""Letters as pdflatex can set them, in ASCII and with its standard fonts, whatever encoding the user's document has."""

from __future__ import annotations

import unicodedata

_MARKUP = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # After the end of a line of a tabular these two would be read as its arguments.
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
# Greek capitals that look like a Latin letter have no command of their own.
_CAPITALS = {
    **{letter: rf"\mathrm{{{latin}}}" for letter, latin in zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧ", "ABEZHIKMNOPTX", strict=True)},
    **{letter: rf"\{unicodedata.name(letter).split()[-1].title()}" for letter in "ΓΔΘΞΠΣΥΦΨΩ"},
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
    names = {name: "LAMDA" if name == "lambda" else name.upper() for name in _GREEK.split()}
    return {unicodedata.lookup(f"GREEK SMALL LETTER {known}"): rf"\{name}" for name, known in names.items()}


_LETTERS = {
    **_MARKUP,
    **_LATIN,
    **{letter: rf"\ensuremath{{{command}}}" for letter, command in {**_greek(), **_CAPITALS, **_MATHEMATICS}.items()},
    "±": r"$\pm$",
}


def escape(text: str) -> str:
    r"""Escape what LaTeX would read as a command, and what its standard fonts lack.

    Args:
        text: any Unicode text; white space counts as one space.

    Returns:
        ASCII: a letter that no standard font has is told by its code point.

    >>> print(escape("50 % of R&D_1 ± 2"))
    50 \% of R\&D\_1 $\pm$ 2
    >>> print(escape("Müller's α, 中"))
    M\"{u}ller's \ensuremath{\alpha}, {[}U+4E2D]
    """
    return "".join(_letter(letter) for letter in unicodedata.normalize("NFC", " ".join(text.split())))


def _letter(letter: str) -> str:
    if letter in _LETTERS:
        return _LETTERS[letter]
    if letter.isascii() and letter.isprintable():
        return letter
    base, *marks = list(unicodedata.normalize("NFD", letter))
    if not marks or not base.isascii() or any(mark not in _ACCENTS for mark in marks):
        return f"{{[}}U+{ord(letter):04X}]"
    accented = {"i": r"\i", "j": r"\j"}.get(base, base)
    for mark in marks:
        accented = f"{_ACCENTS[mark]}{{{accented}}}"
    return accented
