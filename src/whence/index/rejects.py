"""rejected.jsonl: the rows that an index could not use, each with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from whence.errors import DataError
from whence.files import appears_whole
from whence.index.manifest import REJECTED, Manifest
from whence.index.shard_commits import RejectLine, ShardNote, committed_notes

SHOWN_REASONS = 3


class Rejects:
    """Counts what the shards set aside, beside what the reader did, and holds it against what is allowed.

    name: the file of both, the reader's lines first. shards: whose rows are meant; left out, all shards.
    """

    def __init__(
        self,
        out: Path,
        manifest: Manifest,
        max_rejected: float,
        *,
        name: str = REJECTED,
        shards: range | None = None,
    ) -> None:
        self._out, self._path, self._max_rejected, self._shards = out, out / name, max_rejected, shards
        self._total = manifest.data.n_rows + manifest.data.n_unreadable
        self._reasons: list[str] = []
        self.count = manifest.data.n_unreadable

    def take(self, note: ShardNote) -> None:
        """Adds a shard's."""
        self.count += len(note.rejects)
        self._reasons += [line.reason for line in note.rejects[: SHOWN_REASONS - len(self._reasons)]]

    def check(self) -> None:
        """Raises DataError above the allowed share, behind writing them all."""
        if self.count <= self._max_rejected * self._total:
            return
        self.write()
        share, reasons = self.count / self._total, "".join(f"\n  {reason}" for reason in self._reasons)
        raise DataError(
            f"{self.count} of {self._total} rows cannot be used ({share:.1%}), so far:{reasons}",
            f"At most {self._max_rejected:.1%} may be set aside.",
            f"All reasons are in {self._path}. Correct the data, or allow more with --max-rejected.",
        )

    def write(self) -> None:
        """Writes the file: the reader's lines as they are, then those of the committed shards, in order of the rows."""
        lines = (line for note, _ in committed_notes(self._out, self._shards) for line in note.rejects)
        content = chain(_readers_lines(self._path), _jsonl(lines))
        first = next(content, None)
        if first is None:
            return
        with appears_whole(self._path) as partial, partial.open("wb") as file:
            file.write(first)
            file.writelines(content)


def rejected_rows(folder: Path, names: Sequence[str]) -> np.ndarray:
    """Numbers of the rows that were set aside while encoding, in the files of these names."""
    found: list[int] = []
    for name in names:
        if (folder / name).exists():
            with (folder / name).open("rb") as file:
                found += [row for row in (json.loads(line).get("row") for line in file) if isinstance(row, int)]
    return np.array(found, dtype=np.int64)


def _jsonl(lines: Iterable[RejectLine]) -> Iterator[bytes]:
    for line in lines:
        yield json.dumps(line.model_dump(), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _readers_lines(path: Path) -> Iterator[bytes]:
    """The lines that no shard wrote."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if not _has_shard(line):
                yield line


def _has_shard(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line).get("shard"), int)
    except ValueError:
        return True


__all__ = ["Rejects", "rejected_rows"]
