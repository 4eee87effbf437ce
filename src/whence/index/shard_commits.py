"""What stands in an index folder of each shard that is computed, until the index is sealed.

    signatures.lance/data/*.lance   the shard's records, which no version of the records names yet
    shards/00000012.note            the shard's note; its appearing is the commit of the shard

A note is written beside and renamed, so it is there whole or not at all, and it is all that a commit needs: nobody asks
another worker, and shards are committed in any order, by any number of workers. A shard that is computed twice leaves
two files of the same records; the later note stands, and the file that no note names is cleared away by the seal.

A note is bound to what it was computed from: the index that was begun, and the rows. One that a late worker leaves of
another index in the same folder, or that was computed while the data were others, does not count.

A note is a line with the SHA-256 of the rest, and the rest a safetensors file: the shard's sums (whence.index.centres),
and in its header the fields of `ShardNote`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
from lance.fragment import write_fragments
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from whence.data import RAW_LIMIT, ContentHash, Example
from whence.files import hash_of, write_atomically
from whence.index.centres import Sums, sums_of
from whence.index.engines.local import Reject, ShardResult
from whence.index.file_table import Fragment, IndexFile, ShardRows, sha256, summed
from whence.index.manifest import RECORDS, SHARDS, Manifest
from whence.index.records import open_records
from whence.object_path import storage_options

SUFFIX = ".note"
_DIGEST = 64
_ALL = 1 << 30
"""Records in one file: all of a shard."""


class RejectLine(BaseModel):
    """A row that could not be encoded, as rejected.jsonl holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    line: int
    reason: str
    raw: str
    row: int
    shard: int

    @classmethod
    def of(cls, shard: int, reject: Reject) -> RejectLine:
        example: Example = reject.example
        raw = json.dumps([[turn.role, turn.content] for turn in example.turns], ensure_ascii=False)[:RAW_LIMIT]
        return cls(file=example.file, line=example.line, reason=reject.reason, raw=raw, row=reject.row, shard=shard)


class ShardNote(BaseModel):
    """A committed shard: its rows, its records and their file, and what was set aside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: ShardRows
    n_encoded: int
    """Rows with records."""
    n_records: int
    n_truncated: int
    fragment: Fragment | None
    """None where no row of the shard could be encoded."""
    files: tuple[IndexFile, ...]
    rejects: tuple[RejectLine, ...]
    made_of: str = ""
    """What `made_of` says of the manifest and the rows that it was computed from."""


def made_of(manifest: Manifest, examples: Sequence[Example]) -> str:
    """A hash of everything that decides a shard's records: the index's identity and generation, and the rows."""
    content = ContentHash()
    for example in examples:
        content.take(example)
    beside = [content.beside_ids()] if content.beside_ids() else []
    return hash_of([manifest.identity(), manifest.generation, content.hexdigest(), *beside])


def commit_shard(
    out: Path,
    manifest: Manifest,
    rows: ShardRows,
    result: ShardResult,
    *,
    made_of: str,
    beside: lance.LanceDataset | None = None,
) -> ShardNote:
    """Writes a computed shard and publishes it at once. Raises OSError where the folder cannot be written.

    made_of: see the function of that name. beside: see `write_fragment`.
    """
    fragment: Fragment | None = None
    files: list[IndexFile] = []
    table, sums = result.table, {}
    if table is not None:
        fragment, files = write_fragment(out, table, (rows,), beside)
        sums = dict(sums_of(manifest, table.to_batches()))
    note = ShardNote(
        rows=rows,
        n_encoded=0 if table is None else len(table["row"].unique()),
        n_records=0 if table is None else len(table),
        n_truncated=0 if table is None else int(np.count_nonzero(table["truncated"].to_numpy())),
        fragment=fragment,
        files=tuple(files),
        rejects=tuple(RejectLine.of(rows.shard, reject) for reject in result.rejects),
        made_of=made_of,
    )
    (out / SHARDS).mkdir(exist_ok=True)
    content = save(sums, {"note": note.model_dump_json()})
    write_atomically(_place(out, rows.shard), sha256(content).encode() + b"\n" + content)
    return note


def write_fragment(
    out: Path, table: pa.Table, shards: Sequence[ShardRows], beside: lance.LanceDataset | None = None
) -> tuple[Fragment, list[IndexFile]]:
    """Writes records into a file that no version names yet, and forces it to disk.

    beside: the records whose columns they share, where there are some already.
    """
    if beside is None:
        # Its columns are numbered by themselves, not by those of records that are there and will be replaced.
        mode = "create" if open_records(out) is None else "overwrite"
        (written,) = write_fragments(
            table,
            str(out / RECORDS),
            mode=mode,
            max_rows_per_file=_ALL,
            storage_options=storage_options(out),
        )
    else:
        ordered = table.select(beside.schema.names)
        (written,) = write_fragments(ordered, beside, mode="append", max_rows_per_file=_ALL)
    fragment = Fragment(lance=written.to_json(), shards=tuple(shards))
    return fragment, summed(out, [f"{RECORDS}/data/{name}" for name in fragment.data_files], sync=True)


def committed_note(out: Path, shard: int) -> tuple[ShardNote, Sums] | None:
    """A committed shard's note and its sums; None where the shard is to be computed.

    A note that is not whole does not count, nor one whose file has gone.
    """
    found = _read(out, shard)
    return found if found is not None and all(_is_there(out / one.path, one.bytes) for one in found[0].files) else None


def _read(out: Path, shard: int) -> tuple[ShardNote, Sums] | None:
    try:
        raw = _place(out, shard).read_bytes()
    except FileNotFoundError:
        return None
    digest, content = raw[:_DIGEST].decode("ascii", "replace"), raw[_DIGEST + 1 :]
    if digest != sha256(content):
        return None
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return ShardNote.model_validate_json(header["__metadata__"]["note"]), load(content)
    except (ValueError, KeyError, ValidationError, SafetensorError):
        return None


def committed_notes(out: Path, shards: range | None = None) -> Iterator[tuple[ShardNote, Sums]]:
    """The notes of all committed shards with their sums, in the order of the shards; shards: of these alone."""
    if not (out / SHARDS).is_dir():
        return
    for path in sorted((out / SHARDS).glob(f"*{SUFFIX}")):
        if not path.stem.isdecimal() or (shards is not None and int(path.stem) not in shards):
            continue
        found = committed_note(out, int(path.stem))
        if found is not None:
            yield found


def notes_of(out: Path, content: Mapping[int, str]) -> Iterator[tuple[ShardNote, Sums]]:
    """As `committed_notes`, those of shards that were made of this (see `made_of`); others are not the index's."""
    for note, sums in committed_notes(out):
        if content.get(note.rows.shard) == note.made_of:
            yield note, sums


def saved_rows(out: Path) -> int:
    """Rows whose records are committed, of an index that is not sealed."""
    return sum(note.n_encoded for note, _ in committed_notes(out))


def _is_there(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _place(out: Path, shard: int) -> Path:
    return out / SHARDS / f"{shard:08d}{SUFFIX}"


__all__ = [
    "RejectLine",
    "ShardNote",
    "commit_shard",
    "committed_note",
    "committed_notes",
    "made_of",
    "notes_of",
    "saved_rows",
    "write_fragment",
]
