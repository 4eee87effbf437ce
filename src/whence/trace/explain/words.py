"""From tokens to whole words: where words stand in a text, and what the scores of tokens give the words.

A tokenizer cuts words anywhere, bytes of one emoji included. Words are found in the text itself, and tokens are put to
them by their characters.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal, cast

from whence.data import EncodedTurn, Span

if TYPE_CHECKING:
    from re import Pattern

Part = Literal["prompt", "response"]
How = Literal["sum", "max"]

_WORD = r"""(?xV1)
    \p{Han} \p{M}*                                      # an ideograph is a word, as in UAX 29
  | [\p{Hiragana}\u30FC]+ | [\p{Katakana}\u30FC]+       # kana in runs of one syllabary
  | L+ (?: (?: ['’\u200C\u200D\u00AD] (?=\p{L}) | (?<=\p{N}) [.,] (?=\p{N}) ) L+ )*
  | (?=\S) \X                                           # a mark or an emoji, with everything that joins it
""".replace("L+", r"[[\p{L}\p{M}\p{N}_]--[\p{Han}\p{Hiragana}\p{Katakana}]]+")
"""Letters, marks, digits and underscores run together; an apostrophe or a joiner holds letters, a point digits."""


_MARKER = re.compile(r"<[^<>\s]{1,40}>|\[/?[A-Z_]{1,40}\]")
"""What templates put around turns: <|im_start|>, </s>, [/INST]."""
_MARKER_END = re.compile(rf"(?:{_MARKER.pattern})$")
_LONGEST_MARKER = 43
_SIGNS = 6
"""Most that `_placed_like_a_prompt` counts."""


@cache
def _pattern() -> Pattern[str]:
    import regex  # type: ignore[import-untyped]

    return cast("Pattern[str]", regex.compile(_WORD))


def word_spans(text: str) -> tuple[Span, ...]:
    """Start and end of every word of `text`, in characters, in order; together they cover all but whitespace.

    A word is a run of letters, marks and digits of any script ("don't" and "3.14" are one), a single ideograph, a run
    of kana, or a single mark or emoji as a whole grapheme. Scripts written without spaces (Thai) give runs.
    """
    return tuple(match.span() for match in _pattern().finditer(text))


def part_offset(turn: EncodedTurn, part: Part) -> int | None:
    """Where the turn's prompt or response begins in `turn.text`: character i of it is character `offset + i` there.

    Templates strip whitespace at the ends; the offset then counts as if it were still there, so it may be negative. Of
    several places that could be the prompt the most likely one
    counts, see `_placed_like_a_prompt`: a prompt "Response" is not the one in the header "### Response:". None: the
    part is empty, or the template shows it otherwise than as it is.
    """
    whole = turn.prompt if part == "prompt" else turn.response
    bare = whole.strip()
    if not bare or not turn.offsets:
        return None
    lead = len(whole) - len(whole.lstrip())
    found = _place(turn, bare, turn.offsets[turn.response_start][0]) if part == "prompt" else turn.answer_at
    return None if found is None or found < 0 else found - lead


def _place(turn: EncodedTurn, bare: str, boundary: int) -> int:
    """Of the places of `bare` before the response, the last of those placed most like a prompt; -1 for none."""
    # The response's first token may begin with the prompt's last characters.
    end = min(turn.offsets[turn.response_start][1], boundary + len(bare) - 1)
    best = last = turn.text.rfind(bare, 0, end)
    if turn.text.find(bare, 0, end) == last:
        return last
    most = -1
    while last >= 0:
        signs = _placed_like_a_prompt(turn, last, last + len(bare), boundary)
        if signs > most:
            best, most = last, signs
        if signs == _SIGNS:
            break
        last = turn.text.rfind(bare, 0, last + len(bare) - 1)
    return best


def _placed_like_a_prompt(turn: EncodedTurn, start: int, stop: int, boundary: int) -> int:
    """How many signs there are, of 6, that these characters are the user's and not the template's.

    No token reaches over its ends (2 each, as nothing but a marker's inside fails there); a line or a marker ends
    before it, and one begins behind it; a word, more than one marker, or one that closes ([/INST]), follows.
    """
    before, behind = turn.text[:start].rstrip(), turn.text[stop:].lstrip()
    # What the prompt itself has of lines at its ends stands between its letters and the template.
    spaces = turn.text[len(before) : start], turn.text[stop : len(turn.text) - len(behind)]
    ends = not before or "\n" in spaces[0] or _MARKER_END.search(before[-_LONGEST_MARKER:]) is not None
    begins = not behind or "\n" in spaces[1] or _MARKER.match(behind) is not None
    whole = sum(not _reaches_over(turn, edge) for edge in (start, stop))
    rest, markers = _MARKER.subn("", turn.text[stop:boundary])
    followed = markers > 1 or behind.startswith("[/") or any(letter.isalnum() for letter in rest)
    return 2 * whole + (ends and begins) + followed


def _reaches_over(turn: EncodedTurn, edge: int) -> bool:
    """Whether a prompt token has characters other than whitespace on both sides of `edge`."""
    return any(
        start < edge < stop and turn.text[start:edge].strip() and turn.text[edge:stop].strip()
        for start, stop in turn.offsets[: turn.response_start]
    )


def overlaps(token_spans: Sequence[Span], words: Sequence[Span]) -> tuple[tuple[tuple[int, int], ...], ...]:
    """For each word the tokens that share characters with it, as (token, number of characters), in order.

    words: ascending and without overlap, as `word_spans` gives them. Tokens may overlap each other (bytes of an emoji).
    """
    starts = [start for start, _ in words]
    found: list[list[tuple[int, int]]] = [[] for _ in words]
    for token, (start, stop) in enumerate(token_spans):
        for word in range(max(0, bisect_right(starts, start) - 1), len(words)):
            if words[word][0] >= stop:
                break
            shared = min(stop, words[word][1]) - max(start, words[word][0])
            if shared > 0:
                found[word].append((token, shared))
    return tuple(map(tuple, found))


def pool(
    token_spans: Sequence[Span], token_scores: Sequence[float], words: Sequence[Span], how: How
) -> tuple[float, ...]:
    """Scores of words from scores of tokens, by shared characters; spans of both are of the same text.

    "sum", for additive attributions: a token's score is divided among its words by the characters that it shares with
    each, so the total stays (a token of whitespace alone gives nothing).
    "max", for similarities: the largest score of a token that shares a character with the word.

    A word without a token scores 0: its tokens were cut off to fit `max_length`.
    """
    shared = overlaps(token_spans, words)
    if how == "max":
        return tuple(max((token_scores[token] for token, _ in tokens), default=0.0) for tokens in shared)
    totals = [0] * len(token_spans)
    for tokens in shared:
        for token, n in tokens:
            totals[token] += n
    return tuple(sum((token_scores[token] * n / totals[token] for token, n in tokens), 0.0) for tokens in shared)


def word_tokens(turn: EncodedTurn, part: Part) -> tuple[tuple[Span, ...], tuple[tuple[int, ...], ...]]:
    """The words of a turn's prompt or response, in its own characters, and the indices of each word's tokens.

    Indices are into `turn.input_ids`, prompt tokens of a prompt and response tokens of a response. A word whose tokens
    were cut off has none; neither has any word where `part_offset` is None.
    """
    words = word_spans(turn.prompt if part == "prompt" else turn.response)
    offset = part_offset(turn, part)
    if offset is None:
        return words, ((),) * len(words)
    first, stop = (0, turn.response_start) if part == "prompt" else (turn.response_start, len(turn.input_ids))
    spans = [(start - offset, end - offset) for start, end in turn.offsets[first:stop]]
    return words, tuple(tuple(first + token for token, _ in tokens) for tokens in overlaps(spans, words))


__all__ = ["How", "Part", "overlaps", "part_offset", "pool", "word_spans", "word_tokens"]
