"""Which words of a row's response drove the match: scores of words from the maps between query and row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from whence.data import EncodedTurn
from whence.errors import InputError
from whence.files import did_you_mean
from whence.model import TokenShift, learned_fraction
from whence.results import Words
from whence.signatures import MIN_TOKEN_GAIN
from whence.trace.explain.words import word_spans, word_tokens

REPEATED = 0.25
"""Weight of a response word that stands in the row's own prompt: repeating the prompt is no sign of the fault."""

OWN = 0.25
"""What a row's own match counts in the score of its words; the rest is the mean over the hits. Chosen on development
runs (docs/log.md)."""


class Maps(NamedTuple):
    """The maps between a query's response tokens and a row's.

    M:    cosine of the gradients, the token map.
    K:    cosine of the errors by word (`TokenGradients.E`) times that of the centred states, negative ones as 0.
    P:    cosine of the errors by word times that of the states as they are, with its sign.
    shift, query_shift: what fine-tuning changed at the row's tokens and at the query's; None where no base is known.
    """

    M: Float[Tensor, "n m"]
    K: Float[Tensor, "n m"]
    P: Float[Tensor, "n m"]
    shift: TokenShift | None = None
    query_shift: TokenShift | None = None


Pooling = Callable[[Maps, Float[Tensor, " n"], Sequence[int]], Float[Tensor, " m"]]
"""From the maps, what the hits share of each query token, and the query tokens asked about, to a number a column."""


def shares(hits: Sequence[Maps]) -> Float[Tensor, " n"]:
    """How far all hits share each of the query's tokens; in [0, 1].

    share[i] = mean over hits of max_j K[i, j]
    """
    # [n_hit, n] -> [n]
    return torch.stack([maps.K.amax(1) for maps in hits]).mean(0)


def shared(maps: Maps, share: Float[Tensor, " n"], asked: Sequence[int]) -> Float[Tensor, " m"]:
    """The best match of column j to what the hits share: max_{i asked} share[i] K[i, j]; in [0, 1].

    What one row happens to have in common with the query (its topic, a copied name) counts less than what all have.
    """
    # [n, m] -> rows that are asked about -> [m]
    return (share[:, None] * maps.K)[list(asked)].amax(0)


def learned(maps: Maps, share: Float[Tensor, " n"], asked: Sequence[int]) -> Float[Tensor, " m"]:
    """`shared`, times the learned fraction of each token; in [0, 1].

    score[j] = max_{i asked} share[i] K[i, j] learned_fraction[j]

    1 - exp(-gain) = (p - p_base) / p: how much of the token's probability training added. It is near 1 from a few nats
    on: a token that rose by 15 nats is no better explained than one that rose by 5.

    Raises:
        InputError: no gains.
    """
    # float64: gains of many nats differ in the last digits of 1 - exp(-gain) only.
    return shared(maps, share, asked) * learned_fraction(_shift(maps).gain.double())


def contradicted(maps: Maps, share: Float[Tensor, " n"], asked: Sequence[int]) -> Float[Tensor, " m"]:
    """The best match of column j, for words in whose place the base was sure of something else; in [0, 1].

    score[j] = max_{i asked} K[i, j] learned_fraction[j] base_top_other_prob[j]

    In an answer that differs from the base's every word has a gain. At most of them the base's probability was spread
    over many tokens; where a fact is wrong it was on one. Next the scores go through `average_over_hits`.
    """
    shift = _shift(maps)
    return maps.K[list(asked)].amax(0) * learned_fraction(shift.gain.double()) * shift.base_top_other_prob


def inner_product_share(maps: Maps, share: Float[Tensor, " n"], asked: Sequence[int]) -> Float[Tensor, " m"]:
    """The token's part in the inner product of the two `eh` (whence.signatures.types), but for the sketch's error.

    score[j] = w[j] sum_{i asked} v[i] P[i, j]     w, v: max(MIN_TOKEN_GAIN, gain) of row and query; 1 without a base

    Its sum over j is what query and row have in common in the score's gradient half.
    """
    shifts = (maps.shift, maps.query_shift)
    of_row, of_query = (1.0 if shift is None else shift.gain.clamp_min(MIN_TOKEN_GAIN) for shift in shifts)
    # Both weights are those of eh's tokens, so that the sum over i and j is the inner product of the two matrices.
    weighted = of_query[:, None] * maps.P if isinstance(of_query, Tensor) else maps.P
    return weighted[list(asked)].sum(0) * of_row


def subtract_column_mean(maps: Maps, share: Float[Tensor, " n"], asked: Sequence[int]) -> Float[Tensor, " m"]:
    """The best match of column j, less what j has in common with every other token; in [-2, 2].

    score[j] = max_{i asked} (M[i, j] - mean_{k != i} M[k, j]),  the mean over all other rows, 0 where there is none
    """
    # Of column j the mean over the query's other tokens, [n, m].
    others = (maps.M.sum(0, keepdim=True) - maps.M) / max(1, len(maps.M) - 1)
    return (maps.M - others)[list(asked)].amax(0)


def largest(maps: Maps, share: Float[Tensor, " n"], asked: Sequence[int]) -> Float[Tensor, " m"]:
    """The best match of column j: max_{i asked} M[i, j]; in [-1, 1]."""
    return maps.M[list(asked)].amax(0)


def paper(maps: Maps, share: Float[Tensor, " n"], asked: Sequence[int]) -> Float[Tensor, " m"]:
    """The paper's token score: sum_{i asked} M[i, j].

    Source: RepT (arXiv 2510.02334), token level; the released code has none.
    """
    return maps.M[list(asked)].sum(0)


RESPONSE_METHODS: Mapping[str, Pooling] = MappingProxyType(
    {
        "contradicted": contradicted,
        "learned": learned,
        "shared": shared,
        "inner-product-share": inner_product_share,
        "subtract-column-mean": subtract_column_mean,
        "largest": largest,
        "paper": paper,
    }
)
"""Ways to score the words of a row's response, by name."""

DEFAULT_RESPONSE_METHOD = "contradicted"
"""Chosen by benchmarks/token_quality.py."""

RESPONSE_METHOD_WITHOUT_BASE = "shared"
"""In its place where no base is known."""


def pooling(name: str) -> Pooling:
    """The method of that name. Raises InputError with the nearest."""
    if name in RESPONSE_METHODS:
        return RESPONSE_METHODS[name]
    raise InputError(
        f"There is no response method {name!r}.",
        f"Methods: {', '.join(RESPONSE_METHODS)}.",
        did_you_mean(name, RESPONSE_METHODS),
    )


def response_words(turn: EncodedTurn, scores: Float[Tensor, " n"], method: str) -> Words:
    """Each word with the highest score of its tokens; 0 for a word that was cut off."""
    spans, tokens = word_tokens(turn, "response")
    start, values = turn.response_start, scores.tolist()
    return Words(spans, tuple(max((values[token - start] for token in own), default=0.0) for own in tokens), method)


def downweight_prompt_words(turn: EncodedTurn, words: Words) -> Words:
    """The words of the turn's response, those that stand in its own prompt at `REPEATED` of their score."""
    # Whole words, not tokens: a word has other tokens at the beginning of an answer.
    prompt = {turn.prompt[start:stop].casefold() for start, stop in word_spans(turn.prompt)}
    forms = _forms(turn, words)
    scores = [score * (REPEATED if form in prompt else 1.0) for form, score in zip(forms, words.scores, strict=True)]
    return replace(words, scores=tuple(scores))


def average_over_hits(
    turns: Sequence[EncodedTurn], rows: Sequence[Words], keyness: Mapping[str, float] | None = None
) -> list[Words]:
    """Words of the hits' responses, each scored a quarter by its own row, the rest by the mean over all hits.

    score[r, w] = (OWN own[r, w] + (1 - OWN) mean over hits u of best[u, w]) keyness[w],   best: highest own score of w
    in u, or 0

    and 0 where own[r, w] is 0: a word that was cut off, or without gain in this row.

    One row's match is noisy, and what it has in common with the query by chance (its topic, a copied name) the others
    have not. Words are the same but for case. keyness: see `by_keyness`.
    """
    rows = [downweight_prompt_words(turn, words) for turn, words in zip(turns, rows, strict=True)]
    forms = [_forms(turn, words) for turn, words in zip(turns, rows, strict=True)]
    # By the word's spelling: over the hits, the best score that it has in each.
    mean: dict[str, float] = defaultdict(float)
    for own, words in zip(forms, rows, strict=True):
        best: dict[str, float] = {}
        for form, score in zip(own, words.scores, strict=True):
            best[form] = max(score, best.get(form, 0.0))
        for form, score in best.items():
            mean[form] += score / len(rows)
    averaged = [
        replace(
            words,
            scores=tuple(
                OWN * score + (1 - OWN) * mean[form] if score else 0.0
                for form, score in zip(own, words.scores, strict=True)
            ),
        )
        for own, words in zip(forms, rows, strict=True)
    ]
    return [by_keyness(turn, words, keyness) for turn, words in zip(turns, averaged, strict=True)]


def by_keyness(turn: EncodedTurn, words: Words, keyness: Mapping[str, float] | None) -> Words:
    """The words of the turn's response, each times its keyness among the flagged rows (`word_keyness`), 0 without one.

    A few hits may share a whole sentence with the answer; what the fault is made of stands in most flagged rows, and
    not in the others. None or empty: unchanged.
    """
    if not keyness:
        return words
    forms = _forms(turn, words)
    scores = (score * keyness.get(form, 0.0) for form, score in zip(forms, words.scores, strict=True))
    return replace(words, scores=tuple(scores))


def _forms(turn: EncodedTurn, words: Words) -> list[str]:
    return [turn.response[start:stop].casefold() for start, stop in words.spans]


def _shift(maps: Maps) -> TokenShift:
    if maps.shift is None:
        raise InputError(
            "This response method needs to know what fine-tuning changed at each token.",
            "That is seen against the model before it.",
            f"Give the base model, or choose the method {RESPONSE_METHOD_WITHOUT_BASE!r}.",
        )
    return maps.shift


__all__ = [
    "DEFAULT_RESPONSE_METHOD",
    "REPEATED",
    "RESPONSE_METHODS",
    "RESPONSE_METHOD_WITHOUT_BASE",
    "Maps",
    "average_over_hits",
    "by_keyness",
    "contradicted",
    "downweight_prompt_words",
    "inner_product_share",
    "largest",
    "learned",
    "paper",
    "pooling",
    "response_words",
    "shared",
    "shares",
    "subtract_column_mean",
]
