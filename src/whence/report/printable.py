"""Text of the data made safe to look at: it steers no terminal and turns no reading direction around."""

from __future__ import annotations

import re
import unicodedata

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LINES = frozenset("\n\t\r\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}")
"""Kept where a text may have several lines."""
HARMLESS = frozenset(
    "\N{SOFT HYPHEN}\N{ZERO WIDTH SPACE}\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}\N{WORD JOINER}"
    "\N{ZERO WIDTH NO-BREAK SPACE}\N{MONGOLIAN VOWEL SEPARATOR}"
    # Marks without width that have a direction: unlike overrides and isolates they move no letter.
    "\N{LEFT-TO-RIGHT MARK}\N{RIGHT-TO-LEFT MARK}\N{ARABIC LETTER MARK}"
    # Between the letters of a formula.
    "\u2061\u2062\u2063\u2064"
    # Signs that are written around a number: Arabic, Syriac, Kaithi.
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)
"""Format characters (Unicode category Cf) that ordinary writing needs: emoji families, Persian, Indic scripts."""

_FLAG = re.compile("\N{WAVING BLACK FLAG}[\U000e0020-\U000e007e]+\U000e007f")
"""The flag of a region such as Scotland, spelled in tag characters. Elsewhere these hide text."""
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of characters that nobody sees."""
_JOINERS = frozenset("\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")


def printable(text: str, *, lines: bool = False) -> str:
    """The text with every character that could steer its display replaced by U+FFFD, one for one.

    Replaced are control characters (escape sequences), bidirectional embeddings, overrides and isolates, tag
    characters outside a flag, surrogates, private and unassigned code points; kept are `HARMLESS` ones.

    lines: keep line breaks and tabs.
    """
    if text.isprintable():
        return text
    flags = _flags(text)
    kept = HARMLESS | LINES if lines else HARMLESS
    return "".join(
        character if character.isprintable() or character in kept or place in flags else REPLACEMENT
        for place, character in enumerate(text)
    )


def visible(text: str, *, lines: bool = False) -> str:
    """The text with every character that nobody sees named, as in `⟨U+200B⟩`: for places, names and
    phrases, which have to be told apart. Joiners within a Persian word or a family of emoji stay.

    lines: keep line breaks and tabs.
    """
    if text.isprintable():
        return text
    flags, kept = _flags(text), frozenset("\n\t") if lines else frozenset()
    return "".join(
        character if character in kept or place in flags or not _unseen(text, place) else f"⟨U+{ord(character):04X}⟩"
        for place, character in enumerate(text)
    )


def _unseen(text: str, place: int) -> bool:
    if text[place] in _JOINERS:
        before, after = text[place - 1 : place], text[place + 1 : place + 2]
        return not (_begins(before, ("L", "M", "So", "Sk")) and _begins(after, ("L", "So")))
    return unicodedata.category(text[place]) in _UNSEEN


def _begins(character: str, categories: tuple[str, ...]) -> bool:
    return bool(character) and unicodedata.category(character).startswith(categories)


def _flags(text: str) -> set[int]:
    return {place for flag in _FLAG.finditer(text) for place in range(*flag.span())}


__all__ = ["HARMLESS", "REPLACEMENT", "printable", "visible"]
