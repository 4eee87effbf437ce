"""Text formats, edited byte for byte: JSONL, a JSON array, CSV and TSV, each also with .gz or .zst."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from whence.data import (
    SUFFIXES,
    array_start,
    delimiter_of,
    holds_array,
    open_unpacked,
    packing_of,
    read_rows,
    skip,
    suffix_of,
)
from whence.errors import DataError

CHUNK = 1 << 20


class Edit(NamedTuple):
    """`old`, which begins at byte `start`, becomes `new`."""

    start: int
    old: bytes
    new: bytes


class ByteSpan(NamedTuple):
    """A row's place in the unpacked file, in bytes."""

    start: int
    end: int


def find_edits(path: Path, lines: Sequence[int], replacements: Mapping[int, Mapping[str, object]]) -> dict[int, Edit]:
    """line -> the edit that takes the row of that line out, or puts its replacement there. `lines` ascend."""
    if is_array(path):
        return _array_edits(path, lines, replacements)
    starts = _row_starts(path)
    spans = _line_spans(path, {line: starts.get(line, line + 1) for line in lines})
    edits = {}
    with open_text(path) as file:
        for line in lines:
            span = spans[line]
            file.seek(span.start)
            old = _row_alone(file.read(span.end - span.start))
            mark = len(BOM_UTF8) if span.start == 0 and old.startswith(BOM_UTF8) else 0
            old = old[mark:]
            new = _line_text(path, replacements[line], old) if line in replacements else b""
            edits[line] = Edit(span.start + mark, old, new)
    return edits


def apply_edits(source: BinaryIO, out: BinaryIO, edits: Sequence[Edit]) -> None:
    """Copies `source` with the edits, in bounded memory. Edits ascend and do not overlap.

    Raises DataError where `old` does not stand in the source.
    """
    at = 0
    for edit in edits:
        _copy(source, out, edit.start - at)
        found = source.read(len(edit.old))
        if found != edit.old:
            raise DataError(
                f"Byte {edit.start} of the file begins {found[:40]!r}.",
                f"Expected {edit.old[:40]!r}.",
                "The file has changed since; undo works on the very file that was written.",
            )
        out.write(edit.new)
        at = edit.start + len(edit.old)
    _copy(source, out, None)


def inverse(edits: Sequence[Edit]) -> list[Edit]:
    """The edits that turn the edited file back."""
    shift, back = 0, []
    for edit in edits:
        back.append(Edit(edit.start + shift, edit.new, edit.old))
        shift += len(edit.new) - len(edit.old)
    return back


def open_text(path: Path) -> BinaryIO:
    """The unpacked bytes of a text file, with any place to seek to."""
    if packing_of(path) != "zstd":
        return open_unpacked(path)
    unpacked = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
    with open_unpacked(path) as file:
        shutil.copyfileobj(file, unpacked, CHUNK)
    unpacked.seek(0)
    return unpacked


@contextmanager
def create_text(path: Path) -> Iterator[BinaryIO]:
    """A new file, packed where its name ends in .gz or .zst, without a time stamp: equal content, equal bytes."""
    kind = next((kind for suffix, kind in SUFFIXES.items() if path.name.lower().endswith(suffix)), None)
    with path.open("xb") as file:
        if kind is None:
            yield file
        elif kind == "gzip":
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                yield cast("BinaryIO", packed)
        else:
            import pyarrow as pa

            with pa.CompressedOutputStream(pa.PythonFile(file, "w"), "zstd") as packed:
                yield packed


def is_array(path: Path) -> bool:
    """Whether a .json file holds its rows in one array, not one object a line."""
    return suffix_of(path) == ".json" and holds_array(path)


def _copy(source: BinaryIO, out: BinaryIO, n: int | None) -> None:
    while n is None or n > 0:
        chunk = source.read(CHUNK if n is None else min(n, CHUNK))
        if not chunk:
            return
        out.write(chunk)
        n = None if n is None else n - len(chunk)


def _row_starts(path: Path) -> dict[int, int]:
    """For CSV, whose rows may span lines: line a row starts in -> line of the next row's start."""
    if suffix_of(path) not in (".csv", ".tsv"):
        return {}
    starts, last = {}, 0
    for row in read_rows(path):
        starts[last], last = row.line, row.line
    starts[last] = -1
    return starts


def _row_alone(content: bytes) -> bytes:
    """The bytes of a row with its line end, without the blank lines behind it."""
    text = content.decode("utf-8")
    end = text.find("\n", len(text.rstrip()))
    return content if end < 0 else text[: end + 1].encode("utf-8")


def _line_spans(path: Path, ends: Mapping[int, int]) -> dict[int, ByteSpan]:
    """line -> the bytes from that line up to the line `ends[line]`, or to the end of the file where that is -1."""
    wanted = set(ends) | set(ends.values())
    offsets, offset, number = {}, 0, 0
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if number in wanted:
                offsets[number] = offset
            offset += len(line)
    offsets[number + 1] = offsets[-1] = offset
    return {line: ByteSpan(offsets[line], offsets[end]) for line, end in ends.items()}


def _line_text(path: Path, columns: Mapping[str, object], old: bytes) -> bytes:
    """A replacement in the place of a row, with the row's own line ending."""
    ending = old[len(old.rstrip(b"\r\n")) :].decode()
    if suffix_of(path) not in (".csv", ".tsv"):
        return (json.dumps(columns, ensure_ascii=False) + ending).encode("utf-8")
    text = io.StringIO()
    cells = [
        "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for value in columns.values()
    ]
    csv.writer(text, delimiter=delimiter_of(path), lineterminator="").writerow(cells)
    return (text.getvalue() + ending).encode("utf-8")


def _array_edits(path: Path, lines: Sequence[int], replacements: Mapping[int, Mapping[str, object]]) -> dict[int, Edit]:
    """Edits in a JSON array, whose text is held whole, as the reader holds it. A row's comma goes with it."""
    with open_text(path) as file:
        text = file.read().decode("utf-8")
    mark = len(text) - len(text.removeprefix("\ufeff"))
    spans = [ByteSpan(start + mark, end + mark) for start, end in _array_spans(text[mark:])]
    gone = {line for line in lines if line not in replacements}
    last_kept = max((line for line in range(1, len(spans) + 1) if line not in gone), default=0)
    edits = {}
    for line in lines:
        start, end = spans[line - 1]
        if line in gone:
            before = spans[line - 2].end if line > 1 else start
            start, end = (start, spans[line].start) if line < last_kept else (before, end)
        new = json.dumps(replacements[line], ensure_ascii=False) if line in replacements else ""
        at = len(text[:start].encode("utf-8"))
        edits[line] = Edit(at, text[start:end].encode("utf-8"), new.encode("utf-8"))
    return edits


def _array_spans(text: str) -> list[ByteSpan]:
    """Places of the array's elements, in characters. The reader has read the file before, so it is well formed."""
    decode = json.JSONDecoder().raw_decode
    start = array_start(text)
    assert start is not None, "is_array has said so"
    spans, at = [], skip(text, start + 1)
    while text[at] != "]":
        _, end = decode(text, at)
        spans.append(ByteSpan(at, end))
        at = skip(text, end)
        if text[at] == ",":
            at = skip(text, at + 1)
    return spans
