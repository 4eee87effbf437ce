"""Shards computed in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import pyarrow as pa

from whence.data import EncodedTurn, Example
from whence.errors import EncodingError
from whence.index.records import PendingRecord
from whence.signatures import Extracted

TURNS_AT_ONCE = 256
"""Turns given to the extractor in one call: several batches of like length, and a progress bar that moves."""


class EncodesExamples(Protocol):
    """What an engine needs of an encoder."""

    def encode(self, example: Example) -> list[EncodedTurn]:
        """One encoded turn per assistant turn. Raises EncodingError."""


class ExtractsSignatures(Protocol):
    """What an engine needs of an extractor."""

    def extract(self, turns: Sequence[EncodedTurn], *, labels: Callable[[int], str] | None = None) -> Extracted:
        """Signatures in the order of the turns. Raises NonFiniteError."""


class ShardSpec(NamedTuple):
    """Which shard is computed: its number, the number of its first row, and how rows become a table.

    to_table: (encoded turns, their signatures) -> the columns of these records, `row` and `turn` among them.
    """

    shard: int
    first_row: int
    to_table: Callable[[Sequence[PendingRecord], Extracted], pa.Table]


class Reject(NamedTuple):
    """A row that could not be encoded."""

    row: int
    example: Example
    reason: str


class ShardResult(NamedTuple):
    """A shard's records in order of (row, turn), None if it has none, and the rows that were set aside."""

    table: pa.Table | None
    rejects: list[Reject]


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """Encodes and extracts with the model that is loaded in this process."""

    encoder: EncodesExamples
    extractor: ExtractsSignatures

    def compute_shard(
        self, spec: ShardSpec, examples: Sequence[Example], tell: Callable[[float], None] | None = None
    ) -> ShardResult:
        """The shard's table and its rejects; a function of its arguments, the model and the encoder alone.

        tell: called with the share of the shard that is done, in (0, 1].

        Raises NonFiniteError, which names file and line.
        """
        rows: list[PendingRecord] = []
        rejects: list[Reject] = []
        for row, example in enumerate(examples, start=spec.first_row):
            try:
                rows.extend(PendingRecord(row, example, turn) for turn in self.encoder.encode(example))
            except EncodingError as error:
                rejects.append(Reject(row, example, " ".join(str(error).split())))
        parts = []
        # Longest first: memory runs out early or never. Whoever computes a shard computes it in these groups.
        order = sorted(range(len(rows)), key=lambda i: (-len(rows[i].turn.input_ids), i))
        for start in range(0, len(order), TURNS_AT_ONCE):
            some = [rows[i] for i in order[start : start + TURNS_AT_ONCE]]
            extracted = self.extractor.extract([item.turn for item in some], labels=partial(_place, some))
            parts.append(spec.to_table(some, extracted))
            if tell is not None:
                tell((start + len(some)) / len(rows))
        if not parts:
            return ShardResult(None, rejects)
        table = pa.concat_tables(parts).sort_by([("row", "ascending"), ("turn", "ascending")]).combine_chunks()
        return ShardResult(table, rejects)


def _place(rows: Sequence[PendingRecord], i: int) -> str:
    return rows[i].example.where


__all__ = [
    "TURNS_AT_ONCE",
    "EncodesExamples",
    "ExtractsSignatures",
    "LocalEngine",
    "Reject",
    "ShardResult",
    "ShardSpec",
]
