"""What happened to an index's rows: the data it was built from, and what was appended and deleted since."""

from __future__ import annotations

import getpass
import platform
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict


class DataSummary(BaseModel):
    """The training data that was indexed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    columns: dict[str, str] | None = None
    split: str | None = None
    shape: str = ""
    content_hash: str
    n_rows: int
    """Rows that could be read; row numbers go from 0 to n_rows - 1, those of deleted rows included."""
    n_unreadable: int = 0
    """Rows that could not be read; they have no number."""
    n_duplicates: int = 0
    beside_ids: str | None = None
    """Hash of what the rows' ids leave out, "" for nothing; None in indexes that were built before it was kept."""

    def has_content(self, content_hash: str, beside_ids: str | None) -> bool:
        """Whether these are the hashes of its rows. What was not kept is not compared."""
        kept = None not in (self.beside_ids, beside_ids)
        return self.content_hash == content_hash and (not kept or self.beside_ids == beside_ids)

    @property
    def is_plain_text(self) -> bool:
        """Whether every row is a plain document, without prompt and template."""
        columns = self.columns or {}
        if "messages" in columns or "prompt" in columns:
            return False
        return self.shape.strip().casefold() == columns.get("text", "text").strip().casefold()


def described_content(content_hash: str, beside_ids: str | None) -> str:
    """The hashes of rows, for a message."""
    return f"{content_hash} (behind last answers: {beside_ids})" if beside_ids else content_hash


class Change(BaseModel):
    """One entry of `Manifest.history`. Of an append the data and the numbers of its first row and first shard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    change: Literal["build", "append", "delete", "compact"]
    when: str
    """UTC, to the second."""
    who: str = ""
    """User and machine; "" in indexes that were built before it was kept."""
    model: str
    """Hash of the weights, and of the adapter where there is one."""
    n_rows: int
    """Rows that came or went."""
    data: DataSummary | None = None
    first_row: int = 0
    first_shard: int = 0
    rows: str = ""
    """Numbers of the rows that were deleted, as `described_numbers` writes them."""


class DataPart(NamedTuple):
    """Rows that came together: numbers first_row to first_row + data.n_rows - 1, shards from first_shard on."""

    data: DataSummary
    first_row: int
    first_shard: int

    def shard_starts(self, shard_rows: int) -> Iterator[tuple[int, int, int]]:
        """(shard, its first row, its number of rows) of each of the part's shards."""
        for i, start in enumerate(range(0, self.data.n_rows, shard_rows)):
            yield self.first_shard + i, self.first_row + start, min(shard_rows, self.data.n_rows - start)

    def n_shards(self, shard_rows: int) -> int:
        """How many shards its rows are computed in."""
        return -(-self.data.n_rows // shard_rows)

    def shards(self, shard_rows: int) -> range:
        """The numbers of its shards."""
        return range(self.first_shard, self.first_shard + self.n_shards(shard_rows))


def now() -> str:
    """The time as the history holds it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def who() -> str:
    """The user and the machine, as the history holds them."""
    try:
        return f"{getpass.getuser()}@{platform.node()}"
    except (OSError, KeyError):
        return platform.node()  # a container's user may have no name


def described_numbers(numbers: Iterable[int] | np.ndarray) -> str:
    """Ascending numbers as "3,7-9"."""
    ordered = np.unique(np.fromiter((int(n) for n in numbers), dtype=np.int64))
    if not len(ordered):
        return ""
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) != 1) + 1)
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def read_numbers(text: str) -> np.ndarray:
    """The numbers that `described_numbers` wrote, ascending, int64."""
    runs = [part.split("-") for part in text.split(",") if part]
    pieces = [np.arange(int(run[0]), int(run[-1]) + 1, dtype=np.int64) for run in runs]
    return np.concatenate([np.empty(0, dtype=np.int64), *pieces])


__all__ = ["Change", "DataPart", "DataSummary", "described_content", "described_numbers", "now", "read_numbers", "who"]
