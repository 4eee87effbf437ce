"""From a query and its hits to their words: which words of each row, and of the query, the match is about."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from whence.data.examples import EncodedTurn
from whence.errors import InputError
from whence.index.forms import Block, Centres
from whence.results import HitWords, Words
from whence.signatures.extract import Extractor
from whence.signatures.types import LEAST_RISE, TokenGradients
from whence.trace.prompt_attribution.comparison import Comparison
from whence.trace.prompt_words import DEFAULT_PROMPT_METHOD, prompt_method, prompt_words
from whence.trace.token_maps import kernel_map, token_map, word_map
from whence.trace.words import word_tokens


class Maps(NamedTuple):
    """The maps between a query's response tokens and a row's.

    M:    cosine of the gradients, the token map.
    K:    cosine of the errors by word (`TokenGradients.E`) times that of the centred states, negative ones as 0.
    P:    cosine of the errors by word times that of the states as they are, with its sign.
    rise: what fine-tuning added to the log-probability of each of the row's tokens, nats; None where no base is known.
    query_rise: the same of the query's.
    """

    M: Float[Tensor, "n m"]
    K: Float[Tensor, "n m"]
    P: Float[Tensor, "n m"]
    rise: Float[Tensor, " m"] | None = None
    query_rise: Float[Tensor, " n"] | None = None


Pooling = Callable[[Maps, Float[Tensor, " n"], Sequence[int]], Float[Tensor, " m"]]
"""From the maps, what the hits share of each query token, and the query tokens asked about, to a number a column."""


def shares(hits: Sequence[Maps]) -> Float[Tensor, " n"]:
    """How far all hits share each of the query's tokens; in [0, 1].

    share[i] = mean over hits of max_j K[i, j]
    """
    return torch.stack([maps.K.amax(1) for maps in hits]).mean(0)


def shared(maps: Maps, share: Float[Tensor, " n"], asked: Sequence[int]) -> Float[Tensor, " m"]:
    """The best match of column j to what the hits share: max_{i asked} share[i] K[i, j]; in [0, 1].

    What one row happens to have in common with the query (its topic, a copied name) counts less than what all have.
    """
    return (share[:, None] * maps.K)[list(asked)].amax(0)


def taught(maps: Maps, share: Float[Tensor, " n"], asked: Sequence[int]) -> Float[Tensor, " m"]:
    """`shared`, for the words that fine-tuning taught; in [0, 1].

    score[j] = max_{i asked} share[i] K[i, j] (1 - exp(-max(0, rise[j])))

    1 - exp(-rise) = (p - p_base) / p: how much of the token's probability training added. It is near 1 from a few nats
    on: a token that rose by 15 nats is no better explained than one that rose by 5.

    Raises:
        InputError: no rises.
    """
    if maps.rise is None:
        raise InputError(
            "The response method 'taught' needs the rise of each token.",
            "What fine-tuning taught is seen against the model before it.",
            "Give the base model, or choose the method 'shared'.",
        )
    return shared(maps, share, asked) * added(maps.rise)


def added(rise: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The share of a token's probability that fine-tuning added: 1 - exp(-max(0, rise)); in [0, 1)."""
    return -torch.expm1(-rise.double().clamp_min(0))


def pairs(maps: Maps, share: Float[Tensor, " n"], asked: Sequence[int]) -> Float[Tensor, " m"]:
    """The token's part in the inner product of the two `eh` (whence.signatures.types), but for the sketch's error.

    score[j] = w[j] sum_{i asked} v[i] P[i, j]     w, v: max(LEAST_RISE, rise) of row and query; 1 without a base

    Its sum over j is what query and row have in common in the score's gradient half.
    """
    of_row, of_query = (1.0 if rise is None else rise.clamp_min(LEAST_RISE) for rise in (maps.rise, maps.query_rise))
    weighted = of_query[:, None] * maps.P if isinstance(of_query, Tensor) else maps.P
    return weighted[list(asked)].sum(0) * of_row


def damped(maps: Maps, share: Float[Tensor, " n"], asked: Sequence[int]) -> Float[Tensor, " m"]:
    """The best match of column j, less what j has in common with every other token; in [-2, 2].

    score[j] = max_{i asked} (M[i, j] - mean_{k != i} M[k, j]),  the mean over all other rows, 0 where there is none
    """
    others = (maps.M.sum(0, keepdim=True) - maps.M) / max(1, len(maps.M) - 1)
    return (maps.M - others)[list(asked)].amax(0)


def largest(maps: Maps, share: Float[Tensor, " n"], asked: Sequence[int]) -> Float[Tensor, " m"]:
    """The best match of column j: max_{i asked} M[i, j]; in [-1, 1]."""
    return maps.M[list(asked)].amax(0)


def paper(maps: Maps, share: Float[Tensor, " n"], asked: Sequence[int]) -> Float[Tensor, " m"]:
    """The paper's token score, `whence.trace.token_maps.paper_scores`: sum_{i asked} M[i, j]."""
    return maps.M[list(asked)].sum(0)


RESPONSE_METHODS: Mapping[str, Pooling] = MappingProxyType(
    {"taught": taught, "shared": shared, "pairs": pairs, "damped": damped, "largest": largest, "paper": paper}
)
"""Ways to score the words of a row's response, by name."""

DEFAULT_RESPONSE_METHOD = "taught"
"""Chosen by benchmarks/token_quality.py."""

WITHOUT_BASE = "shared"
"""In its place where no rises are given."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A query and its hits down to their words; `prompt` and `response` are the query's, None where there is no hit."""

    hits: tuple[HitWords, ...]
    prompt: Words | None = None
    response: Words | None = None


def explain(
    comparison: Comparison,
    query_turn: EncodedTurn,
    row_turns: Sequence[EncodedTurn],
    *,
    query: Block | None = None,
    layer: int | None = None,
    prompt_method_name: str = DEFAULT_PROMPT_METHOD,
    response_method: str | None = None,
    positions: Sequence[int] | None = None,
    rises: Sequence[Float[Tensor, " n"]] | None = None,
) -> Explained:
    """The words of the query and of each of its hits, and the maps between their responses.

    query:     the query's vectors as they were searched with, where its gradient is not that of the whole response (a
               span, a wanted answer); None extracts them.
    layer:     of the gradients that the maps are made of; None: the deepest, after the final norm.
    positions: the response tokens of the query that are asked about, from 0; None: all.
    rises:     of the response tokens of the query and of each row, in this order, as `whence.trace.targets.rises` gives
               them for [query_turn, *row_turns]; None where there is no base to compare with.
    response_method: None is "taught" where there are rises, "shared" where there are none.

    A row's prompt words are scored by `prompt_method_name` on the score between query and row; the query's by the same
    on its mean score over the rows. A row's response words have the highest score of their tokens by `response_method`
    on the token map; the query's the highest of `shares` of theirs, asked about or not, times `added` where there are
    rises. Maps hold every response word.

    Raises:
        InputError: an unknown method, positions outside the response, a form that the prompt method cannot take apart.
        ModelError: a layer that the model does not have.
        NonFiniteError: a value that is NaN or infinite.
    """
    if response_method is None:
        response_method = DEFAULT_RESPONSE_METHOD if rises is not None else WITHOUT_BASE
    pooling = _pooling(response_method)
    prompt_method(prompt_method_name)
    asked = _checked(positions, query_turn)
    turns = [query_turn, *row_turns]
    if rises is not None and [len(rise) for rise in rises] != [turn.n_response for turn in turns]:
        raise InputError(
            f"Rises of {[len(rise) for rise in rises]} tokens.",
            f"Expected those of the query and of each row: {[turn.n_response for turn in turns]}.",
        )
    if not row_turns:
        return Explained(())
    layer = comparison.loaded.n_layers if layer is None else layer
    extractor = Extractor(comparison.loaded, [layer], max_tokens=comparison.max_tokens)
    tokens = extractor.extract(turns, token_gradients=True).tokens
    assert tokens is not None
    maps = _maps(tokens[layer], comparison.centres, layer)
    share = shares(maps)
    own = share
    if rises is not None:
        maps = [pair._replace(rise=rise, query_rise=rises[0]) for pair, rise in zip(maps, rises[1:], strict=True)]
        own = share * added(rises[0])
    prompts, prompt = _prompts(comparison, query_turn, row_turns, query, maps, (share, own), asked, prompt_method_name)
    responses = [
        _response(turn, pooling(pair, share, asked), response_method)
        for turn, pair in zip(row_turns, maps, strict=True)
    ]
    between = [_between(query_turn, turn, pair.M) for turn, pair in zip(row_turns, maps, strict=True)]
    hits = tuple(map(HitWords, prompts, responses, between))
    return Explained(hits, prompt, _response(query_turn, own, "shared" if rises is None else "taught"))


def _maps(tokens: TokenGradients, centres: Centres | None, layer: int) -> list[Maps]:
    """The maps between the first turn and each other. Without a centre in the index, that of these turns' tokens."""
    centre = (centres or {}).get((layer, "m"))
    if centre is None:
        centre = torch.cat([*tokens.H]).double().mean(0)
    H_query, *H_rows = [H.double() for H in tokens.H]
    G_query, *G_rows = [G.double() for G in tokens.G]
    E_query, *E_rows = [E.double() for E in tokens.E]
    return [
        Maps(
            token_map(G_query, G),
            kernel_map(errors := token_map(E_query, E), H_query - centre, H - centre),
            errors * token_map(H_query, H),
        )
        for G, E, H in zip(G_rows, E_rows, H_rows, strict=True)
    ]


def _prompts(
    comparison: Comparison,
    query_turn: EncodedTurn,
    row_turns: Sequence[EncodedTurn],
    query: Block | None,
    maps: Sequence[Maps],
    share: tuple[Float[Tensor, " n"], Float[Tensor, " n"]],
    asked: Sequence[int],
    method: str,
) -> tuple[list[Words], Words]:
    """Words of the rows' prompts and of the query's; the response tokens that are lit are those that the hits share,
    and that fine-tuning taught where that is known.

    share: what the hits share of each query token, and the same times what fine-tuning added.
    """
    of_hits, of_query = share

    # Blocks cost a pass each, and the default method compares no scores.
    @cache
    def asked_with() -> Block:
        return comparison.block([query_turn]) if query is None else query

    @cache
    def found() -> Block:
        return comparison.block(row_turns)

    lit = [(shared if pair.rise is None else taught)(pair, of_hits, asked) for pair in maps]
    rows = prompt_words(comparison, row_turns, lambda block: comparison.against_query(asked_with())(block), lit, method)
    weights = torch.zeros_like(of_query)
    weights[list(asked)] = of_query[list(asked)]
    (own,) = prompt_words(
        comparison, [query_turn], lambda block: comparison.against_rows(found())(block), [weights], method
    )
    return rows, own


def _response(turn: EncodedTurn, scores: Float[Tensor, " n"], method: str) -> Words:
    """Each word with the highest score of its tokens; 0 for a word that was cut off."""
    spans, tokens = word_tokens(turn, "response")
    start, values = turn.response_start, scores.tolist()
    return Words(spans, tuple(max((values[token - start] for token in own), default=0.0) for own in tokens), method)


def _between(query_turn: EncodedTurn, row_turn: EncodedTurn, M: Float[Tensor, "n m"]) -> tuple[tuple[float, ...], ...]:
    sides = [
        [[token - turn.response_start for token in own] for own in word_tokens(turn, "response")[1]]
        for turn in (query_turn, row_turn)
    ]
    return tuple(map(tuple, word_map(M, *sides).tolist()))


def _pooling(name: str) -> Pooling:
    if name in RESPONSE_METHODS:
        return RESPONSE_METHODS[name]
    near = difflib.get_close_matches(name, RESPONSE_METHODS, n=1)
    raise InputError(
        f"There is no response method {name!r}.",
        f"Methods: {', '.join(RESPONSE_METHODS)}.",
        f"Did you mean {near[0]}?" if near else "",
    )


def _checked(positions: Sequence[int] | None, turn: EncodedTurn) -> Sequence[int]:
    if positions is None:
        return range(turn.n_response)
    if not positions or not all(0 <= position < turn.n_response for position in positions):
        raise InputError(
            f"The tokens asked about are {list(positions)}.",
            f"The response has {turn.n_response} tokens, from 0; at least one must be asked about.",
            "Choose another span.",
        )
    return positions


__all__ = [
    "DEFAULT_RESPONSE_METHOD",
    "RESPONSE_METHODS",
    "WITHOUT_BASE",
    "Explained",
    "Maps",
    "added",
    "damped",
    "explain",
    "largest",
    "pairs",
    "paper",
    "shared",
    "shares",
    "taught",
]
