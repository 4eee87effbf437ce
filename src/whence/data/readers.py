"""Data of any known format as training examples; a row that cannot be used is set aside with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from whence.data.columns import check_mapping, recognise, unrecognised
from whence.data.examples import Example
from whence.data.formats import Rejected, Row
from whence.data.metadata import LeftOut, RowError
from whence.data.shape import Shape
from whence.data.sources import Source, find_sources
from whence.errors import DataError

__all__ = ["PROBE_ROWS", "Rejected", "read_examples"]

PROBE_ROWS = 100
"""Rows without a known set of columns that are held back before the file as a whole is refused."""


def read_examples(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    on_reject: Callable[[Rejected], None] | None = None,
    on_shape: Callable[[Shape], None] | None = None,
    on_left_out: Callable[[str], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Iterator[Example]:
    """The training examples of `source`, in order, as a stream.

    `source` is a file (.jsonl, .ndjson, .json, .csv, .tsv, packed or not; .parquet, .arrow, .feather), a folder
    or glob of such files, a folder written by `datasets.save_to_disk`, or the name of a data set on the hub.
    `columns` maps "prompt", "response", "system", "messages" or "text" to the names in the file (all keys:
    docs/data.md; "" for none); without it they are recognised, once a file, by its first row that has a known set.
    `split` is for data sets ("train" by default).

    A row that cannot be used is given to `on_reject` and left out; `on_shape` is told each file's columns, and
    `on_left_out` the reason for each sound row that was not trained on (all turns masked, a false label). `on_note`
    is told at once what is to be said about the choice of files. Memory is bounded by a few hundred rows, except for a
    .json array, whose text is held whole.

    Raises DataError: at once for a missing path or a wrong mapping; while reading for a file that is empty, damaged,
    not UTF-8 or without known columns.
    """
    check_mapping(columns)
    sources = find_sources(source, split)
    for part in sources:
        if part.note and on_note is not None:
            on_note(part.note)
    reject = on_reject or (lambda rejected: None)
    tell = on_shape or (lambda shape: None)
    left_out = on_left_out or (lambda reason: None)
    return (example for part in sources for example in _examples(part, columns, reject, tell, left_out))


def _examples(
    source: Source,
    columns: Mapping[str, str] | None,
    reject: Callable[[Rejected], None],
    tell: Callable[[Shape], None],
    left_out: Callable[[str], None],
) -> Iterator[Example]:
    shape: Shape | None = None
    waiting: list[Row] = []
    empty = True
    for row in source.rows():
        empty = False
        if isinstance(row, Rejected):
            reject(row)
            continue
        waiting.append(row)
        if shape is None:
            shape = recognise(row.columns, columns)
            if shape is not None:
                tell(shape)
            elif len(waiting) == PROBE_ROWS:
                break
        if shape is not None:
            for held in waiting:
                try:
                    yield shape.example(held.columns, source.file, held.line, table=held.raw is None)
                except LeftOut as error:
                    left_out(str(error))
                except RowError as error:
                    reject(held.rejected(source.file, str(error)))
            waiting.clear()
    if waiting:
        seen = dict.fromkeys(name for row in waiting for name in row.columns)
        raise unrecognised(source.file, seen, columns)
    if empty:
        raise DataError(
            f"{source.file} is empty: it holds no row",
            "expected at least one row",
            "check what wrote it, or leave the file out",
        )
