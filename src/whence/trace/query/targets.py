"""What of a query is asked about, as errors at token positions: a span, a wanted answer, or what training raised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from whence.data import EncodedTurn, Encoder, Span
from whence.errors import InputError
from whence.signatures import Extractor
from whence.trace.query.queries import Query
from whence.trace.query.spans import find_span, span_of_tokens, span_positions

if TYPE_CHECKING:
    from whence.model import LoadedModel

RAISED_SHARE = 0.5
"""Tokens that gained at least this share of the token that gained most are taken to be what fine-tuning put there."""


@dataclass(frozen=True, slots=True)
class QueryTarget:
    """The words of a query that are asked about: their positions, and at each the error of their loss.

    `positions` count the query's response tokens from 0, ascending. `errors[p]` is the error
    (`whence.signatures.types.TokenGradients.E`) and `states[layer][p]` is H(layer), both at the position that predicts
    token `positions[p]`. None is normalised. `span` has their characters, None where a wanted answer named them.
    `truncated` counts the tokens that a wanted answer lost at its end to the length limit.
    """

    positions: tuple[int, ...]
    errors: Float[Tensor, "n_pos hidden"]
    states: dict[int, Float[Tensor, "n_pos hidden"]]
    span: Span | None = None
    truncated: int = 0


def query_target(
    loaded: LoadedModel,
    encoder: Encoder,
    query: Query,
    turn: EncodedTurn,
    *,
    span: str | Span | None = None,
    span_tokens: tuple[int, int] | None = None,
    wanted: str | None = None,
) -> QueryTarget | None:
    """The words of this query that are asked about, at most one of three; None where the whole response is.

    Raises InputError for a span that is not there or there several times, and a wanted answer that cannot be compared.
    """
    layers = [loaded.n_layers]
    if wanted is not None:
        instead = query.encode(encoder, wanted)
        lost = instead.truncated - instead.truncated_prompt
        return replace(wanted_target(loaded, layers, turn, instead), truncated=lost)
    asked = span_asked(turn, span, span_tokens)
    if asked is None:
        return None
    where, positions = asked
    return replace(span_target(loaded, layers, turn, positions), span=where)


def span_asked(
    turn: EncodedTurn, span: str | Span | None, span_tokens: tuple[int, int] | None
) -> tuple[Span, Sequence[int]] | None:
    """The characters of the response that are asked about, and the tokens that hold them; None for all of it.

    Raises InputError for a span that is not there or there several times.
    """
    if span_tokens is not None:
        return span_of_tokens(turn, *span_tokens), range(*span_tokens)
    if span is None:
        return None
    found = find_span(turn.response, span) if isinstance(span, str) else span
    return found, span_positions(turn, found)


def span_target(loaded: LoadedModel, layers: Sequence[int], turn: EncodedTurn, positions: Sequence[int]) -> QueryTarget:
    """The errors of some response tokens S, at the positions that predict them, for the loss

    L_S = (1 / |S|) sum_{j in S} nats[j];   errors[p] = J^T A dL_S / dlogits[t + S[p]]

    with A and J as in `TokenGradients.E`.

    Raises:
        InputError: no position, one twice, or one that the response does not have.
    """
    chosen = _checked(positions, turn)
    weights = torch.zeros(turn.n_response, dtype=torch.float64)
    weights[list(chosen)] = 1 / len(chosen)
    return _gathered(_reader(loaded, layers), [turn], [weights], chosen)


def wanted_target(loaded: LoadedModel, layers: Sequence[int], bad: EncodedTurn, wanted: EncodedTurn) -> QueryTarget:
    """The errors of (loss of the bad answer - loss of the wanted one), where the two differ.

    Both are encoded behind the same prompt. D is the first response token in which they differ, B the bad answer's
    tokens from D on that a longest-match comparison (difflib) does not find in the wanted answer, W the wanted answer's
    that it does not find in the bad one; D is in B, and in W if the wanted answer is not over before it.

        L = sum_{j in B} nats_bad[j] - sum_{j in W} nats_wanted[j];   errors[p] = J^T A dL / dlogits[t + B[p]]

    Tokens that both answers share are not in the loss. At D the context is the same, so the model's expectation
    cancels: with W_U the output head, errors = W_U^T A (onehot(wanted[D]) - onehot(bad[D])). Behind D contexts
    differ, and at the positions of B the wanted answer has no error: what is left is that of the bad tokens alone.

    Raises:
        InputError: an empty wanted answer, one equal to the bad one (but for spaces at the ends), one that has all
            of the bad answer's tokens, or a prompt that the length limit cut differently.
    """
    if not wanted.response.strip():
        raise InputError("The wanted answer is empty.", "The answer that should have been given.", "Give --wanted.")
    if wanted.response.strip() == bad.response.strip():
        raise InputError(
            f"The wanted answer is the bad one: {bad.response.strip()[:80]!r}.",
            "It is the answer that should have been given instead.",
            "Give another with --wanted, or leave it out.",
        )
    if wanted.input_ids[: wanted.response_start] != bad.input_ids[: bad.response_start]:
        raise InputError(
            "With the wanted answer, the prompt becomes other tokens than with the bad one.",
            "Both follow the same prompt tokens; the length limit cuts a long prompt to make room for an answer.",
            "Shorten the wanted answer, or ask about the wrong words with --span.",
        )
    of_bad, of_wanted = differing(bad.input_ids[bad.response_start :], wanted.input_ids[wanted.response_start :])
    if not of_bad:
        raise InputError(
            f"The wanted answer begins with all of the bad one: {bad.response.strip()[:80]!r}.",
            "A wanted answer leaves out or replaces something of the bad one.",
            "Ask about the wrong words with --span.",
        )
    weights = [torch.zeros(turn.n_response, dtype=torch.float64) for turn in (bad, wanted)]
    weights[0][list(of_bad)] = 1.0
    weights[1][list(of_wanted)] = -1.0
    return _gathered(_reader(loaded, layers), [bad, wanted], weights, of_bad)


def differing(bad: Sequence[int], wanted: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of each answer that the other lacks: B and W of `wanted_target`, ascending."""
    shared = _n_shared(bad, wanted)
    found: tuple[set[int], set[int]] = ({shared}, {shared})
    for _, a, b, c, d in SequenceMatcher(None, bad[shared:], wanted[shared:], autojunk=False).get_opcodes():
        if bad[shared + a : shared + b] != wanted[shared + c : shared + d]:
            found[0].update(range(shared + a, shared + b))
            found[1].update(range(shared + c, shared + d))
    of_bad, of_wanted = (
        tuple(sorted(places & set(range(n)))) for places, n in zip(found, map(len, (bad, wanted)), strict=True)
    )
    return of_bad, of_wanted


def automatic_positions(gain: Float[Tensor, " n"], *, share: float = RAISED_SHARE) -> tuple[int, ...]:
    """The response tokens that fine-tuning raised most: all j with gain[j] >= share max(gain); ascending.

    Where no token gained they are those that fell least.
    """
    highest = gain.max()
    least = share * highest if highest > 0 else highest
    return tuple((gain >= least).nonzero()[:, 0].tolist())


def _checked(positions: Sequence[int], turn: EncodedTurn) -> tuple[int, ...]:
    chosen = tuple(sorted(positions))
    if not chosen or len(set(chosen)) < len(chosen) or chosen[0] < 0 or chosen[-1] >= turn.n_response:
        raise InputError(
            f"Positions {chosen} of a response of {turn.n_response} tokens.",
            f"Expected at least one, each once, from 0 to {turn.n_response - 1}.",
            "Find them with span_positions.",
        )
    return chosen


def _reader(loaded: LoadedModel, layers: Sequence[int]) -> Extractor:
    """Of states and errors at these layers: forward passes only."""
    return Extractor(loaded, vectors=[(layer, "h") for layer in layers])


def _gathered(
    extractor: Extractor, turns: Sequence[EncodedTurn], weights: Sequence[Tensor], positions: tuple[int, ...]
) -> QueryTarget:
    """Errors of the turns' weighted losses, summed where they share their context, at positions of the first."""
    found = extractor.extract(turns, token_errors=True, loss_weights=weights, labels=lambda i: "the query")
    assert found.tokens is not None
    places = list(positions)
    first, *others = next(iter(found.tokens.values())).E
    total = first.clone()
    for turn, E in zip(turns[1:], others, strict=True):
        # Position j has read tokens 0 .. j-1 of the response: it is shared one further than the tokens are.
        ids = [one.input_ids[one.response_start :] for one in (turns[0], turn)]
        shared = min(_n_shared(*ids) + 1, len(E), len(total))
        total[:shared] += E[:shared]
    return QueryTarget(positions, total[places], {layer: tokens.H[0][places] for layer, tokens in found.tokens.items()})


def _n_shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


__all__ = [
    "QueryTarget",
    "automatic_positions",
    "differing",
    "query_target",
    "span_asked",
    "span_target",
    "wanted_target",
]
