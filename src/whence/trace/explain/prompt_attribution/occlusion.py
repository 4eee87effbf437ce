"""Occlusion: leave words of the prompt out, and see what becomes of the score or of the response's loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whence.data import EncodedTurn
from whence.model import turn_groups
from whence.trace.explain.prompt_attribution.comparison import Comparison, ResponseWeights, Score, WordTokens, without

MAX_UNITS = 96
"""Most parts of a prompt that are left out separately: the work grows with their number times the prompt's length."""

Drop = tuple[int, tuple[int, ...]]
"""A turn and the words that are left out of it."""

Windows = Callable[[int], list[tuple[int, ...]]]
"""From the number of words to the runs of words that are left out together."""


def single_words(n_words: int) -> list[tuple[int, ...]]:
    """Each word alone."""
    return [(word,) for word in range(n_words)]


def runs_up_to_three(n_words: int) -> list[tuple[int, ...]]:
    """Every run of one, two and three words.

    Two words that say the same hide each other when they are left out one by one. A neighbour of the one word that
    matters is in half of that word's runs, so its mean stays at half of the word's or below.
    """
    return [tuple(range(start, start + length)) for length in (1, 2, 3) for start in range(n_words - length + 1)]


@dataclass(frozen=True, slots=True)
class Occlusion:
    """The fall of the score when the word is not there, with the whole signature extracted again; in the score's units.

    value[w] = mean over windows W that hold w of  s(turn) - s(turn without the tokens of W)

    The score is the actual one, gradient half included. Source: occlusion (Zeiler and Fergus 2014), on tokens.
    """

    windows: Windows = single_words

    def __call__(
        self,
        comparison: Comparison,
        turns: Sequence[EncodedTurn],
        words: Sequence[WordTokens],
        score: Score,
        weights: ResponseWeights,
    ) -> list[list[float]]:
        drops, changed = _changed(turns, words, self.windows)
        scores = score(comparison.block([*turns, *changed])).double()  # [n_turn + n_drop]
        return _means(words, drops, [scores[turn] for turn, _ in drops], scores[len(turns) :])


@dataclass(frozen=True, slots=True)
class LossOcclusion:
    """The increase of the turn's own response loss when the word is not there: which words make it say what it says.

    value[w] = mean over windows W that hold w of  L(turn without the tokens of W) - L(turn),
    L = sum_j a[j] nats[j] / sum_j a[j] over response tokens j, nats

    weights: a, so that the loss is that of the tokens that the match is about; all zero counts as all alike.
    """

    windows: Windows = single_words

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
            own = [words[i] for i in group.indices]
            drops, changed = _changed(group.turns, own, self.windows)
            # A drop of turn i is weighed as turn i: prompt words go, so the response's tokens are the same.
            a = [loss_weights(weights[i]) for i in group.indices]
            read = group.read([(turn, version) for (turn, _), version in zip(drops, changed, strict=True)])
            whole = [-(weight @ log.double()) for weight, log in zip(a, group.log_probs, strict=True)]
            less = [-(a[turn] @ log.double()) for (turn, _), log in zip(drops, read, strict=True)]
            for i, values in zip(
                group.indices, _means(own, drops, less, [whole[turn] for turn, _ in drops]), strict=True
            ):
                found[i] = values
        return found


@dataclass(frozen=True, slots=True)
class Both:
    """Words whose absence both lowers the score and raises the loss: the geometric mean of the two, each over its sum.

    value[w] = sqrt(s[w] / sum s * l[w] / sum l), s and l the positive parts of `Occlusion` and `LossOcclusion`
    """

    windows: Windows = single_words

    def __call__(
        self,
        comparison: Comparison,
        turns: Sequence[EncodedTurn],
        words: Sequence[WordTokens],
        score: Score,
        weights: ResponseWeights,
    ) -> list[list[float]]:
        falls = Occlusion(self.windows)(comparison, turns, words, score, weights)
        losses = LossOcclusion(self.windows)(comparison, turns, words, score, weights)
        return [(_shares(fall) * _shares(loss)).sqrt().tolist() for fall, loss in zip(falls, losses, strict=True)]


def loss_weights(weights: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """a[j] / sum a, in float64; weights that are all zero count as all alike."""
    weights = weights.double()
    total = weights.sum()
    return weights / total if total > 0 else torch.full_like(weights, 1 / len(weights))


def _shares(values: Sequence[float]) -> Float[Tensor, " n_words"]:
    positive = torch.tensor(values, dtype=torch.float64).clamp_min(0)
    total = positive.sum()
    return positive / total if total > 0 else positive


def _changed(
    turns: Sequence[EncodedTurn], words: Sequence[WordTokens], windows: Windows
) -> tuple[list[Drop], list[EncodedTurn]]:
    """What is left out of each turn, and the turns without it. Words without a token (cut off) are passed over.

    In a prompt of more than MAX_UNITS words equal numbers of adjoining words go together, as one.
    """
    drops: list[Drop] = []
    changed: list[EncodedTurn] = []
    for i, (turn, tokens) in enumerate(zip(turns, words, strict=True)):
        there = [word for word, own in enumerate(tokens) if own]
        size = -(-len(there) // MAX_UNITS) or 1  # rounded up
        units = [there[start : start + size] for start in range(0, len(there), size)]
        for window in windows(len(units)):
            run = tuple(word for unit in window for word in units[unit])
            drops.append((i, run))
            changed.append(without(turn, {token for word in run for token in tokens[word]}))
    return drops, changed


def _means(
    words: Sequence[WordTokens], drops: Sequence[Drop], high: Sequence[Tensor] | Tensor, low: Sequence[Tensor] | Tensor
) -> list[list[float]]:
    """For each word the mean of high - low over the drops that hold it; 0 for a word that was never left out."""
    totals = [[0.0] * len(tokens) for tokens in words]
    counts = [[0] * len(tokens) for tokens in words]
    for (turn, run), above, below in zip(drops, high, low, strict=True):
        for word in run:
            totals[turn][word] += float(above - below)
            counts[turn][word] += 1
    return [[total / max(1, n) for total, n in zip(a, b, strict=True)] for a, b in zip(totals, counts, strict=True)]


__all__ = ["Both", "LossOcclusion", "Occlusion", "loss_weights", "runs_up_to_three", "single_words"]
