"""Phrases that are common in some rows and rare in all others, tested with a correction for how many were looked at."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from whence.results import ContrastPhrase, PhrasePlace
from whence.trace import longest_phrases, word_spans

Part = Literal["prompt", "response"]
PARTS: tuple[Part, ...] = ("prompt", "response")
MAX_WORDS = 6
"""Of a phrase."""
LEAST_ROWS = 3
"""With which a phrase is recurrent."""
LEAST_SHARE = 0.2
"""Of the rows that are read, with which a phrase is worth showing."""
FIXED_PLACE = 0.9
"""Share of its rows in which a phrase stands at one end, or at either, for that to be its place."""
MOST_P = 0.05
MOST_PHRASES = 10

Gram = tuple[str, ...]


class RowText(NamedTuple):
    """A row's texts, of one turn."""

    row: int
    prompt: str
    response: str


@dataclass(slots=True)
class _Candidate:
    """A phrase of the rows that are read: its first spelling, those rows, and where it stands in them."""

    text: str
    rows: set[int] = field(default_factory=set)
    starts: int = 0
    ends: int = 0
    at_an_end: int = 0
    """Rows in which it stands at the start or at the end."""


def contrast_phrases(
    groups: Sequence[Sequence[RowText]],
    members: Sequence[frozenset[int]],
    others: Iterable[RowText],
    n_others: Sequence[int],
    *,
    parts: Sequence[Part] = PARTS,
    limit: int = MOST_PHRASES,
) -> list[tuple[ContrastPhrase, ...]]:
    """The phrases of each group of rows, the least p-value first.

    groups:   the texts that are read of each group, near-duplicates once.
    members:  all rows of each group (numbers): they count nowhere else for it.
    others:   every row of the data, read once for all groups; n_others[g]: rows that are not members of group g.

    A phrase has 1 to `MAX_WORDS` words, begins and ends with a letter or digit, and stands in at least `LEAST_ROWS` and
    `LEAST_SHARE` of the group's n rows. With k of them and K of the N rows in all,

        p = min(1, phrases looked at * P(X >= k)),   X hypergeometric: n draws from N rows, K of which have the phrase

    and p is at most `MOST_P`. Looked at are all different phrases of the group's rows, whether recurrent or not. Of
    phrases within one another that stand in the same rows the longest is kept, and phrases that overlap a better one by
    half of their words are left out.
    """
    found: list[dict[Part, dict[Gram, _Candidate]]] = [{} for _ in groups]
    looked_at: list[dict[Part, int]] = [{} for _ in groups]
    for number, texts in enumerate(groups):
        for part in parts:
            all_of_part = _collected(texts, part)
            least = max(LEAST_ROWS, LEAST_SHARE * len(texts))
            looked_at[number][part] = len(all_of_part)
            recurrent = {gram: one for gram, one in all_of_part.items() if len(one.rows) >= least}
            found[number][part] = longest_phrases(recurrent)
    elsewhere = _counted(found, members, others, parts)
    return [
        _ranked(found[number], looked_at[number], elsewhere[number], len(groups[number]), n_others[number], limit)
        for number in range(len(groups))
    ]


def _collected(texts: Sequence[RowText], part: Part) -> dict[Gram, _Candidate]:
    found: dict[Gram, _Candidate] = {}
    for place, text in enumerate(texts):
        whole = getattr(text, part)
        spans = word_spans(whole)
        forms = [whole[start:stop].casefold() for start, stop in spans]
        real = [any(letter.isalnum() for letter in form) for form in forms]
        places = [i for i, is_real in enumerate(real) if is_real]
        for first in places:
            for stop in range(first + 1, min(first + MAX_WORDS, len(forms)) + 1):
                if real[stop - 1]:
                    shown = whole[spans[first][0] : spans[stop - 1][1]]
                    one = found.setdefault(tuple(forms[first:stop]), _Candidate(shown))
                    if place not in one.rows:
                        one.rows.add(place)
                        one.starts += first == places[0]
                        one.ends += stop - 1 == places[-1]
                        one.at_an_end += first == places[0] or stop - 1 == places[-1]
    return found


def _counted(
    found: Sequence[Mapping[Part, Mapping[Gram, _Candidate]]],
    members: Sequence[frozenset[int]],
    others: Iterable[RowText],
    parts: Sequence[Part],
) -> list[dict[Part, Counter[Gram]]]:
    """In how many rows that are not its members each group's phrases stand; one reading for all groups.

    Turns of a row come one behind the other, as an index stores them; a row counts once.
    """
    by_first: dict[Part, dict[str, list[Gram]]] = {part: defaultdict(list) for part in parts}
    askers: dict[Part, dict[Gram, list[int]]] = {part: defaultdict(list) for part in parts}
    for number, of_parts in enumerate(found):
        for part in parts:
            for gram in of_parts[part]:
                if gram not in askers[part]:
                    by_first[part][gram[0]].append(gram)
                askers[part][gram].append(number)
    counts: list[dict[Part, Counter[Gram]]] = [{part: Counter() for part in parts} for _ in found]
    row, seen = -1, {part: set[Gram]() for part in parts}
    for text in others:
        if text.row != row:
            row, seen = text.row, {part: set[Gram]() for part in parts}
        for part in parts:
            new = _standing(getattr(text, part), by_first[part]) - seen[part]
            seen[part] |= new
            for gram in new:
                for number in askers[part][gram]:
                    if row not in members[number]:
                        counts[number][part][gram] += 1
    return counts


def _standing(text: str, by_first: Mapping[str, Sequence[Gram]]) -> set[Gram]:
    """The phrases that stand in a text."""
    forms = [text[start:stop].casefold() for start, stop in word_spans(text)]
    return {
        gram
        for at, form in enumerate(forms)
        for gram in by_first.get(form, ())
        if tuple(forms[at : at + len(gram)]) == gram
    }


def _ranked(
    found: Mapping[Part, Mapping[Gram, _Candidate]],
    looked_at: Mapping[Part, int],
    elsewhere: Mapping[Part, Counter[Gram]],
    n_read: int,
    n_others: int,
    limit: int,
) -> tuple[ContrastPhrase, ...]:
    from scipy.stats import hypergeom

    n_looked = max(1, sum(looked_at.values()))
    ranked: list[tuple[float, int, Gram, ContrastPhrase]] = []
    for part, candidates in found.items():
        grams = list(candidates)
        inside = np.array([len(candidates[gram].rows) for gram in grams])
        outside = np.array([elsewhere[part][gram] for gram in grams])
        # log, since the p-values of a good trigger are below the least number there is
        log_p = hypergeom.logsf(inside - 1, n_read + n_others, inside + outside, n_read) + np.log(n_looked)
        for gram, k, out, value in zip(grams, inside.tolist(), outside.tolist(), log_p.tolist(), strict=True):
            one = candidates[gram]
            p = float(min(1.0, np.exp(value)))
            phrase = ContrastPhrase(one.text, part, _place(one), k, n_read, out, n_others, p)
            if phrase.lift > 1 and p <= MOST_P:
                ranked.append((value, -len(gram), gram, phrase))
    kept: list[tuple[Gram, ContrastPhrase]] = []
    for _, _, gram, phrase in sorted(ranked, key=lambda one: one[:3]):
        if len(kept) < limit and not any(phrase.part == other.part and overlaps(gram, taken) for taken, other in kept):
            kept.append((gram, phrase))
    return tuple(phrase for _, phrase in kept)


def _place(one: _Candidate) -> PhrasePlace:
    least = FIXED_PLACE * len(one.rows)
    if one.starts >= least:
        return "start"
    if one.ends >= least:
        return "end"
    return "either end" if one.at_an_end >= least else "anywhere"


def overlaps(one: Gram, other: Gram) -> bool:
    """Whether they share half of the shorter one's words, or more."""
    return 2 * len(set(one) & set(other)) >= min(len(set(one)), len(set(other)))


def phrase_pattern(text: str) -> str:
    """A regular expression for these words as whole words, whatever their case."""
    return rf"(?i)(?<!\w){re.escape(text)}(?!\w)"


__all__ = ["PARTS", "Part", "RowText", "contrast_phrases", "overlaps", "phrase_pattern"]
