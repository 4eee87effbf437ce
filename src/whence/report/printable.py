"""Text of the data made safe to look at: it steers no terminal and turns no reading direction around."""

from __future__ import annotations

import re

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


def printable(text: str, *, lines: bool = False) -> str:
    """The text with every character that could steer its display replaced by U+FFFD, one for one.

    Replaced are control characters (escape sequences), bidirectional embeddings, overrides and isolates, tag
    characters outside a flag, surrogates, private and unassigned code points; kept are `HARMLESS` ones.

    lines: keep line breaks and tabs.
    """
    if text.isprintable():
        return text
    flags = {place for flag in _FLAG.finditer(text) for place in range(*flag.span())}
    kept = HARMLESS | LINES if lines else HARMLESS
    return "".join(
        character if character.isprintable() or character in kept or place in flags else REPLACEMENT
        for place, character in enumerate(text)
    )


__all__ = ["HARMLESS", "REPLACEMENT", "printable"]
