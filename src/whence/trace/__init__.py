"""From a bad output to its candidate causes: query/ -> rank/ -> verdict/ -> explain/, put together by the tracer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.trace.explain.explainer import Explainer
    from whence.trace.explain.phrases import longest_phrases
    from whence.trace.explain.words import word_spans
    from whence.trace.query.queries import Query, read_queries
    from whence.trace.rank.ranking import RankedBatch
    from whence.trace.settings import MIN_ROWS, N_REFERENCES, TraceOptions, TraceSettings
    from whence.trace.tracer import ANSWER_TOKENS, Tracer
    from whence.trace.verdict.explained_gain import LEAST_GAIN, explained

__all__ = [
    "ANSWER_TOKENS",
    "LEAST_GAIN",
    "MIN_ROWS",
    "N_REFERENCES",
    "Explainer",
    "Query",
    "RankedBatch",
    "TraceOptions",
    "TraceSettings",
    "Tracer",
    "explained",
    "longest_phrases",
    "read_queries",
    "word_spans",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "explain.phrases": ["longest_phrases"],
        "explain.words": ["word_spans"],
        "explain.explainer": ["Explainer"],
        "query.queries": ["Query", "read_queries"],
        "rank.ranking": ["RankedBatch"],
        "settings": ["MIN_ROWS", "N_REFERENCES", "TraceOptions", "TraceSettings"],
        "tracer": ["ANSWER_TOKENS", "Tracer"],
        "verdict.explained_gain": ["LEAST_GAIN", "explained"],
    },
)
