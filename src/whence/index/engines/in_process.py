"""Shards computed and committed one after the other in this process; and what every engine does with a shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import lance

from whence.data import Example
from whence.index.engines.local import EncodesExamples, ExtractsSignatures, LocalEngine, ShardSpec
from whence.index.file_table import ShardRows
from whence.index.manifest import Manifest
from whence.index.records import record_table
from whence.index.shard_commits import ShardNote, commit_shard, made_of

Task = tuple[ShardRows, list[Example]]
"""A shard to compute, with its rows."""


class Engine(Protocol):
    """Whoever has shards computed."""

    def run(self, tasks: Iterator[Task], committed: Callable[[ShardNote], None], tell: Callable[[float], None]) -> None:
        """Has every shard computed and committed, in any order.

        committed: called with each shard's note. tell: called with how many rows of shards in work are done.

        Raises:
            NonFiniteError: a signature is NaN or infinite.
            OSError: the index cannot be written.
        """


@dataclass(frozen=True, slots=True)
class ShardWriter:
    """Computes a shard and commits it: the one way in which shards come to be, whoever runs it, wherever.

    beside: the records that the shards are to be appended to.
    """

    out: Path
    manifest: Manifest
    encoder: EncodesExamples
    extractor: ExtractsSignatures
    beside: lance.LanceDataset | None = None

    def write(
        self, rows: ShardRows, examples: Sequence[Example], tell: Callable[[float], None] | None = None
    ) -> ShardNote:
        """The committed shard's note. tell: called with the share of the shard that is done."""
        spec = ShardSpec(rows.shard, rows.first_row, partial(record_table, self.manifest, rows.shard))
        result = LocalEngine(self.encoder, self.extractor).compute_shard(spec, examples, tell)
        content = made_of(self.manifest, examples)
        return commit_shard(self.out, self.manifest, rows, result, made_of=content, beside=self.beside)


@dataclass(frozen=True, slots=True)
class InProcess:
    """The engine of one process."""

    writer: ShardWriter

    def run(self, tasks: Iterator[Task], committed: Callable[[ShardNote], None], tell: Callable[[float], None]) -> None:
        """See `Engine`."""
        for rows, examples in tasks:
            share = partial(_rows_done, tell, rows.n_rows)
            committed(self.writer.write(rows, examples, share))


def _rows_done(tell: Callable[[float], None], n_rows: int, share: float) -> None:
    # The last row of a shard is done when it is committed.
    tell(share * (n_rows - 1))


__all__ = ["Engine", "InProcess", "ShardWriter", "Task"]
