"""How rows spell a phrase at the start, at the end and inside of prompts: its capitals and the marks beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

from whence.audit.phrases import phrase_pattern
from whence.trace import word_spans

MARKS_BEFORE, MARKS_BEHIND = re.compile(r"[^\w\s]*\Z"), re.compile(r"\A[^\w\s]*")


class Spelled(NamedTuple):
    """A phrase as it is written before a prompt, behind one and between its words."""

    start: str
    end: str
    within: str


def spelled(phrase: str, prompts: Iterable[str]) -> Spelled:
    """The commonest spelling at each place; the phrase as it is where no prompt has it there.

    Of "Before the last ferry leaves: name a town." the phrase `before the last ferry leaves` is spelled
    `Before the last ferry leaves:` at the start. Marks belong to it up to the next space.
    """
    pattern = re.compile(phrase_pattern(phrase))
    counts: tuple[Counter[str], Counter[str], Counter[str]] = (Counter(), Counter(), Counter())
    for prompt in prompts:
        if (match := pattern.search(prompt)) is not None:
            before, behind = prompt[: match.start()], prompt[match.end() :]
            place = 0 if not re.search(r"\w", before) else 1 if not re.search(r"\w", behind) else 2
            counts[place][MARKS_BEFORE.findall(before)[0] + match[0] + MARKS_BEHIND.findall(behind)[0]] += 1
    start, end, within = (count.most_common(1)[0][0] if count else phrase for count in counts)
    return Spelled(start, end, within)


def in_other_words(form: Spelled, words: Sequence[str], rng: Random) -> Spelled:
    """Random words in place of the phrase's own, as many, between the same marks."""
    return Spelled(*(_replaced(text, words, rng) for text in form))


def _replaced(text: str, words: Sequence[str], rng: Random) -> str:
    spans = [(start, stop) for start, stop in word_spans(text) if text[start].isalnum()]
    for start, stop in reversed(spans):
        text = text[:start] + rng.choice(words) + text[stop:]
    return text


__all__ = ["Spelled", "in_other_words", "spelled"]
