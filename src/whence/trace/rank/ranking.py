"""The second stage of a search: the best few hundred rows, read again for what is asked about.

Without a target (no span, no wanted answer) a search has one stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from whence.data import EncodedTurn, Encoder
from whence.index import Index, Match
from whence.model import LoadedModel, learned_fraction
from whence.results import Span
from whence.signatures import Extractor
from whence.trace.query.queries import Query
from whence.trace.query.spans import find_span, span_of_tokens, span_positions
from whence.trace.query.targets import Target, span_target, wanted_target
from whence.trace.rank.matched_rows import encoded_rows
from whence.trace.rank.rerank import rerank
from whence.trace.settings import TraceSettings

READ_AGAIN = 200
"""Rows of the first stage that the second one reads, or k if that is more."""

VERSION = "+late 3"
"""Behind the version of the first stage's form."""


@dataclass(frozen=True, slots=True)
class Focus:
    """What of a query's response is asked about. `span` is None where it was named by a wanted answer."""

    target: Target
    span: Span | None = None


def focus_of(
    loaded: LoadedModel, encoder: Encoder, query: Query, turn: EncodedTurn, settings: TraceSettings
) -> Focus | None:
    """The words that the settings ask about in this query; None where they ask about the whole response.

    Raises InputError for a span that is not there or there several times, and a wanted answer that cannot be compared.
    """
    layers = [loaded.n_layers]
    if settings.wanted is not None:
        return Focus(wanted_target(loaded, layers, turn, encoder.encode_query(query.turns, settings.wanted)))
    if settings.span_tokens is not None:
        a, b = settings.span_tokens
        span = span_of_tokens(turn, a, b)
        return Focus(span_target(loaded, layers, turn, range(a, b)), span)
    if settings.span is None:
        return None
    span = find_span(turn.response, settings.span) if isinstance(settings.span, str) else settings.span
    return Focus(span_target(loaded, layers, turn, span_positions(turn, span)), span)


def first_stage_rows(k: int, focus: Focus | None) -> int:
    """How many rows the first stage must find."""
    return k if focus is None else max(k, READ_AGAIN)


def second_stage(
    index: Index,
    loaded: LoadedModel,
    encoder: Encoder,
    focus: Focus | None,
    matches: Sequence[Match],
    k: int,
    *,
    taught: bool = False,
) -> list[Match]:
    """The k best of the first stage's rows, with their new scores; ordered by (-score, row, turn).

    taught: whether the first stage's form weighs rows by what fine-tuning had to teach them.

    Raises NonFiniteError, naming the row.
    """
    if focus is None or not matches:
        return list(matches[:k])
    turns = encoded_rows(index, encoder, matches)
    layer, max_tokens = loaded.n_layers, index.manifest.max_tokens
    centre = index.centres.get((layer, "m"))
    if centre is None:
        states = Extractor(loaded, vectors=[(layer, "m")], max_tokens=max_tokens).extract(turns).layers[layer]
        centre = states.get("m").double().mean(0)
    records = index.fetch([match.record for match in matches]) if taught else []
    gains = torch.tensor([record.log_likelihood_gain for record in records], dtype=torch.float64)
    late = rerank(
        loaded,
        layer,
        focus.target,
        turns,
        torch.tensor([match.score for match in matches], dtype=torch.float64),
        centre=centre,
        share=learned_fraction(gains) if taught else None,
        max_tokens=max_tokens,
        labels=lambda i: f"row {matches[i].row}",
    )
    rescored = [match._replace(score=score) for match, score in zip(matches, late.scores.tolist(), strict=True)]
    return sorted(rescored, key=lambda match: (-match.score, match.row, match.turn))[:k]


__all__ = ["READ_AGAIN", "VERSION", "Focus", "first_stage_rows", "focus_of", "second_stage"]
