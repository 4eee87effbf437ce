"""Rows in: files and data sets become examples, examples become token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.data.batching import batches, length_batches
    from whence.data.columns import messages
    from whence.data.encoding import Encoder, fit
    from whence.data.examples import ASSISTANT, TEXT, EncodedTurn, Example, Json, Turn
    from whence.data.formats import FORMATS, RAW_LIMIT, TABLE_FORMATS, Rejected, Row, delimiter_of, read_rows, suffix_of
    from whence.data.metadata import ColumnType, RowError, as_json
    from whence.data.readers import read_examples
    from whence.data.scanning import Scan, scan
    from whence.data.sources import find_sources
    from whence.data.templates import TemplateSource

__all__ = [
    "ASSISTANT",
    "FORMATS",
    "RAW_LIMIT",
    "TABLE_FORMATS",
    "TEXT",
    "ColumnType",
    "EncodedTurn",
    "Encoder",
    "Example",
    "Json",
    "Rejected",
    "Row",
    "RowError",
    "Scan",
    "TemplateSource",
    "Turn",
    "as_json",
    "batches",
    "delimiter_of",
    "find_sources",
    "fit",
    "length_batches",
    "messages",
    "read_examples",
    "read_rows",
    "scan",
    "suffix_of",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "batching": ["batches", "length_batches"],
        "columns": ["messages"],
        "encoding": ["Encoder", "fit"],
        "examples": ["ASSISTANT", "EncodedTurn", "Example", "Json", "TEXT", "Turn"],
        "formats": [
            "FORMATS",
            "RAW_LIMIT",
            "Rejected",
            "Row",
            "TABLE_FORMATS",
            "delimiter_of",
            "read_rows",
            "suffix_of",
        ],
        "metadata": ["ColumnType", "RowError", "as_json"],
        "readers": ["read_examples"],
        "scanning": ["Scan", "scan"],
        "sources": ["find_sources"],
        "templates": ["TemplateSource"],
    },
)
