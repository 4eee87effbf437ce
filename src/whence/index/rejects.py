"""rejected.jsonl: the rows that an index could not use, each with its reason."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from whence.data import RAW_LIMIT
from whence.errors import DataError
from whence.index.engines.local import Reject
from whence.index.manifest import REJECTED, TEMPORARY, Manifest

SHOWN_REASONS = 3


class Rejects:
    """The reader's lines, then those of rows that could not be encoded, with row and shard.

    done: shards that are committed; lines of others are dropped, since their rows will be encoded again.
    """

    def __init__(self, out: Path, done: set[int], manifest: Manifest, max_rejected: float) -> None:
        self._path = out / REJECTED
        self._max_rejected = max_rejected
        self._total = manifest.data.n_rows + manifest.data.n_unreadable
        self._reasons: list[str] = []
        self.count = manifest.data.n_unreadable
        if self._path.exists():
            self.count += self._keep_only(done)

    def save(self, shard: int, rejects: Sequence[Reject]) -> None:
        """Adds a shard's lines and forces them to disk."""
        if not rejects:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(_line(shard, reject) for reject in rejects)
            file.flush()
            os.fsync(file.fileno())
        self.count += len(rejects)
        self._reasons += [f"\n  {reject.reason}" for reject in rejects[: SHOWN_REASONS - len(self._reasons)]]

    def check(self) -> None:
        """Raises DataError above the allowed share."""
        if self.count > self._max_rejected * self._total:
            share = self.count / self._total
            raise DataError(
                f"{self.count} of {self._total} rows cannot be used ({share:.1%}), so far:{''.join(self._reasons)}",
                f"At most {self._max_rejected:.1%} may be set aside.",
                f"All reasons are in {self._path}. Correct the data, or allow more with --max-rejected.",
            )

    def _keep_only(self, done: set[int]) -> int:
        """Drops lines of shards that are not committed, which will be made again; returns how many are left."""
        kept = 0
        temporary = self._path.with_name(TEMPORARY)
        with self._path.open("rb") as old, temporary.open("wb") as new:
            for line in old:
                shard = _shard_of(line)
                if shard is None or shard in done:
                    new.write(line)
                    kept += shard is not None
            new.flush()
            os.fsync(new.fileno())
        os.replace(temporary, self._path)
        return kept


def _line(shard: int, reject: Reject) -> str:
    turns = [[turn.role, turn.content] for turn in reject.example.turns]
    content = {
        "file": reject.example.file,
        "line": reject.example.line,
        "reason": reject.reason,
        "raw": json.dumps(turns, ensure_ascii=False)[:RAW_LIMIT],
        "row": reject.row,
        "shard": shard,
    }
    return json.dumps(content, ensure_ascii=False) + "\n"


def _shard_of(line: bytes) -> int | None:
    """The shard that wrote the line, None for the reader's lines, -1 for the torn last line of a killed run."""
    try:
        shard = json.loads(line).get("shard")
    except ValueError:
        return -1
    return shard if isinstance(shard, int) else None


__all__ = ["Rejects"]
