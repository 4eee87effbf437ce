"""From a query and its hits to their words: which words of each row, and of the query, the match is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from whence.data import EncodedTurn
from whence.errors import InputError
from whence.model import TokenShift, learned_fraction
from whence.results import HitWords, Words
from whence.scoring import Block
from whence.signatures import Extractor
from whence.trace.explain.prompt_attribution.comparison import Comparison
from whence.trace.explain.prompt_words import DEFAULT_PROMPT_METHOD, prompt_method, prompt_words
from whence.trace.explain.response_words import (
    DEFAULT_RESPONSE_METHOD,
    RESPONSE_METHOD_WITHOUT_BASE,
    Maps,
    average_over_hits,
    by_keyness,
    downweight_prompt_words,
    learned,
    pooling,
    response_words,
    shared,
    shares,
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
    shifts: Sequence[TokenShift] | None = None,
    read_shifts: bool = False,
    keyness: Mapping[str, float] | None = None,
) -> Explained:
    """The words of the query and of each of its hits, and the maps between their responses.

    With i over the query's n response tokens, j over the m of a row, and the maps M, K [n, m] of each hit (`Maps`):

        share[i]        = mean over hits of max_j K[i, j]                        what the hits have of the query  [n]
        learned[j]      = 1 - exp(-max(0, gain[j]))                              `learned_fraction`               [m]
        row, response:    max_{i asked} K[i, j] learned[j] base_top_other_prob[j],  then `average_over_hits`
        query, response:  share[i] learned[i] base_top_other_prob[i],               then `downweight_prompt_words`,
                                                                                    and `by_keyness`
        row, prompt:      the loss of tokens j without a word, less that with it; tokens weighed by
                          max_{i asked} share[i] K[i, j] learned[j]
        query, prompt:    the same, of tokens i weighed by share[i] learned[i], where they are asked about

    Without shifts the learned and base_top_other_prob factors are 1, K is multiplied by share[i], and nothing follows.
    A word has the highest score of its tokens. Maps between words hold every response word.

    query:     the query's vectors as they were searched with, where its gradient is not that of the whole response (a
               span, a wanted answer); None extracts them.
    layer:     of the gradients that the maps are made of; None: the deepest, after the final norm.
    positions: the response tokens of the query that are asked about, from 0; None: all.
    shifts:    what fine-tuning changed at the response tokens of the query and of each row, in this order, as
               `token_shifts` gives it for [query_turn, *row_turns]; None where there is no base.
    read_shifts: read them here, on the way to the maps, against the comparison's base, in place of those given.
    keyness: of each word, by its case-folded spelling, how much more often it stands in flagged rows' responses
        (`word_keyness`); what "contradicted" weighs words by. None: all alike.
    response_method: None is "contradicted" where there are shifts, "shared" where there are none.

    Raises:
        InputError: an unknown method, positions outside the response, a form that the prompt method cannot take apart.
        ModelError: a layer that the model does not have.
        NonFiniteError: a value that is NaN or infinite.
    """
    if response_method is None:
        with_shifts = read_shifts or shifts is not None
        response_method = DEFAULT_RESPONSE_METHOD if with_shifts else RESPONSE_METHOD_WITHOUT_BASE
    pooled = pooling(response_method)
    prompt_method(prompt_method_name)
    asked = _checked(positions, query_turn)
    _check_shifts(shifts, [query_turn, *row_turns])
    if not row_turns:
        return Explained(())
    at = comparison.loaded.n_layers if layer is None else layer
    maps, read = _maps(comparison, query_turn, row_turns, at, read_shifts)
    shifts = read if read_shifts else shifts
    share = shares(maps)  # [n], over all hits: what one hit has by chance counts little
    if shifts is not None:
        maps = [pair._replace(shift=one, query_shift=shifts[0]) for pair, one in zip(maps, shifts[1:], strict=True)]
    prompts, prompt = _prompts(comparison, query_turn, row_turns, query, maps, share, asked, prompt_method_name)
    responses = [
        response_words(turn, pooled(pair, share, asked), response_method)
        for turn, pair in zip(row_turns, maps, strict=True)
    ]
    if response_method == DEFAULT_RESPONSE_METHOD:
        responses = average_over_hits(row_turns, responses, keyness)
    between = [_between(query_turn, turn, pair.M) for turn, pair in zip(row_turns, maps, strict=True)]
    hits = tuple(map(HitWords, prompts, responses, between))
    return Explained(hits, prompt, _query_response(query_turn, share, None if shifts is None else shifts[0], keyness))


def _query_response(
    turn: EncodedTurn, share: Float[Tensor, " n"], shift: TokenShift | None, keyness: Mapping[str, float] | None
) -> Words:
    """Words of the query's response, asked about or not."""
    if shift is None:
        return response_words(turn, share, RESPONSE_METHOD_WITHOUT_BASE)
    contradicting = share * learned_fraction(shift.gain.double()) * shift.base_top_other_prob  # [n]
    words = downweight_prompt_words(turn, response_words(turn, contradicting, DEFAULT_RESPONSE_METHOD))
    return by_keyness(turn, words, keyness)


def _maps(
    comparison: Comparison, query_turn: EncodedTurn, row_turns: Sequence[EncodedTurn], layer: int, contrast: bool
) -> tuple[list[Maps], Sequence[TokenShift] | None]:
    """The maps between the query and each row, and, where asked for, what fine-tuning changed at the tokens of all.

    Without a centre in the index, that of these turns' tokens.

    G, E, H of each turn are [n, hidden], one row a response token; maps are [n, m] in float64, since the gradients of a
    confident model are tiny.
    """
    extractor = Extractor(
        comparison.loaded,
        vectors=[(layer, "h")],
        max_tokens=comparison.max_tokens,
        contrast=contrast,
        base=comparison.base,
    )
    found = extractor.extract([query_turn, *row_turns], token_gradients=True)
    assert found.tokens is not None
    tokens = found.tokens[layer]
    centre = (comparison.centres or {}).get((layer, "m"))
    if centre is None:
        centre = torch.cat([*tokens.H]).double().mean(0)  # [hidden]
    H_query, *H_rows = [H.double() for H in tokens.H]
    G_query, *G_rows = [G.double() for G in tokens.G]
    E_query, *E_rows = [E.double() for E in tokens.E]
    # M: gradients. K: errors by word times centred states, for what is alike. P: with signs, for sums. All [n, m].
    maps = [
        Maps(
            token_map(G_query, G),
            kernel_map(errors := token_map(E_query, E), H_query - centre, H - centre),
            errors * token_map(H_query, H),
        )
        for G, E, H in zip(G_rows, E_rows, H_rows, strict=True)
    ]
    return maps, found.shifts


def _prompts(
    comparison: Comparison,
    query_turn: EncodedTurn,
    row_turns: Sequence[EncodedTurn],
    query: Block | None,
    maps: Sequence[Maps],
    share: Float[Tensor, " n"],
    asked: Sequence[int],
    method: str,
) -> tuple[list[Words], Words]:
    """Words of the rows' prompts and of the query's: which words make a turn say the tokens that the match is about.

    Those are the tokens that the hits share, and of a row, where that is known, of those with a log-likelihood gain.
    """

    # Blocks cost a pass each, and the default method compares no scores.
    @cache
    def asked_with() -> Block:
        return comparison.block([query_turn]) if query is None else query

    @cache
    def found() -> Block:
        return comparison.block(row_turns)

    query_share = share
    if maps[0].query_shift is not None:
        query_share = share * learned_fraction(maps[0].query_shift.gain.double())
    of_rows = [(shared if pair.shift is None else learned)(pair, share, asked) for pair in maps]  # [m] each
    rows = prompt_words(
        comparison, row_turns, lambda block: comparison.against_query(asked_with())(block), of_rows, method
    )
    # Tokens that are not asked about weigh nothing: their loss is not what the words must explain.
    of_query = torch.zeros_like(query_share)
    of_query[list(asked)] = query_share[list(asked)]
    (own,) = prompt_words(
        comparison, [query_turn], lambda block: comparison.against_rows(found())(block), [of_query], method
    )
    return rows, own


def _check_shifts(shifts: Sequence[TokenShift] | None, turns: Sequence[EncodedTurn]) -> None:
    if shifts is not None and [len(shift.gain) for shift in shifts] != [turn.n_response for turn in turns]:
        raise InputError(
            f"Shifts at {[len(shift.gain) for shift in shifts]} tokens.",
            f"Expected those of the query and of each row: {[turn.n_response for turn in turns]}.",
        )


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
