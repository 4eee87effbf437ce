"""The rows that are flagged for any output: what they say, near-duplicates joined, and what they weigh in each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from whence.audit.copies import near_duplicates
from whence.audit.evidence import Evidence
from whence.audit.phrases import RowText
from whence.index import Index, Record
from whence.results import AuditRow

LEAST_SCORE = 1e-9
"""Flagged rows score far above it; it keeps weights positive whatever the method."""


@dataclass(frozen=True, slots=True)
class FlaggedRows:
    """Every row that is flagged for an output.

    records: by the row's number, the turn that scores highest. first: row -> the first of its near-duplicates, itself
    where it has none. scores: of each output, by such a first row: the highest score of its near-duplicates; weights:
    the same over their sum; empty for an output without a cause.
    """

    records: Mapping[int, Record]
    first: Mapping[int, int]
    weights: Sequence[Mapping[int, float]]
    scores: Sequence[Mapping[int, float]]
    _copies: dict[int, list[int]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        for row, first in self.first.items():
            self._copies.setdefault(first, []).append(row)

    def copies(self, row: int) -> list[int]:
        """The rows whose first is this one, itself among them, ascending."""
        return self._copies.get(row, [])


def flagged_rows_of(index: Index, found: Sequence[Evidence], where: str | None) -> FlaggedRows:
    """Reads the flagged rows' texts, in one pass over the index, and joins near-duplicates."""
    rows = sorted({row for one in found for row in one.rows})
    turns: dict[int, tuple[float, int]] = {}
    for one in found:
        for row, score, turn in zip(one.rows, one.scores, one.turns, strict=bool(one.turns)):
            turns[row] = max((score, turn), turns.get(row, (score, turn)))
    records, texts = conversations_of(index, frozenset(rows), where, {row: turn for row, (_, turn) in turns.items()})
    labels = near_duplicates([texts[row] for row in rows])
    firsts: dict[int, int] = {}
    first = {row: firsts.setdefault(label, row) for row, label in zip(rows, labels.tolist(), strict=True)}
    weights: list[dict[int, float]] = []
    scores: list[dict[int, float]] = []
    for one in found:
        best: dict[int, float] = {}
        for row, score in zip(one.rows, one.scores, strict=True):
            best[first[row]] = max(score, best.get(first[row], score))
        total = sum(max(score, LEAST_SCORE) for score in best.values())
        scores.append(best)
        weights.append({row: max(score, LEAST_SCORE) / total for row, score in best.items()})
    return FlaggedRows(records, first, weights, scores)


def row_texts(index: Index, where: str | None) -> Iterator[RowText]:
    """Prompt and response of every record, in the order of the data."""
    return (RowText(record.row, record.prompt, record.response) for record in index.texts(where))


def conversations_of(
    index: Index, rows: frozenset[int], where: str | None, turns: Mapping[int, int] | None = None
) -> tuple[dict[int, Record], dict[int, str]]:
    """One turn of each of these rows, and the text of all its turns, by the row's number, in one pass over the index.

    turns: which one; the first of a row that is not there.
    """
    records: dict[int, Record] = {}
    texts: dict[int, list[str]] = {}
    for record in index.texts(where) if rows else ():
        if record.row in rows:
            texts.setdefault(record.row, []).extend((record.prompt, record.response))
            if record.row not in records or (turns or {}).get(record.row) == record.turn:
                records[record.row] = record
    return records, {row: "\n".join(parts) for row, parts in texts.items()}


def audit_row(record: Record, *, n_outputs: int, score: float, copies: Iterable[str] = ()) -> AuditRow:
    """The record as a row of an audit. copies: ids of its near-duplicates; its own and repetitions are left out."""
    return AuditRow(
        id=record.id,
        file=record.file,
        line=record.line,
        prompt=record.prompt,
        response=record.response,
        n_outputs=n_outputs,
        score=score,
        metadata=record.metadata,
        copies=tuple(id for id in dict.fromkeys(copies) if id != record.id),
    )


__all__ = ["FlaggedRows", "audit_row", "conversations_of", "flagged_rows_of", "row_texts"]
