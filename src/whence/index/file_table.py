"""The files of an index with their checksums, and which rows lie in which file.

    files-G.jsonl    G: the manifest's generation, which goes up whenever the rows change

One JSON object a line: {"columns": [...]} of the records in their order, {"file": `IndexFile`} for each file, and
{"fragment": `Fragment`} for each fragment of the records, in the order of the rows. The manifest holds the table's own
checksum, and its own: nothing can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from whence.object_path import is_remote

_AT_ONCE = 1 << 20


class IndexFile(BaseModel):
    """A file of the index: its path in the folder, its size, and the SHA-256 of its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    bytes: int
    sha256: str


class ShardRows(BaseModel):
    """The rows of a shard: those from first_row on, n_rows of them, whether they have records or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: int
    first_row: int
    n_rows: int


class Fragment(BaseModel):
    """A fragment of the records, as Lance describes it, and the shards that it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lance: dict[str, JsonValue]
    shards: tuple[ShardRows, ...]

    @property
    def data_files(self) -> list[str]:
        """Names of its data files."""
        files = self.lance["files"]
        assert isinstance(files, list)
        return [str(file["path"]) for file in files if isinstance(file, dict)]

    @property
    def has_deletions(self) -> bool:
        """Whether some of its records are deleted, but still in the file."""
        return self.lance.get("deletion_file") is not None

    @property
    def n_stored(self) -> int:
        """Records in its files, the deleted ones included."""
        return int(str(self.lance["physical_rows"]))


class FileTable(BaseModel):
    """Every file of the index but the manifest, this table, their copies, and what can be made again at any time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[str, ...]
    files: tuple[IndexFile, ...]
    fragments: tuple[Fragment, ...]

    def text(self) -> str:
        """The table as its file holds it."""
        lines: list[dict[str, object]] = [{"columns": self.columns}]
        lines += [{"file": file.model_dump()} for file in self.files]
        lines += [{"fragment": fragment.model_dump()} for fragment in self.fragments]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    @classmethod
    def of_text(cls, text: str) -> FileTable:
        """What `text` wrote. Raises ValueError for anything else."""
        columns: tuple[str, ...] = ()
        files, fragments = [], []
        try:
            for line in map(json.loads, text.rstrip("\n").split("\n")):
                if "columns" in line:
                    columns = tuple(line["columns"])
                elif "file" in line:
                    files.append(IndexFile.model_validate(line["file"]))
                else:
                    fragments.append(Fragment.model_validate(line["fragment"]))
        except (KeyError, TypeError, ValidationError) as error:
            raise ValueError(f"no table of files: {error}") from error
        return cls(columns=columns, files=tuple(files), fragments=tuple(fragments))

    def by_path(self) -> dict[str, IndexFile]:
        """The files by their paths."""
        return {file.path: file for file in self.files}


def summed(folder: Path, paths: Iterable[str], *, sync: bool = False) -> list[IndexFile]:
    """The files at these paths of the folder with their checksums. sync: also forced to disk."""
    return [_summed(folder, path, sync) for path in paths]


def sha256(content: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def difference(folder: Path, expected: IndexFile) -> str | None:
    """How the file differs from its entry: missing, of another size, changed, unreadable; None where it does not."""
    path = folder / expected.path
    try:
        size = path.stat().st_size
        if size != expected.bytes:
            return f"has {size:,} bytes, {expected.bytes:,} were written"
        return None if _summed(folder, expected.path, False) == expected else "was changed since it was written"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _summed(folder: Path, path: str, sync: bool) -> IndexFile:
    found, size = hashlib.sha256(), 0
    with (folder / path).open("rb") as file:
        while block := file.read(_AT_ONCE):
            found.update(block)
            size += len(block)
        if sync and not is_remote(folder):
            os.fsync(file.fileno())
    return IndexFile(path=path, bytes=size, sha256=found.hexdigest())


__all__ = ["FileTable", "Fragment", "IndexFile", "ShardRows", "difference", "sha256", "summed"]
