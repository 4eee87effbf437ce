"""One file of any known format as a stream of rows, in bounded memory (a .json array is the exception)."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from whence.data.json_text import JsonReader, array_start, json_reason, row_arrays, skip
from whence.data.metadata import kind
from whence.data.packing import UNPACK, open_unpacked, packing_of, without_packing
from whence.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

RAW_LIMIT = 2000
"""Characters of a rejected row that are kept."""
CSV_FIELD_LIMIT = 2**28
"""Characters of one CSV cell; Python's own limit of 131,072 refuses long documents."""
TABLE_ROWS = 500
"""Rows of a table that are Python objects at one time."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that cannot be used. `raw` is its text, cut to RAW_LIMIT characters."""

    file: str
    line: int
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row as the file holds it. `raw` is its text, or None where a table has none."""

    line: int
    columns: dict[str, object]
    raw: str | None = None

    def rejected(self, file: str, reason: str) -> Rejected:
        """This row, set aside."""
        raw = self.raw
        if raw is None:
            raw = json.dumps(self.columns, ensure_ascii=False, default=str)
        return Rejected(file, self.line, reason, raw[:RAW_LIMIT])


Rows = Iterator[Row | Rejected]


def suffix_of(path: Path) -> str:
    """The lower-case suffix that decides the format, `.gz` and `.zst` left out: ".jsonl" for "a.JSONL.gz"."""
    name = without_packing(path.name)
    suffix = Path(name).suffix
    return "" if name != path.name.lower() and suffix in TABLE_FORMATS else suffix


def read_rows(path: Path) -> Rows:
    """The rows of one file by its suffix. Raises DataError when the file as a whole cannot be read."""
    reader = FORMATS.get(suffix_of(path))
    if reader is None:
        raise DataError(
            f"{path}: no known format",
            f"expected one of {', '.join(FORMATS)} (text formats also with .gz or .zst)",
            "convert the file, or rename it if it is one of these",
        )
    return reader(path)


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Physical lines of a UTF-8 file, numbered from 1, split at newlines alone.

    Raises DataError for another encoding, naming line and byte, and for a file or archive that cannot be read.
    """
    offset = 0
    try:
        with open_unpacked(path) as stream:
            for number, line in enumerate(stream, 1):
                if number == 1:
                    _refuse_wide(line, path)
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise _not_utf8(path, number, offset + error.start, line[error.start]) from None
                offset += len(line)
                yield number, text.removeprefix("\ufeff") if number == 1 else text
    except (EOFError, OSError, zlib.error) as error:  # pyarrow's own error for zstd is an OSError
        raise DataError(
            f"{path} cannot be read: {error}", "expected a readable file", "check its permissions or fetch it again"
        ) from error


def json_lines(path: Path) -> Rows:
    """One JSON object a line. A byte order mark may begin any line: files that were joined have one inside."""
    read = JsonReader()
    first = True
    for line, text in text_lines(path):
        text = text.removeprefix("\ufeff")
        if not text.strip():
            continue
        if first and text.strip() in ("{", "["):
            raise DataError(
                f"{path} holds JSON that spans lines, from line {line} on",
                "expected one object a line, or one array of objects in a file that ends in .json",
                f"convert it: jq -c . {path} > rows.jsonl  (jq -c '.[]' for an array, '.data[]' for one inside)",
            )
        first = False
        yield _json_row(read, path, line, text.rstrip("\r\n"))


def json_file(path: Path) -> Rows:
    """A .json file: one array of objects, also inside an object, which is held in memory as text; or JSON lines."""
    return json_array(path) if holds_array(path) else json_lines(path)


def holds_array(path: Path) -> bool:
    """Whether a .json file holds its rows in one array, not one object a line."""
    lines = (text.strip() for _, text in text_lines(path) if text.strip())
    first = next(lines, "")
    if first.startswith("["):
        return True
    if not first.startswith("{"):
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        # An object that spans lines, if it is one.
        return array_start("".join(text for _, text in text_lines(path))) is not None
    return next(lines, None) is None and array_start(first) is not None


def json_array(path: Path) -> Rows:
    """The objects of one array; `line` is the place in the array, from 1. A syntax error ends the whole file."""
    text = "".join(line for _, line in text_lines(path))
    read = JsonReader()
    arrays = row_arrays(text)
    assert arrays, "holds_array has said so"
    if len(arrays) > 1:
        raise DataError(
            f"{path} holds rows under several keys: {', '.join(repr(key) for key, _ in arrays)}",
            "one of them was trained on",
            f"put it into a file of its own: jq '.{arrays[0][0]}' {path.name} > rows.json",
        )
    start = arrays[0][1]
    at = skip(text, start + 1)
    number = 0
    try:
        while number or text[at : at + 1] != "]":
            number += 1
            value, end, double = read.value(text, at)
            raw = text[at : min(end, at + RAW_LIMIT)]
            yield _object_row(path, number, value, raw, double)
            at = skip(text, end)
            if text[at : at + 1] == "]":
                break
            if text[at : at + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = skip(text, at + 1)
        rest = skip(text, at + 1)
        if rest < len(text) and text.lstrip().startswith("["):
            raise json.JSONDecodeError("Extra data", text, rest)
        if not text.lstrip().startswith("["):
            json.loads(text[:start] + "[]" + text[at + 1 :])
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: {json_reason(error)} (row {number})",
            "expected one array of objects",
            "correct that place; what follows it cannot be read without",
        ) from error


def csv_file(path: Path) -> Rows:
    """A CSV or TSV file with a header; `line` is the line a row starts in. All cells are text."""
    csv.field_size_limit(CSV_FIELD_LIMIT)
    lines = _RowText(path)
    # Strict, because the lenient reader glues cells together behind a stray quote without a word.
    reader = csv.reader(lines, delimiter=delimiter_of(path), strict=True)
    header: list[str] | None = None
    spelled: list[str] = []
    while True:
        start = reader.line_num + 1
        lines.text = ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if lines.ended or header is None or "field limit" in str(error):
                raise _broken_csv(path, start, str(error), lines.ended) from error
            yield Rejected(str(path), start, f"invalid CSV: {error}", lines.text[:RAW_LIMIT])
            continue
        if not any(cells) and not lines.text.strip():
            continue
        if cells[0].startswith("\ufeff"):
            cells = [cells[0].removeprefix("\ufeff"), *cells[1:]]
        if header is None:
            spelled = cells
            header = [name.strip() or f"column_{place}" for place, name in enumerate(cells, 1)]
            _unique(path, header)
        elif len(cells) != len(header):
            reason = f"{len(cells)} cells, the header has {len(header)}"
            yield Rejected(str(path), start, reason, lines.text[:RAW_LIMIT])
        elif cells == spelled:
            yield Rejected(str(path), start, "the header again, as in files that were joined", lines.text[:RAW_LIMIT])
        else:
            yield Row(start, dict(zip(header, cells, strict=True)), lines.text)


def parquet_file(path: Path) -> Rows:
    """A Parquet file; `line` is the row's number from 1."""
    import pyarrow.parquet as pq

    with _table_errors(path, "Parquet"), pq.ParquetFile(path) as file:
        yield from table_rows(file.iter_batches(batch_size=TABLE_ROWS), str(path))


def arrow_file(path: Path) -> Rows:
    """An Arrow IPC file (Feather version 2) or IPC stream; `line` is the row's number from 1."""
    import pyarrow as pa

    with _table_errors(path, "Arrow"), pa.memory_map(str(path)) as source:
        magic = source.read(6)
        source.seek(0)
        if magic == b"ARROW1":
            file = pa.ipc.open_file(source)
            batches = (file.get_batch(number) for number in range(file.num_record_batches))
        else:
            batches = iter(pa.ipc.open_stream(source))
        yield from table_rows(batches, str(path))


def table_rows(batches: Iterable[pa.RecordBatch | pa.Table], file: str) -> Iterator[Row]:
    """Rows of record batches, numbered from 1 over all of them."""
    line = 0
    for batch in batches:
        if line == 0:
            _unique(Path(file), batch.schema.names)
        for start in range(0, batch.num_rows, TABLE_ROWS):
            for columns in batch.slice(start, TABLE_ROWS).to_pylist():
                line += 1
                yield Row(line, columns)


TABLE_FORMATS: dict[str, Callable[[Path], Rows]] = {
    ".parquet": parquet_file,
    ".arrow": arrow_file,
    ".feather": arrow_file,
}
FORMATS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_file,
    ".csv": csv_file,
    ".tsv": csv_file,
    **TABLE_FORMATS,
}
"""Suffix -> reader."""


class _RowText:
    """Lines for the CSV reader that remembers the text of the row at hand, and whether the file has ended."""

    def __init__(self, path: Path) -> None:
        self._lines = text_lines(path)
        self.text = ""
        self.ended = False

    def __iter__(self) -> _RowText:
        return self

    def __next__(self) -> str:
        try:
            _, line = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        if len(self.text) < RAW_LIMIT:
            self.text += line
        return line


class _table_errors:  # noqa: N801 - a context manager, read as a function
    """Turns pyarrow's errors into a DataError; a generator's own body may run inside."""

    def __init__(self, path: Path, format_name: str) -> None:
        self.path, self.format_name = path, format_name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import pyarrow as pa

        if isinstance(error, pa.ArrowException | OSError | UnicodeDecodeError):
            raise DataError(
                f"{self.path} cannot be read as {self.format_name}: {error}",
                f"expected a whole {self.format_name} file",
                "write or fetch it again",
            ) from error


def _refuse_wide(line: bytes, path: Path) -> None:
    encoding = ""
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "UTF-32" if line[2:4] == b"\0\0" else "UTF-16"
    elif len(line) > 1 and (line[0] == 0) != (line[1] == 0):
        encoding = "UTF-16LE" if line[1] == 0 else "UTF-16BE"
    if encoding:
        raise DataError(
            f"{path} is {encoding}, by its first bytes {line[:4].hex(' ')}",
            "expected UTF-8",
            f"convert it: {_iconv(path, encoding)}",
        )


def _not_utf8(path: Path, line: int, offset: int, byte: int) -> DataError:
    unpacked = " of the unpacked text" if packing_of(path) else ""
    return DataError(
        f"{path} is not UTF-8: byte 0x{byte:02x} at offset {offset}{unpacked}, in line {line}",
        "expected UTF-8",
        f"convert it: {_iconv(path, 'latin1')}  (or -f windows-1252, or whatever wrote it)",
    )


def _iconv(path: Path, encoding: str) -> str:
    kind = packing_of(path)
    name = without_packing(path.name) if kind else path.name
    if kind:
        return f"{UNPACK[kind]} {path} | iconv -f {encoding} -t utf-8 > utf8-{name}"
    return f"iconv -f {encoding} -t utf-8 {path} > utf8-{name}"


def _json_row(read: JsonReader, path: Path, line: int, text: str) -> Row | Rejected:
    try:
        value, double = read.whole(text)
    except (ValueError, RecursionError) as error:
        return Rejected(str(path), line, json_reason(error, line), text[:RAW_LIMIT])
    return _object_row(path, line, value, text, double)


def _object_row(path: Path, line: int, value: object, raw: str, double: str | None) -> Row | Rejected:
    if double is not None:
        reason = f"the key {double!r} stands twice in one object: only one of the two can have been read in training"
        return Rejected(str(path), line, reason, raw[:RAW_LIMIT])
    if isinstance(value, dict):
        return Row(line, value, raw)
    return Rejected(str(path), line, f"the row is {kind(value)}, expected an object", raw[:RAW_LIMIT])


def delimiter_of(path: Path) -> str:
    """Tab for .tsv; else a comma, unless the header has none but has semicolons (Excel in Europe) or tabs."""
    if suffix_of(path) == ".tsv":
        return "\t"
    header = next((text for _, text in text_lines(path) if text.strip()), "")
    return next((mark for mark in ",;\t" if mark in header), ",")


def _broken_csv(path: Path, start: int, error: str, ended: bool) -> DataError:
    if ended or "field limit" in error:
        error = "a quote is opened there and never closed"
    return DataError(
        f"{path}: the CSV row that starts in line {start} cannot be read: {error}",
        "expected cells with a line break, a comma or a quote in them between double quotes, quotes doubled",
        "correct that row; what follows it cannot be read without",
    )


def _unique(path: Path, names: list[str]) -> None:
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise DataError(
            f"{path} has several columns named {', '.join(map(repr, double))}",
            "expected each name once",
            "rename them",
        )
