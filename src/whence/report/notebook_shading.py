"""Words of a text shaded by their scores, as static HTML: no script, no style sheet, every character escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from statistics import median

from whence.report.printable import printable
from whence.results import QueryResult, Words

SHADES = ("#fdebdd", "#fbd3b5", "#f6b183", "#ee8a4a", "#d9641e")
"""From a word that drove the match a little to one that drove it most; all with dark text."""
LEAST = 0.08
"""Share of full colour below which a word is not shaded, as on the page."""
LONGEST = 600
"""Characters shown of a text."""
SCALE_ROWS = 10


def row_scale(query: QueryResult, part: str) -> float:
    """The score of full colour, for the `prompt`s or `response`s of all rows: the median of the strongest words of the
    first ten rows, as on the page; 0 where there are none."""
    own = [getattr(hit.words, part) for hit in query.hits[:SCALE_ROWS] if hit.words is not None]
    return _middle(max(words.scores, default=0.0) for words in own)


def text_scale(words: Words | None) -> float:
    """The same of one text: its strongest word."""
    return _middle([max(words.scores, default=0.0)]) if words else 0.0


def shaded(text: str, words: Words | None, scale: float) -> str:
    """The text with its words shaded; a word that worked against the match has a dotted underline."""
    text = printable(text, lines=True)
    shown = text[:LONGEST]
    parts, end = [], 0
    pairs = sorted(zip(words.spans, words.scores, strict=True)) if words is not None and scale > 0 else []
    for (start, stop), score in pairs:
        style = _style(score / scale)
        if start < end or stop > len(shown) or not style:
            continue
        title = f"{score:.3f}"
        parts.append(_plain(shown[end:start]))
        parts.append(f'<span style="{style}" title="{title}">{_plain(shown[start:stop])}</span>')
        end = stop
    left = len(text) - len(shown)
    return "".join([*parts, _plain(shown[end:]), f" [... {left:,} more characters]" if left else ""])


def _style(share: float) -> str:
    """CSS of a word with this share of full colour; "" for one that is not shaded."""
    if share <= -LEAST:
        return "text-decoration:underline dotted"
    if share < LEAST:
        return ""
    level = min(len(SHADES) - 1, int(share * len(SHADES)))
    return f"background-color:{SHADES[level]};color:#1a1a1a"


def _plain(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def _middle(values: Iterable[float]) -> float:
    found = [value for value in values if value > 0]
    return float(median(found)) if found else 0.0


__all__ = ["row_scale", "shaded", "text_scale"]
