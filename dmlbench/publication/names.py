"""Names and text in entries that anybody may have written: none that looks like another one, or that cannot be printed."""

from __future__ import annotations

import re
import unicodedata

MAX_LENGTH = 500
# Columns that name configuration files or external data; pages link them and directories are called after them.
IDENTIFIERS = ("dataset", "trunk", "protocol", "loss", "preset", "optimizer", "sampler")
LABELS = ("dataset_label", "trunk_label", "loss_label", "trunk_weights")
_IDENTIFIER = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._+/ -]{0,98}[A-Za-z0-9._+/-])?")
_OUTSIDE_OF_NAMES = re.compile(r"[^a-z0-9._-]+")
_WORD = re.compile(r"[^\W\d_]+")
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters and symbols without ink
# Greek letters that are not mistaken for Latin ones.
_DISTINCT = frozenset("ΓΔΘΛΞΠΣΦΨΩβδζθλξπσφψ")
# Letters of one script; others, such as those of Chinese and Japanese, are not mistaken for Latin ones.
_SIMILAR_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "FULLWIDTH", "MATHEMATICAL")


def directory_name(name: str) -> str:
    """Return the name of a directory for a data set, protocol or method.

    Args:
        name: Name of a configuration file, or of external data.

    >>> directory_name("CUB 200"), directory_name("../x")
    ('cub_200', 'x')
    """
    return _OUTSIDE_OF_NAMES.sub("_", name.lower()).strip("._-")[:80] or "unnamed"


def why_not_an_identifier(text: str) -> str:
    """Return why a text cannot be an identifier, a clause; empty if it can.

    Args:
        text: Value of one of `IDENTIFIERS`.

    >>> why_not_an_identifier("triplet"), why_not_an_identifier("tripl\u0435t")
    ('', "has the letter '\u0435' (CYRILLIC SMALL LETTER IE); ASCII letters, digits and . _ + / - are accepted")
    """
    if _IDENTIFIER.fullmatch(text):
        return ""
    if not text or len(text) > 100:
        return f"has {len(text)} characters; 1 to 100 are accepted"
    wrong = next((one for one in text if not re.fullmatch(r"[A-Za-z0-9._+/ -]", one)), None)
    if wrong is None:
        return f"is {text!r}; it begins with a letter or a digit, and does not end with a space"
    kind = "letter" if wrong.isalpha() else "character"
    return f"has the {kind} {wrong!r} ({_name(wrong)}); ASCII letters, digits and . _ + / - are accepted"


def why_not_printable(text: str, max_length: int = MAX_LENGTH) -> str:
    """Return why a text cannot be shown as it is, a clause; empty if it can.

    Args:
        text: Text of one line.
        max_length: Largest number of characters.
    """
    if len(text) > max_length:
        return f"has {len(text):,} characters; at most {max_length:,} are accepted"
    if not text.isprintable():  # control and format characters, such as those that reverse the direction
        wrong = next(one for one in text if not one.isprintable())
        return f"has the character U+{ord(wrong):04X} ({_name(wrong)}), which cannot be seen"
    if wrong := next((one for one in text if one in _BLANK), ""):
        return f"has the character U+{ord(wrong):04X} ({_name(wrong)}), which cannot be seen"
    return ""


def with_plain_spaces(text: str) -> str:
    """Return text with a space in the place of each kind of space, such as the wide one of Chinese and Japanese.

    Args:
        text: Text of one line, such as the name of a class.
    """
    return "".join(" " if unicodedata.category(one) == "Zs" else one for one in text)


def why_not_a_label(text: str) -> str:
    """Return why a text cannot be a name in print, a clause; empty if it can.

    Args:
        text: Value of one of `LABELS`.

    >>> why_not_a_label("\u03b2VAE"), why_not_a_label("Tripl\u03b5t")
    ('', "mixes letters of GREEK and LATIN in the word 'Tripl\u03b5t'")
    """
    if reason := why_not_printable(text, 200):
        return reason
    if unicodedata.normalize("NFC", text) != text:
        return "is not in the normal form NFC of Unicode"
    for word in _WORD.findall(text):
        names = (_name(one) for one in word if one not in _DISTINCT)
        scripts = {script for name in names if (script := name.partition(" ")[0]) in _SIMILAR_SCRIPTS}
        if len(scripts) > 1:
            return f"mixes letters of {' and '.join(sorted(scripts))} in the word {word!r}"
    return ""


def _name(character: str) -> str:
    return unicodedata.name(character, "no name")
