"""Parquet, Arrow and saved data sets, edited row by row with their schema kept."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from whence.data import suffix_of
from whence.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS = 1 << 16
"""Rows of one row group, or record batch, that is written."""
GROUP_BYTES = 1 << 28
"""Bytes of rows after which one is written, however few rows they are."""


class TableEdit(NamedTuple):
    """At row `at` of the input, from 0: `n_skipped` rows (0 or 1) are left out and `insert` is put there."""

    at: int
    n_skipped: int
    insert: pa.RecordBatch | None


def splice(batches: Iterable[pa.RecordBatch], edits: Sequence[TableEdit]) -> Iterator[pa.RecordBatch]:
    """The batches with the edits, which ascend, in the order of the input."""
    position, waiting = 0, list(reversed(edits))
    for batch in batches:
        start = 0
        while waiting and waiting[-1].at < position + batch.num_rows:
            edit = waiting.pop()
            if edit.at - position > start:
                yield batch.slice(start, edit.at - position - start)
            if edit.insert is not None:
                yield edit.insert
            start = edit.at - position + edit.n_skipped
        if start < batch.num_rows:
            yield batch.slice(start)
        position += batch.num_rows
    yield from (edit.insert for edit in reversed(waiting) if edit.insert is not None)


def removal(lines: Sequence[int], replacements: Mapping[int, pa.RecordBatch]) -> list[TableEdit]:
    """The edits that take the rows of these lines, from 1 and ascending, out, or put their replacements there."""
    return [TableEdit(line - 1, 1, replacements.get(line)) for line in lines]


def restoration(lines: Sequence[int], replaced: Sequence[bool], rows: pa.Table) -> list[TableEdit]:
    """The edits that put the rows back: `rows` holds them in the order of their lines in the source.

    Raises DataError unless there is a row for each line.
    """
    if rows.num_rows != len(lines):
        raise DataError(
            f"The manifest holds {rows.num_rows} rows of a table of which {len(lines)} were taken.",
            "Expected every row that was taken.",
            "The manifest is not as it was written; restore it from a copy.",
        )
    edits, gone = [], 0
    for i, (line, kept) in enumerate(zip(lines, replaced, strict=True)):
        (row,) = rows.slice(i, 1).combine_chunks().to_batches()
        edits.append(TableEdit(line - 1 - gone, int(kept), row))
        gone += not kept
    return edits


def take_rows(path: Path, lines: Sequence[int]) -> pa.Table:
    """The rows of these lines, from 1 and ascending, with their types."""
    import pyarrow as pa

    with open_table(path) as (schema, batches):
        wanted, found, position = list(lines), [], 0
        for batch in batches:
            here = [line - 1 - position for line in wanted if position < line <= position + batch.num_rows]
            if here:
                found.append(batch.take(pa.array(here)))
            position += batch.num_rows
        return joined(found, schema)


def write_spliced(source: Path, out: Path, edits: Sequence[TableEdit]) -> None:
    """Writes `source` with the edits into the new `out`: same kind, same schema, rows in order.

    Raises DataError where `out` has another number of rows than it must have.
    """
    if source.is_dir():
        _write_saved(source, out, edits)
    else:
        with open_table(source) as (schema, batches), _writer(source, out, schema) as write:
            for group in _groups(splice(batches, edits)):
                write(joined(group, schema))
    change = sum((edit.insert.num_rows if edit.insert is not None else 0) - edit.n_skipped for edit in edits)
    expected, found = count_rows(source, source) + change, count_rows(out, source)
    if found != expected:
        raise DataError(
            f"What was written for {source} has {found} rows.",
            f"Expected {expected}.",
            "Nothing is kept of it. Please report this, with the types of the columns.",
        )


def count_rows(path: Path, like: Path) -> int:
    """Rows of a table or of a saved data set, as the file itself says. like: a file whose name tells the format."""
    import pyarrow.parquet as pq

    if suffix_of(like) == ".parquet" and path.is_file():
        return int(pq.read_metadata(path).num_rows)
    if path.is_dir():
        import datasets

        return len(datasets.load_from_disk(str(path)))
    with _open_arrow(path) as (_, batches):
        return sum(batch.num_rows for batch in batches)


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """The batches, as many together as one row group or record batch is made of."""
    group: list[pa.RecordBatch] = []
    n_rows = n_bytes = 0
    for batch in batches:
        group.append(batch)
        n_rows, n_bytes = n_rows + batch.num_rows, n_bytes + batch.nbytes
        if n_rows >= GROUP_ROWS or n_bytes >= GROUP_BYTES:
            yield group
            group, n_rows, n_bytes = [], 0, 0
    if group:
        yield group


@contextmanager
def open_table(path: Path) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Schema and batches of a Parquet or Arrow file, or of a data set that `datasets` saved without splits."""
    import pyarrow.parquet as pq

    if path.is_dir():
        import datasets

        data = datasets.load_from_disk(str(path))
        schema = data.features.arrow_schema
        tables = data.with_format("arrow").iter(batch_size=1000)
        yield schema, (batch for table in tables for batch in joined(table.to_batches(), schema).to_batches())
    elif suffix_of(path) == ".parquet":
        with pq.ParquetFile(path) as file:
            yield file.schema_arrow, file.iter_batches()
    else:
        with _open_arrow(path) as found:
            yield found


@contextmanager
def _open_arrow(path: Path) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        if is_ipc_file(path):
            opened = pa.ipc.open_file(source)
            yield opened.schema, (opened.get_batch(i) for i in range(opened.num_record_batches))
        else:
            stream = pa.ipc.open_stream(source)
            yield stream.schema, iter(stream)


def is_ipc_file(path: Path) -> bool:
    """Whether an Arrow file is an IPC file (Feather version 2), not a stream."""
    with path.open("rb") as file:
        return file.read(6) == b"ARROW1"


def joined(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """The rows of the batches under exactly this schema; in several chunks where texts pass Arrow's 2 GiB."""
    import pyarrow as pa

    return pa.Table.from_batches([batch.cast(schema) for batch in batches], schema).combine_chunks()


def batch_of(columns: Mapping[str, object], schema: pa.Schema, where: str) -> pa.RecordBatch:
    """A replacement row under the table's schema. Raises DataError for a value that its column cannot hold."""
    import pyarrow as pa

    try:
        return pa.RecordBatch.from_pylist([dict(columns)], schema=schema)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"The replacement of {where} does not fit the table: {error}",
            "Expected values of the columns' own types.",
            "Correct what --relabel writes.",
        ) from error


def pack(rows: pa.Table) -> str:
    """Rows with their types as text: an Arrow IPC stream in base64."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return base64.b64encode(sink.getvalue().to_pybytes()).decode("ascii")


def unpack(text: str) -> pa.Table:
    """The rows that `pack` made text of."""
    import pyarrow as pa

    return pa.ipc.open_stream(base64.b64decode(text)).read_all()


@contextmanager
def _writer(source: Path, out: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if suffix_of(source) == ".parquet":
        described = pq.read_metadata(source)
        columns = described.num_columns if described.num_row_groups else 0
        codec = described.row_group(0).column(0).compression if columns else "snappy"
        codec = "none" if codec == "UNCOMPRESSED" else codec.lower()
        with pq.ParquetWriter(out, schema, compression=codec) as writer:
            yield writer.write_table
        return
    with pa.OSFile(str(out), "wb") as sink:
        new = pa.ipc.new_file if is_ipc_file(source) else pa.ipc.new_stream
        with new(sink, schema) as writer:
            yield writer.write_table


def _write_saved(source: Path, out: Path, edits: Sequence[TableEdit]) -> None:
    import datasets
    import pyarrow as pa

    data = datasets.load_from_disk(str(source))
    with open_table(source) as (schema, batches):
        table = pa.Table.from_batches(list(splice(batches, edits)), schema)
    datasets.Dataset(table, info=data.info, split=data.split).save_to_disk(str(out))
