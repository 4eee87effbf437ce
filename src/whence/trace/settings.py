"""What may be asked of a trace: every option with its default, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from whence.data import Span
from whence.errors import InputError
from whence.progress import Progress
from whence.trace.query.queries import Query

N_REFERENCES = 128
"""Reference queries of a verdict."""

ANSWER_TOKENS = 128
"""Most tokens of an answer that the model gives now, for a query without a response."""

BEST_ROWS = 20
"""Rows by which queries are told to be alike, and whose mean score says how high a query's rows score."""
MIN_ROWS = 100
"""Below it the median and spread of a query's scores are those of a handful of rows."""
NEAR = 0.7
"""A row that scores less than this share of the mean of the twenty best is not flagged: other rows with the query's
words score above the rest too, by less. On development runs a row was flagged for 0.33 of the false-fact
queries of one real data set at 0.65, and for 0.92 at 0.7; beside hard negatives 0.07 of the flagged rows were not
faulty at 0.7, and 0.12 at 0.6 of the five best (docs/log.md, "Prompt ends that fine-tuning did not change")."""


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """The options of `Tracer.trace` and `trace_many`.

    k:           rows of each ranking.
    method:      a name in `whence.scoring.defaults.SCORES`; None takes the best that the index has vectors for:
                 `rept-contrast`, or without the model before fine-tuning `rept-centred`.
    weight:      the share of h in `rept-balanced`.
    layer:       one of the index's layers for both halves; None takes the method's own.
    where:       an SQL condition on the index's columns, such as "source = 'vendor_b'".
    span:        the part of the response that is asked about: its text ("Korea"; "Korea#2" is the second of several),
                 or its start and end in characters. A text is looked for in every query's response.
    span_tokens: the same by response tokens: (a, b) means a, a + 1, ..., b - 1, from 0.
    wanted:      the answer that should have been given; asked about is what the bad one has in place of it.
    words:       of how many hits, the first ones, the words are explained; 0 for none. deletion: with the curve of each
                 hit's score while its words are deleted in turn, which takes longer.
    verdict:     flag candidate causes, and say what else could explain each rank. fdr: at this false discovery rate.
    confounds:   False leaves out what else could explain each rank, a second score of every row and a word index.
    references:  ordinary prompts, which the model answers, to calibrate with; None draws n_references of the data, by
                 `seed`.
    answer_tokens: most tokens of an answer that the model gives now.
    recall:      at least this share of the ten best rows may come from an approximate search (`whence ann build`); None
                 scores every row, as is done where an approximate search cannot (`QueryResult.exact_because`).

    Raises InputError for a value that cannot be.
    """

    k: int = 10
    method: str | None = None
    weight: float | None = None
    layer: int | None = None
    where: str | None = None
    span: str | Span | None = None
    span_tokens: tuple[int, int] | None = None
    wanted: str | None = None
    words: int = 0
    deletion: bool = False
    verdict: bool = True
    confounds: bool = True
    fdr: float = 0.05
    references: Sequence[Query] | None = None
    n_references: int = N_REFERENCES
    seed: int = 0
    answer_tokens: int = ANSWER_TOKENS
    recall: float | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"k = {self.k}", "At least one hit must be asked for.", "Give -k 1 or more.")
        if self.words < 0:
            raise InputError(f"words = {self.words}", "It is a number of hits, 0 for none.", "Give --words 10.")
        if self.deletion and not self.words:
            raise InputError(
                "A deletion curve of no hit.", "It belongs to hits whose words are explained.", "Give --words 10 too."
            )
        if not 0 < self.fdr < 1:
            raise InputError(
                f"A false discovery rate of {self.fdr}", "It is a share between 0 and 1.", "Give --fdr 0.05."
            )
        if self.recall is not None and not 0 < self.recall <= 1:
            raise InputError(f"A recall of {self.recall}", "It is a share between 0 and 1.", "Give --recall 0.95.")
        if self.wanted is not None and not self.wanted.strip():
            raise InputError(
                "The wanted answer is empty.", "It is the answer that should have been given.", "Give --wanted."
            )
        asked = {"--span": self.span, "--span-tokens": self.span_tokens, "--wanted": self.wanted}
        given = [name for name, value in asked.items() if value is not None]
        if len(given) > 1:
            raise InputError(
                f"{' and '.join(given)} were given.",
                "Each of them says what is asked about; one does.",
                "Leave the others out.",
            )

    def check_number(self, n_queries: int) -> None:
        """Raises InputError for what can be asked of a single query only."""
        one = {
            "--span-tokens": self.span_tokens is not None,
            "--wanted": self.wanted is not None,
            "a span in characters": self.span is not None and not isinstance(self.span, str),
        }
        given = [name for name, is_given in one.items() if is_given]
        if given and n_queries > 1:
            raise InputError(
                f"{given[0]} with {n_queries} queries.",
                "It belongs to one response.",
                "Ask one query at a time, or give a --span by its text.",
            )


class TraceOptions(TypedDict, total=False):
    """The same as keywords; what is left out has its default. See `TraceSettings`."""

    k: int
    method: str | None
    weight: float | None
    layer: int | None
    where: str | None
    span: str | Span | None
    span_tokens: tuple[int, int] | None
    wanted: str | None
    words: int
    deletion: bool
    verdict: bool
    confounds: bool
    fdr: float
    references: Sequence[Query] | None
    n_references: int
    seed: int
    answer_tokens: int
    recall: float | None


__all__ = ["ANSWER_TOKENS", "N_REFERENCES", "Progress", "TraceOptions", "TraceSettings"]
