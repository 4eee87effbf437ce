"""Queries on their way into a trace: answered and encoded, then everything that later stages want of the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from whence.data import EncodedTurn, Encoder, Span
from whence.errors import InputError
from whence.model import LoadedModel, TokenShift, generate
from whence.scoring import Block, Centres, to_block
from whence.signatures import Signatures
from whence.trace.query.queries import Query
from whence.trace.query.targets import QueryTarget, query_target, span_asked

PEAK_TOKENS = 3
"""A name or a first word is one to three tokens. On two development cases of a real model three told faulty from
ordinary answers better than the whole answer's gain or its gain per token (docs/log.md, "Height and gain together")."""


@dataclass(frozen=True, slots=True)
class ModelAnswers:
    """Queries and the responses that are traced, theirs or the model's own, as the model reads them."""

    queries: Sequence[Query]
    turns: Sequence[EncodedTurn]
    """turns[i].response is the response of queries[i], for a tool call as the template writes it."""
    complete: Sequence[bool]
    """False for an answer that was stopped at a limit of new tokens, now or when it was logged."""
    first: int | None = None
    """Number of the first query among all that are traced, from 0; None for one alone, which errors need not name."""

    def __len__(self) -> int:
        return len(self.queries)


@dataclass(frozen=True, slots=True)
class QueryBatch:
    """Answered queries and what any later stage wants of the models about them, read once.

    signatures: by layer, of all queries in their order, what they are searched with.
    shifts:     what fine-tuning changed at each response token of each query; None where no stage asks for it, or
                without a base.
    targets:    the words that are asked about, or None for the whole response.
    """

    answers: ModelAnswers
    signatures: Mapping[int, Signatures]
    shifts: Sequence[TokenShift] | None
    targets: Sequence[QueryTarget | None]

    def __len__(self) -> int:
        return len(self.answers)

    def block(self, number: int, centres: Centres) -> Block:
        """The vectors of one query."""
        return to_block(
            {
                layer: Signatures(**{name: raw[number : number + 1] for name, raw in signatures.named().items()})
                for layer, signatures in self.signatures.items()
            },
            centres,
        )

    @property
    def peak_gains(self) -> Float[np.ndarray, " n_query"]:
        """The gain of the few most changed tokens of each response, in nats."""
        assert self.shifts is not None, "there is a base"
        return peak_gains(self.shifts)

    @property
    def gains(self) -> Float[np.ndarray, " n_query"]:
        """The log-likelihood gain of each whole response, in nats."""
        assert self.shifts is not None, "there is a base"
        return summed_gains(self.shifts)


def summed_gains(shifts: Sequence[TokenShift]) -> Float[np.ndarray, " n"]:
    """The log-likelihood gain of each whole response, in nats: sum_j gain[j] over its tokens."""
    return np.array([float(shift.gain.double().sum()) for shift in shifts])


def peak_gains(shifts: Sequence[TokenShift]) -> Float[np.ndarray, " n"]:
    """The gain of the few tokens of each response that fine-tuning changed most, in nats.

        peak = sum of the PEAK_TOKENS largest gain[j]

    A fault often stands in a few words of a long answer, whose other tokens the base would have said as well.
    """
    return np.array([float(shift.gain.double().sort(descending=True).values[:PEAK_TOKENS].sum()) for shift in shifts])


def answered(
    loaded: LoadedModel, encoder: Encoder, queries: Sequence[Query], *, answer_tokens: int, first: int | None = None
) -> ModelAnswers:
    """The queries encoded with their responses; those without one are answered by the model now, greedily.

    Raises:
        InputError: a query that the model answers with nothing.
        EncodingError: a query that the template cannot render.
    """
    silent = [query for query in queries if query.response is None]
    prompts = [query.prompt_ids(encoder) for query in silent]
    answers = iter(generate(loaded, prompts, max_new_tokens=answer_tokens) if prompts else [])
    turns, whole = [], []
    for query in queries:
        own, complete = None, query.complete
        if query.response is None:
            answer = next(answers)
            own, complete = answer.text, answer.complete
            if not own.strip():
                raise InputError(
                    f"The model answers nothing to {query.prompt[:80]!r}.",
                    "A trace needs a response.",
                    "Give the one that went wrong with --response.",
                )
        turns.append(query.encode(encoder, own, complete=complete))
        whole.append(complete)
    return ModelAnswers(queries, turns, whole, first)


def check_queries(
    encoder: Encoder,
    queries: Sequence[Query],
    *,
    span: str | Span | None = None,
    span_tokens: tuple[int, int] | None = None,
) -> None:
    """Raises what the queries' templates and spans would raise later, before any work of the model.

    Of a query without a response the span is not known yet.
    """
    for number, query in enumerate(queries):
        if query.response is None:
            query.prompt_ids(encoder)
            continue
        turn = query.encode(encoder)
        with _naming(number, query, several=len(queries) > 1):
            span_asked(turn, span, span_tokens)


def query_targets(
    loaded: LoadedModel,
    encoder: Encoder,
    answers: ModelAnswers,
    *,
    span: str | Span | None = None,
    span_tokens: tuple[int, int] | None = None,
    wanted: str | None = None,
) -> list[QueryTarget | None]:
    """The words of each query that are asked about; see `query_target`.

    Raises InputError, which names the query where there are several.
    """
    found = []
    for number, (query, turn) in enumerate(zip(answers.queries, answers.turns, strict=True)):
        with _naming(number + (answers.first or 0), query, several=answers.first is not None):
            found.append(query_target(loaded, encoder, query, turn, span=span, span_tokens=span_tokens, wanted=wanted))
    return found


@contextmanager
def _naming(number: int, query: Query, *, several: bool) -> Iterator[None]:
    """Where there are several queries, an InputError names its own; number counts from 0."""
    try:
        yield
    except InputError as error:
        where = f"Query {number + 1}, {query.prompt[:80]!r}: " if several else ""
        raise type(error)(where + error.found, error.expected, error.fix) from error


__all__ = [
    "PEAK_TOKENS",
    "ModelAnswers",
    "QueryBatch",
    "answered",
    "check_queries",
    "peak_gains",
    "query_targets",
    "summed_gains",
]
