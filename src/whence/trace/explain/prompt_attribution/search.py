"""Occlusion in few runs: coarse parts of the prompt first, then every run of words around the one that matters most."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from whence.data import EncodedTurn
from whence.model import TurnGroup, turn_groups
from whence.trace.explain.prompt_attribution.comparison import Comparison, ResponseWeights, Score, WordTokens, without
from whence.trace.explain.prompt_attribution.occlusion import loss_weights

RUN = 3
"""Words that are left out together: two words that say the same hide each other when they are left out one by one."""
PARTS = 10
"""Parts of a prompt in the first step, of at least RUN words each."""
FINER = 5
"""Parts of the best part, with half of it on both sides, in each further step."""
AROUND = 2
"""How many words to both sides the best run of RUN words is moved."""
ALONE = 0.85
"""From this share of the best run's rise on, one word that is left out alone is the cause by itself."""

Window = tuple[int, int]
"""Words [start, stop) that are left out together."""

Rises = dict[Window, float]
"""By how many nats the loss rises without these words."""

Steps = Generator[list[Window], Sequence[float], list[float]]
"""Gives the windows of a step, takes their rises, and returns a value a word."""


@dataclass(frozen=True, slots=True)
class LossOcclusionSearch:
    """The increase of the turn's own response loss when the word is not there, read where it is largest.

    value[w] = mean over windows W that hold w of  min(1, RUN / |W|) (L(turn without the words of W) - L(turn)),
    L = sum_j a[j] nats[j] / sum_j a[j] over response tokens j, nats;  W: the windows of `searching`

    Some n / 3 + 5 runs of a prompt of n words, and never more than some 25, where `LossOcclusion` over all runs up to
    three words takes 3 n. weights: a; all zero counts as all alike.
    """

    def __call__(
        self,
        comparison: Comparison,
        turns: Sequence[EncodedTurn],
        words: Sequence[WordTokens],
        score: Score,
        weights: ResponseWeights,
    ) -> list[list[float]]:
        found: list[list[float]] = [[]] * len(turns)
        for group in turn_groups(comparison.loaded, turns, max_tokens=comparison.max_tokens):
            values = _searched(group, [words[i] for i in group.indices], [weights[i] for i in group.indices])
            for i, own in zip(group.indices, values, strict=True):
                found[i] = own
        return found


def searching(n_words: int) -> Steps:
    """The search in one prompt; a value for each of its words.

    1. Parts of equal length, one behind the other (the last one ends with the prompt).
    2. While a part is longer than RUN words: parts of the best one and of half its length to both sides.
    3. The best run of RUN words, moved by up to AROUND words.
    4. The word with the highest value, alone, and so each that no window told apart from it. Where one has ALONE of the
       best run's rise, it is the cause, and what a run that holds it says of its other words is by how much it raises
       the loss beyond that.
    """
    if n_words == 0:
        return []
    rises: Rises = {}
    low, high = 0, n_words
    length = min(n_words, max(RUN, -(-n_words // PARTS)))  # rounded up
    while True:
        step = _one_behind_the_other(low, high, length)
        yield from _read(step, rises)
        best = max(step, key=lambda window: (rises[window], -window[0]))[0]
        if length <= RUN:
            break
        low, high = max(0, best - length // 2), min(n_words, best + length + length // 2)
        length = max(RUN, -(-(high - low) // FINER))
    moved = range(max(0, best - AROUND), min(n_words - length, best + AROUND) + 1)
    yield from _read([(start, start + length) for start in moved], rises)
    values = _values(n_words, rises)
    yield from _read([(word, word + 1) for word in _highest(values, rises)], known := dict(rises))
    top = max(_highest(values, rises), key=lambda word: (known[word, word + 1], -word))
    highest, alone = max(rises.values()), known[top, top + 1]
    if not alone >= ALONE * highest > 0:
        return values
    beyond = {(a, b): rise - (alone if a <= top < b else 0.0) for (a, b), rise in rises.items()}
    return [highest if word == top else value for word, value in enumerate(_values(n_words, beyond))]


def _highest(values: Sequence[float], rises: Rises) -> list[int]:
    """The word with the highest value, of several the one in more windows, and those that stand in the same windows."""
    held = [[window for window in rises if window[0] <= word < window[1]] for word in range(len(values))]
    top = max(range(len(values)), key=lambda word: (values[word], len(held[word]), -word))
    return [word for word, windows in enumerate(held) if windows == held[top]]


def _one_behind_the_other(low: int, high: int, length: int) -> list[Window]:
    starts = list(range(low, high - length + 1, length))
    if starts[-1] + length < high:
        starts.append(high - length)
    return [(start, start + length) for start in starts]


def _read(windows: Sequence[Window], rises: Rises) -> Generator[list[Window], Sequence[float], None]:
    """Asks for the windows whose rise is not known yet."""
    asked = [window for window in windows if window not in rises]
    if asked:
        rises.update(zip(asked, (yield asked), strict=True))


def _values(n_words: int, rises: Mapping[Window, float]) -> list[float]:
    """The mean over the windows that hold each word; a window longer than RUN shares its rise out."""
    totals, counts = [0.0] * n_words, [0] * n_words
    for (start, stop), rise in rises.items():
        for word in range(start, stop):
            totals[word] += rise * min(1.0, RUN / (stop - start))
            counts[word] += 1
    return [total / count for total, count in zip(totals, counts, strict=True)]


def _searched(group: TurnGroup, words: Sequence[WordTokens], weights: ResponseWeights) -> list[list[float]]:
    """The searches of all turns of a group, step by step, so that one call reads the versions of every turn."""
    a = [loss_weights(one) for one in weights]
    whole = [-float(weight @ log.double()) for weight, log in zip(a, group.log_probs, strict=True)]
    # Words without a token (cut off) are passed over and have value 0.
    there = [[word for word, tokens in enumerate(own) if tokens] for own in words]
    values = [[0.0] * len(own) for own in words]
    searches = {turn: searching(len(own)) for turn, own in enumerate(there)}
    answers: dict[int, Sequence[float] | None] = dict.fromkeys(searches)
    while searches:
        asked: list[tuple[int, Window]] = []
        for turn, search in list(searches.items()):
            try:
                asked.extend((turn, window) for window in search.send(answers[turn]))  # type: ignore[arg-type]
            except StopIteration as stop:
                del searches[turn]
                for word, value in zip(there[turn], stop.value, strict=True):
                    values[turn][word] = value
        if not asked:
            break
        versions = [
            (turn, _without_words(group.turns[turn], words[turn], there[turn], window)) for turn, window in asked
        ]
        answers = {turn: [] for turn in searches}
        for turn, log in zip([turn for turn, _ in asked], group.read(versions), strict=True):
            answers[turn].append(-float(a[turn] @ log.double()) - whole[turn])  # type: ignore[union-attr]
    return values


def _without_words(turn: EncodedTurn, words: WordTokens, there: Sequence[int], window: Window) -> EncodedTurn:
    return without(turn, {token for word in there[slice(*window)] for token in words[word]})


__all__ = ["LossOcclusionSearch", "searching"]
