"""What stages found of one query, put together as the result that is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from whence.data import EncodedTurn, Json
from whence.index import Index, Match, Record
from whence.results import Hit, QueryResult, Truncated
from whence.trace.query.departure import departure
from whence.trace.query.targets import QueryTarget
from whence.trace.rank.ranking import VERSION, RankedBatch
from whence.trace.settings import TraceSettings
from whence.trace.verdict.judge import QueryVerdict


def query_results(
    index: Index,
    ranked: RankedBatch,
    verdicts: Sequence[QueryVerdict | None],
    settings: TraceSettings,
    n_rows: int,
    *,
    max_length: int,
) -> list[QueryResult]:
    """The result of each query.

    n_rows: training rows that the filter lets through. max_length: tokens that a query was cut to.
    """
    # All records at once: each fetch costs a look-up in the dataset.
    records = iter(index.fetch([match.record for matches in ranked.matches for match in matches]))
    return [
        _result(ranked, number, [next(records) for _ in ranked.matches[number]], told, settings, n_rows, max_length)
        for number, told in enumerate(verdicts)
    ]


def _result(
    ranked: RankedBatch,
    number: int,
    records: Sequence[Record],
    told: QueryVerdict | None,
    settings: TraceSettings,
    n_rows: int,
    max_length: int,
) -> QueryResult:
    answers, target, form = ranked.batch.answers, ranked.batch.targets[number], ranked.form
    query, turn, shifts = answers.queries[number], answers.turns[number], ranked.batch.shifts
    return QueryResult(
        prompt=query.prompt,
        # The template may write more than the words of a tool call; what is shown is what was read.
        response=turn.response if query.answer is not None or query.response is None else query.response,
        method=form.name,
        method_version=form.version + (VERSION if target else ""),
        layer=form.described(ranked.roles),
        hits=_hits(ranked.matches[number], records, told),
        n_rows=n_rows,
        generated=query.response is None,
        span=target.span if target else None,
        wanted=settings.wanted,
        verdict=told.verdict if told else None,
        comparison=told.comparison if told else None,
        explained=told.explained if told else None,
        confound=told.sentence if told else "",
        truncated=_truncated(turn, target, max_length),
        complete=answers.complete[number],
        departure=None if query.response is None or shifts is None else departure(turn, shifts[number]),
        approximate=ranked.candidates.told[number] if ranked.candidates else None,
        exact_because=ranked.exact_because,
    )


def _truncated(turn: EncodedTurn, target: QueryTarget | None, max_length: int) -> Truncated | None:
    """What the query lost to the length limit; None where it lost nothing."""
    prompt, wanted = turn.truncated_prompt, target.truncated if target else 0
    response = turn.truncated - prompt
    return Truncated(prompt, response, max_length, wanted) if prompt or response or wanted else None


def _hits(matches: Sequence[Match], records: Sequence[Record], told: QueryVerdict | None) -> tuple[Hit, ...]:
    confounds = told.confounds if told and told.confounds else [{}] * len(matches)
    p_and_q: Mapping[int, tuple[float, float]] = told.p_and_q if told else {}
    hits = []
    for rank, (match, record, about) in enumerate(zip(matches, records, confounds, strict=True), 1):
        p, q = p_and_q.get(match.row, (None, None))
        hits.append(_hit(rank, match.score, record, p, q, about))
    return tuple(hits)


def _hit(
    rank: int, score: float, record: Record, p: float | None, q: float | None, confounds: Mapping[str, Json]
) -> Hit:
    return Hit(
        rank=rank,
        score=score,
        id=record.id,
        file=record.file,
        line=record.line,
        turn=record.turn,
        prompt=record.prompt,
        response=record.response,
        metadata=record.metadata,
        p_value=p,
        q_value=q,
        confounds=confounds,
    )


__all__ = ["query_results"]
