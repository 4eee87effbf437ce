"""The score without these words: a row's words are deleted one after the other, and the score is read again each time.

Which words are wrong is another question (`response_words`): a false answer names the wrong country, and
the score may depend most on the name of the city, which query and row share. So the first word deleted is the one with
the highest score of its own, and from there on the one whose absence lowers the row's score most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from whence.data import EncodedTurn
from whence.results import DeletionCurve, HitWords, Words
from whence.trace.explain.prompt_attribution.comparison import TurnScore, without
from whence.trace.explain.words import Part, word_tokens

MAX_UNITS = 48
"""Most parts of a text that are taken away separately; of more words, equal numbers of adjoining ones go together."""
STEPS = 12
"""Most deletions whose scores are read."""
CANDIDATES = 4
"""Words whose scores are read again at each step: those that lowered the score most when they were read last. Chosen on
development runs (docs/log.md): close to reading all of them."""


def deletion_curves(
    score: TurnScore,
    turns: Sequence[EncodedTurn],
    hits: Sequence[HitWords],
    *,
    steps: int = STEPS,
    candidates: int = CANDIDATES,
) -> list[HitWords]:
    """The hits' words with their `DeletionCurve`, of the prompt and of the response, each while the other stays whole.

    w_1 is the word with the highest score, where that is above 0; and with s the turn's score,

        w_k = argmin over w of s(turn without w_1 ... w_{k-1}, w),    left_k = s(turn without w_1 ... w_k) / s(turn)

    Only the `candidates` that promise most are read again at a step; with as many as there are words this is plain
    greedy search. A text whose score is not above 0, or that has no word, gets no curve. Of a prompt or a response at
    least the last token stays.

    turns: the rows of the hits, as the model reads them. score: called with turns of all rows together.
    """
    parts: tuple[Part, Part] = ("prompt", "response")
    walks = [
        _Walk(turn, _units(turn, part, words), steps, candidates)
        for turn, hit in zip(turns, hits, strict=True)
        for part, words in zip(parts, (hit.prompt, hit.response), strict=True)
    ]
    # All walks advance together, so that one call of `score` reads the turns of every text at this step.
    while any(asked := [walk.wanted() for walk in walks]):
        scores = iter(score([turn for own in asked for turn in own]).double().tolist())
        for walk, own in zip(walks, asked, strict=True):
            walk.read([next(scores) for _ in own])
    found = [walk.deletion for walk in walks]
    return [
        replace(hit, prompt=replace(hit.prompt, deletion=a), response=replace(hit.response, deletion=b))
        for hit, a, b in zip(hits, found[::2], found[1::2], strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Units:
    """Words deleted together, and their tokens; `first` is the first unit, None where no word scores above 0."""

    words: tuple[tuple[int, ...], ...]
    tokens: tuple[frozenset[int], ...]
    first: int | None


@dataclass(slots=True)
class _Walk:
    """One part of one row: which turns' scores it wants next, and what has been taken away so far."""

    turn: EncodedTurn
    units: _Units
    steps: int
    candidates: int
    whole: float | None = None
    taken: list[int] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    last: dict[int, float] = field(default_factory=dict)
    """What each unit that is still there scored when it was last read."""
    _asked: list[int] = field(default_factory=list)

    def wanted(self) -> list[EncodedTurn]:
        """Turns to be scored now; none at the end."""
        self._asked = []
        if self.whole is None:
            return [self.turn] if self.units.words else []
        if self.whole <= 0 or len(self.taken) >= min(self.steps, len(self.units.words)):
            return []
        if not self.taken and self.units.first is not None:
            self._asked = [self.units.first]
        # No word scores above 0, or the first is gone: every unit is read once, for an order to choose candidates by.
        elif not self.last:
            self._asked = [i for i in range(len(self.units.words)) if i not in self.taken]
        else:
            self._asked = sorted(self.last, key=lambda i: (self.last[i], i))[: self.candidates]
        return [self._without(i) for i in self._asked]

    def read(self, scores: Sequence[float]) -> None:
        """What the turns that were wanted score, in their order."""
        if not self._asked:
            self.whole = scores[0] if scores else self.whole
            return
        assert self.whole is not None
        self.last.update(zip(self._asked, scores, strict=True))
        # The lowest score of those read now; ties go to the earlier unit.
        best = min(self._asked, key=lambda i: (self.last[i], i))
        self.taken.append(best)
        self.left.append(self.last.pop(best) / self.whole)

    @property
    def deletion(self) -> DeletionCurve | None:
        return DeletionCurve(tuple(self.units.words[i] for i in self.taken), tuple(self.left)) if self.taken else None

    def _without(self, unit: int) -> EncodedTurn:
        return without(self.turn, frozenset().union(*(self.units.tokens[i] for i in (*self.taken, unit))))


def _units(turn: EncodedTurn, part: Part, words: Words) -> _Units:
    """The word that goes first alone, the others in equal numbers of adjoining ones; no word that was cut off."""
    tokens = word_tokens(turn, part)[1]
    there = [word for word, own in enumerate(tokens) if own]
    if not there:
        return _Units((), (), None)
    first = max(there, key=lambda word: (words.scores[word], -word))
    positive = words.scores[first] > 0
    others = [word for word in there if not (positive and word == first)]
    size = -(-len(others) // MAX_UNITS) or 1  # rounded up
    groups = [tuple(others[start : start + size]) for start in range(0, len(others), size)]
    if positive:
        groups.append((first,))
    together = tuple(frozenset(token for word in group for token in tokens[word]) for group in groups)
    return _Units(tuple(groups), together, len(groups) - 1 if positive else None)


__all__ = ["CANDIDATES", "MAX_UNITS", "STEPS", "deletion_curves"]
