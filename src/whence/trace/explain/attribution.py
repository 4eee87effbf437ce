"""From a query and its hits to their words: which words of each row, and of the query, the match is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from whence.data import EncodedTurn
from whence.errors import InputError
from whence.model import TokenShift, learned_fraction
from whence.results import HitWords, Words
from whence.scoring import Block, Centres
from whence.signatures import Extractor, TokenGradients
from whence.trace.explain.prompt_attribution.comparison import Comparison
from whence.trace.explain.prompt_words import DEFAULT_PROMPT_METHOD, prompt_method, prompt_words
from whence.trace.explain.response_words import (
    DEFAULT_RESPONSE_METHOD,
    WITHOUT_BASE,
    Maps,
    agreed,
    pooling,
    response_words,
    shared,
    shares,
    taught,
    unrepeated,
)
from whence.trace.explain.token_maps import kernel_map, token_map, word_map
from whence.trace.explain.words import word_tokens


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
    changes: Sequence[TokenShift] | None = None,
) -> Explained:
    """The words of the query and of each of its hits, and the maps between their responses.

    query:     the query's vectors as they were searched with, where its gradient is not that of the whole response (a
               span, a wanted answer); None extracts them.
    layer:     of the gradients that the maps are made of; None: the deepest, after the final norm.
    positions: the response tokens of the query that are asked about, from 0; None: all.
    changes:   what fine-tuning changed at the response tokens of the query and of each row, in this order, as
               `whence.trace.query.targets.changes` gives it for [query_turn, *row_turns]; None where there is no base.
    response_method: None is "contradicted" where there are changes, "shared" where there are none.

    A row's prompt words are scored by `prompt_method_name` on the score between query and row; the query's by the same
    on its mean score over the rows. A row's response words have the highest score of their tokens by `response_method`
    on the token map, and by the default method are then `agreed`; the query's have the highest of `shares` of theirs,
    asked about or not, where there are changes times `added` and the rival's probability, and then `unrepeated`. Maps
    hold every response word.

    Raises:
        InputError: an unknown method, positions outside the response, a form that the prompt method cannot take apart.
        ModelError: a layer that the model does not have.
        NonFiniteError: a value that is NaN or infinite.
    """
    if response_method is None:
        response_method = DEFAULT_RESPONSE_METHOD if changes is not None else WITHOUT_BASE
    pooled = pooling(response_method)
    prompt_method(prompt_method_name)
    asked = _checked(positions, query_turn)
    turns = [query_turn, *row_turns]
    if changes is not None and [len(change.gain) for change in changes] != [turn.n_response for turn in turns]:
        raise InputError(
            f"Changes at {[len(change.gain) for change in changes]} tokens.",
            f"Expected those of the query and of each row: {[turn.n_response for turn in turns]}.",
        )
    if not row_turns:
        return Explained(())
    layer = comparison.loaded.n_layers if layer is None else layer
    extractor = Extractor(comparison.loaded, vectors=[(layer, "h")], max_tokens=comparison.max_tokens)
    tokens = extractor.extract(turns, token_gradients=True).tokens
    assert tokens is not None
    maps = _maps(tokens[layer], comparison.centres, layer)
    share = shares(maps)
    lit = share
    if changes is not None:
        maps = [pair._replace(change=one, query_change=changes[0]) for pair, one in zip(maps, changes[1:], strict=True)]
        lit = share * learned_fraction(changes[0].gain.double())
    prompts, prompt = _prompts(comparison, query_turn, row_turns, query, maps, (share, lit), asked, prompt_method_name)
    responses = [
        response_words(turn, pooled(pair, share, asked), response_method)
        for turn, pair in zip(row_turns, maps, strict=True)
    ]
    if response_method == DEFAULT_RESPONSE_METHOD:
        responses = agreed(row_turns, responses)
    response = response_words(query_turn, share, WITHOUT_BASE)
    if changes is not None:
        contradicting = response_words(query_turn, lit * changes[0].base_top_other_prob, DEFAULT_RESPONSE_METHOD)
        response = unrepeated(query_turn, contradicting)
    between = [_between(query_turn, turn, pair.M) for turn, pair in zip(row_turns, maps, strict=True)]
    hits = tuple(map(HitWords, prompts, responses, between))
    return Explained(hits, prompt, response)


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

    lit = [(shared if pair.change is None else taught)(pair, of_hits, asked) for pair in maps]
    rows = prompt_words(comparison, row_turns, lambda block: comparison.against_query(asked_with())(block), lit, method)
    weights = torch.zeros_like(of_query)
    weights[list(asked)] = of_query[list(asked)]
    (own,) = prompt_words(
        comparison, [query_turn], lambda block: comparison.against_rows(found())(block), [weights], method
    )
    return rows, own


def _between(query_turn: EncodedTurn, row_turn: EncodedTurn, M: Float[Tensor, "n m"]) -> tuple[tuple[float, ...], ...]:
    sides = [
        [[token - turn.response_start for token in own] for own in word_tokens(turn, "response")[1]]
        for turn in (query_turn, row_turn)
    ]
    return tuple(map(tuple, word_map(M, *sides).tolist()))


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


__all__ = ["Explained", "explain"]
