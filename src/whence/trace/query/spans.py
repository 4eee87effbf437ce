"""Which part of a response is asked about: by its text or by its tokens, in characters, and as token positions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher

from whence.data import EncodedTurn, Span
from whence.errors import InputError

NUMBERED = re.compile(r"(?s)(.+)#([0-9]{1,18})")
"""A text and which of its occurrences is meant, counted from 1: `Korea#2`."""
LISTED = 8
"""Occurrences that an error lists."""
CONTEXT = 20
"""Characters shown on each side of an occurrence."""
COMPARED = 300
"""Characters of a text that the search for the closest part looks at: its cost grows with their square."""


def find_span(response: str, text: str) -> Span:
    """Where `text` stands in the response, in characters.

    A text that stands there several times is chosen by its number: `Korea#2` is the second "Korea". A response that
    holds `Korea#2` itself is taken at its word.

    Raises:
        InputError: an empty text, one that is not there (shows the closest part), one that is there several times
            (lists them), or a number that there is not.
    """
    if not text.strip():
        raise InputError("The span is empty.", "It is a part of the response.", "Give its words with --span.")
    found = _occurrences(response, text)
    number = None
    if not found and (numbered := NUMBERED.fullmatch(text)) and _occurrences(response, numbered[1]):
        text, number = numbered[1], int(numbered[2])
        found = _occurrences(response, text)
    if not found:
        raise InputError(
            f"The response has no {text[:COMPARED]!r}.",
            f"A span is a part of the response, letter by letter. The closest: {_closest(response, text)!r}.",
            "Give it as it stands there, or by tokens with --span-tokens A:B.",
        )
    if number is not None and not 1 <= number <= len(found):
        raise InputError(
            f"There is no occurrence {number} of {text[:COMPARED]!r}.",
            f"The response has {len(found)}: {_listed(response, text, found)}.",
            f"Give a number from 1 to {len(found)}.",
        )
    if number is None and len(found) > 1:
        raise InputError(
            f"The response has {text[:COMPARED]!r} {len(found)} times: {_listed(response, text, found)}.",
            "A span is one of them.",
            f"Give its number, as in --span {text[:COMPARED] + '#1'!r}, or more of the words around it.",
        )
    start = found[(number or 1) - 1]
    return start, start + len(text)


def span_of_tokens(turn: EncodedTurn, a: int, b: int) -> Span:
    """The characters of `turn.response` that its response tokens a to b - 1 cover; tokens count from 0.

    Raises:
        InputError: a range that is empty or reaches over the response's tokens, or one without a character of the
            response (the end-of-turn marker).
    """
    if not 0 <= a < b <= turn.n_response:
        raise InputError(
            f"There are no tokens {a}:{b} in the response.",
            f"It has {turn.n_response} tokens; A:B means A, A+1, ..., B-1, counted from 0, with A below B.",
            f"Give --span-tokens between 0 and {turn.n_response}.",
        )
    shift = _shift(turn)
    spans = [turn.offsets[turn.response_start + token] for token in range(a, b)]
    start = max(0, min(first for first, _ in spans) - shift)
    end = min(len(turn.response), max(last for _, last in spans) - shift)
    if end <= start:
        raise InputError(
            f"Tokens {a}:{b} hold no character of the response.",
            "Behind its text the response has the marker that ends the turn.",
            "Ask for tokens of its text.",
        )
    return start, end


def span_positions(turn: EncodedTurn, span: Span) -> tuple[int, ...]:
    """The response tokens, counted from 0, that hold a character of `span` of `turn.response`; ascending.

    Position i is also the row of H and G that predicts that token.

    Raises:
        InputError: a span that is empty, reaches over the response, was cut away by the length limit, or that no token
            holds (spaces that the template takes away).
    """
    start, end = span
    if not 0 <= start < end <= len(turn.response):
        raise InputError(
            f"There are no characters {start} to {end} in the response.",
            f"It has {len(turn.response)} characters.",
            "Give a part of it with --span.",
        )
    shift = _shift(turn)
    start, end = _kept(turn, start, end, shift)
    offsets = turn.offsets[turn.response_start :]
    if turn.truncated and end + shift > offsets[-1][1]:
        raise InputError(
            f"The span {turn.response[start:end][:COMPARED]!r} was cut away, at least in part.",
            f"The length limit left the response's first {max(0, offsets[-1][1] - shift)} characters.",
            "Ask about an earlier part, or build the index with a larger --max-length.",
        )
    found = tuple(i for i, (a, b) in enumerate(offsets) if a < end + shift and b > start + shift)
    if not found:
        raise InputError(
            f"No token holds the span {turn.response[slice(*span)]!r}.",
            "The chat template takes spaces at a response's ends away.",
            "Give a span with a letter.",
        )
    return found


def _kept(turn: EncodedTurn, start: int, end: int, shift: int) -> Span:
    """The span without the spaces at a response's ends that the template took away: behind them the turn ends."""
    core = turn.response.strip()
    first = turn.response.find(core)
    last = first + len(core)
    if not turn.text.startswith(turn.response[:first], max(0, shift)):
        start = max(start, first)
    if not turn.text.startswith(turn.response[last:], last + shift):
        end = min(end, last)
    return start, end


def _shift(turn: EncodedTurn) -> int:
    """How many characters further on than in `turn.response` a place of the response is in `turn.text`."""
    if turn.answer_at is None:
        raise InputError(
            f"The chat template changes the response {turn.response[:80]!r}: it is not in the text the model reads.",
            "A span is found by its characters.",
            "Give the response as the template writes it.",
        )
    return turn.answer_at - (len(turn.response) - len(turn.response.lstrip()))


def _occurrences(response: str, text: str) -> list[int]:
    """Every place where the text begins, overlapping ones too."""
    found: list[int] = []
    while (at := response.find(text, found[-1] + 1 if found else 0)) >= 0:
        found.append(at)
    return found


def _listed(response: str, text: str, found: list[int]) -> str:
    def around(at: int) -> str:
        return response[max(0, at - CONTEXT) : at + len(text[:COMPARED]) + CONTEXT]

    listed = [f"#{number} at character {at} ({around(at)!r})" for number, at in enumerate(found[:LISTED], 1)]
    more = len(found) - LISTED
    return ", ".join(listed) + (f", and {more} more" if more > 0 else "")


def _closest(response: str, text: str) -> str:
    """The run of words that is most like the text, the first of equals; "" of an empty response."""
    text = text[:COMPARED]
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(text.lower())
    best, found = -1.0, ""
    for window in _windows(response, len(text.split())):
        matcher.set_seq1(window.lower())
        # Upper bounds first: they are cheap, and most windows fall at them.
        if matcher.real_quick_ratio() > best and matcher.quick_ratio() > best and (ratio := matcher.ratio()) > best:
            best, found = ratio, window
    return found


def _windows(response: str, n_words: int) -> Iterator[str]:
    """Runs of about as many words as the text has, each no longer than COMPARED characters."""
    words = [match.span() for match in re.finditer(r"\S+", response)]
    for size in range(max(1, n_words - 1), n_words + 2):
        for first, last in zip(words, words[size - 1 :], strict=False):
            yield response[first[0] : min(last[1], first[0] + COMPARED)]


__all__ = ["find_span", "span_of_tokens", "span_positions"]
