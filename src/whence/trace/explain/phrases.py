"""From words to phrases: runs of high-scoring words in one text, and phrases that score high in several."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from whence.data import Span
from whence.results import Phrase, Words
from whence.trace.explain.words import Part, word_spans

HIGH_SCORE = 0.5
"""A word scores high if it has more than this share of its text's highest score. A share of the text's own highest
needs no scale, so every method can be read alike, and the words of one phrase, which act together, have like scores."""

MAX_WORDS = 6
"""Of a recurrent phrase."""

MAX_PHRASES = 10

Gram = tuple[str, ...]
"""The words of a phrase, case folded."""


class HasRows(Protocol):
    """A phrase that was found in some rows."""

    rows: set[int]


Found = TypeVar("Found", bound=HasRows)


@dataclass(frozen=True, slots=True)
class Run:
    """Adjoining high-scoring words of one text: words[first:stop], characters `span`; `score` is their sum."""

    first: int
    stop: int
    span: Span
    score: float


def runs(words: Words) -> tuple[Run, ...]:
    """Runs of words whose score is above `HIGH_SCORE` of the highest, by their highest word, highest first.

    A text without a positive score has none. Ties keep the order of the text.
    """
    marks = high_scoring(words)
    found: list[Run] = []
    first = 0
    for i in range(len(marks) + 1):
        if i < len(marks) and marks[i]:
            continue
        if first < i:
            span = (words.spans[first][0], words.spans[i - 1][1])
            found.append(Run(first, i, span, sum(words.scores[first:i])))
        first = i + 1
    return tuple(sorted(found, key=lambda run: -max(words.scores[run.first : run.stop])))


def high_scoring(words: Words) -> list[bool]:
    """For each word whether it scores high; see `HIGH_SCORE`."""
    highest = max(words.scores, default=0.0)
    return [highest > 0 and score > HIGH_SCORE * highest for score in words.scores]


@dataclass(slots=True)
class _Found:
    """A candidate: the rows where it scores high, how much, its first spelling, and where it stood."""

    text: str
    rows: set[int] = field(default_factory=set)
    salience: float = 0.0
    starts: bool = True
    ends: bool = True


def recurrent_phrases(
    part: Part, rows: Sequence[tuple[str, Words]], others: Iterable[str], *, limit: int = MAX_PHRASES
) -> tuple[Phrase, ...]:
    """The phrases of 1 to 6 words that score high in at least two rows, best first, letters' case aside.

    rows:   that part of each of the first hits, with the scores of its words.
    others: that part of the rest of the data set's rows (or of a sample of them), read once.

    A phrase scores high in a row if one of its words does. Punctuation counts as a word but ends no phrase, unless the
    phrase is nothing else; then it is kept only if no phrase with letters or digits scores high in the same rows. Of
    phrases that score high in the same rows and contain one another the longest is kept, and of those that overlap by
    half of their words, as pieces of a passage do, the first. They are ordered by

        n_rows * salience * ln(lift),   salience = mean over those rows of (mean score of its words / highest score)

    with negative scores counted as 0, ties by text. Phrases that are not commoner here than elsewhere are left out.
    """
    candidates: dict[Gram, _Found] = {}
    for row, (text, words) in enumerate(rows):
        _collect(row, text, words, candidates)
    # A phrase needs two rows; of one row's words every run would be one.
    candidates = longest_phrases({gram: one for gram, one in candidates.items() if len(one.rows) > 1})
    elsewhere, n_others = _count(candidates, others)
    ranked: list[tuple[float, str, Gram, Phrase]] = []
    for gram, one in candidates.items():
        n_rows = len(one.rows)
        # Share of rows read over share elsewhere; a phrase found nowhere else counts as half a row there.
        lift = (n_rows / len(rows)) / (max(elsewhere[gram], 0.5) / max(n_others, 1))
        if lift > 1:
            place: Literal["start", "end", "anywhere"] = "start" if one.starts else "end" if one.ends else "anywhere"
            share = elsewhere[gram] / max(n_others, 1)
            phrase = Phrase(one.text, part, place, n_rows, len(rows), share, lift)
            # one.salience is the sum over the rows: n_rows times its mean.
            ranked.append((-one.salience * math.log(lift), one.text, gram, phrase))
    worded = {frozenset(candidates[gram].rows) for _, _, gram, _ in ranked if not _bare(gram)}
    ranked = [one for one in ranked if not _bare(one[2]) or frozenset(candidates[one[2]].rows) not in worded]
    kept: dict[Gram, Phrase] = {}
    for _, _, gram, phrase in sorted(ranked, key=lambda entry: entry[:2]):
        rows_alike = [other for other in kept if candidates[other].rows == candidates[gram].rows]
        if len(kept) < limit and not any(_runs_over(gram, other) for other in rows_alike):
            kept[gram] = phrase
    return tuple(kept.values())


def _bare(gram: Gram) -> bool:
    """Whether it is punctuation and nothing else."""
    return not any(letter.isalnum() for form in gram for letter in form)


def _runs_over(one: Gram, other: Gram) -> bool:
    """Whether the end of either is the beginning of the other, by half of the shorter one's words or more."""
    shorter = min(len(one), len(other))
    least = -(-shorter // 2)  # half, rounded up
    return any(one[-n:] == other[:n] or other[-n:] == one[:n] for n in range(least, shorter + 1))


def _collect(row: int, text: str, words: Words, candidates: dict[Gram, _Found]) -> None:
    """Adds the phrases of one row; of several places of a phrase in it, the most salient one counts."""
    marks, highest = high_scoring(words), max(words.scores, default=0.0)
    forms = [text[start:stop].casefold() for start, stop in words.spans]
    real = [any(letter.isalnum() for letter in form) for form in forms]
    best: dict[Gram, tuple[float, int, int]] = {}
    for first in range(len(forms)):
        for stop in range(first + 1, min(first + MAX_WORDS, len(forms)) + 1):
            bare = not any(real[first:stop])
            if any(marks[first:stop]) and (bare or (real[first] and real[stop - 1])):
                score = sum(max(0.0, one) for one in words.scores[first:stop]) / (stop - first) / highest
                gram = tuple(forms[first:stop])
                if gram not in best or score > best[gram][0]:
                    best[gram] = (score, first, stop)
    # Each phrase once a row, at its most salient place.
    for gram, (score, first, stop) in best.items():
        shown = text[words.spans[first][0] : words.spans[stop - 1][1]]
        one = candidates.setdefault(gram, _Found(shown))
        one.rows.add(row)
        one.salience += score
        one.starts &= not any(real[:first])
        one.ends &= not any(real[stop:])


def longest_phrases(candidates: dict[Gram, Found]) -> dict[Gram, Found]:
    """Without the phrases that are part of a longer one with the same rows."""
    dropped: set[Gram] = set()
    for gram, one in candidates.items():
        for first in range(len(gram)):
            for stop in range(first + 1, len(gram) + 1):
                inner = gram[first:stop]
                if len(inner) < len(gram) and inner in candidates and candidates[inner].rows == one.rows:
                    dropped.add(inner)
    return {gram: one for gram, one in candidates.items() if gram not in dropped}


def _count(candidates: dict[Gram, _Found], others: Iterable[str]) -> tuple[Counter[Gram], int]:
    """In how many of the other texts each candidate stands, and how many texts there are."""
    by_first: dict[str, list[Gram]] = {}
    for gram in candidates:
        by_first.setdefault(gram[0], []).append(gram)
    counts: Counter[Gram] = Counter()
    n_others = 0
    for text in others:
        n_others += 1
        forms = [text[start:stop].casefold() for start, stop in word_spans(text)]
        # A set: a text that has the phrase twice counts once.
        counts.update(
            {
                gram
                for at, form in enumerate(forms)
                for gram in by_first.get(form, ())
                if tuple(forms[at : at + len(gram)]) == gram
            }
        )
    return counts, n_others


__all__ = [
    "HIGH_SCORE",
    "MAX_PHRASES",
    "MAX_WORDS",
    "Run",
    "high_scoring",
    "longest_phrases",
    "recurrent_phrases",
    "runs",
]
