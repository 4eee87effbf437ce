"""Rows in: files and data sets become examples, examples become token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.data.batching import batches, length_batches
    from whence.data.columns import TRAINER_COLUMNS, check_mapping, recognise, unrecognised
    from whence.data.conversation import json_cell, messages, without_nulls
    from whence.data.encoding import Encoder, fit
    from whence.data.examples import (
        ASSISTANT,
        MASK_KEYS,
        PART_MASK,
        TEXT,
        EncodedTurn,
        Example,
        Json,
        Span,
        Turn,
        answer_places,
        conversation_json,
        read_conversation,
        training_row,
    )
    from whence.data.formats import (
        FORMATS,
        RAW_LIMIT,
        TABLE_FORMATS,
        Rejected,
        Row,
        delimiter_of,
        holds_array,
        read_rows,
        suffix_of,
    )
    from whence.data.json_text import array_start, json_reason, skip
    from whence.data.metadata import (
        EXACT,
        INT64,
        ColumnType,
        RowError,
        as_json,
        checked_text,
        is_wide,
        kind,
        unify_types,
        without_rounding,
    )
    from whence.data.packing import SUFFIXES, open_unpacked, packing_of
    from whence.data.readers import read_examples
    from whence.data.remote import is_remote
    from whence.data.row_encoding import (
        PLAIN_JOIN,
        PLAIN_TEMPLATE,
        LossOn,
        RowEncoding,
        Truncation,
        loss_named,
        truncation_named,
    )
    from whence.data.scanning import MAX_REJECTED, ContentHash, Scan, scan
    from whence.data.shape import Shape
    from whence.data.sources import absolute_source, find_sources, folder_files
    from whence.data.templates import FALLBACK_TEMPLATE, TemplateSource

__all__ = [
    "ASSISTANT",
    "EXACT",
    "FALLBACK_TEMPLATE",
    "FORMATS",
    "INT64",
    "MASK_KEYS",
    "MAX_REJECTED",
    "PART_MASK",
    "PLAIN_JOIN",
    "PLAIN_TEMPLATE",
    "RAW_LIMIT",
    "SUFFIXES",
    "TABLE_FORMATS",
    "TEXT",
    "TRAINER_COLUMNS",
    "ColumnType",
    "ContentHash",
    "EncodedTurn",
    "Encoder",
    "Example",
    "Json",
    "LossOn",
    "Rejected",
    "Row",
    "RowEncoding",
    "RowError",
    "Scan",
    "Shape",
    "Span",
    "TemplateSource",
    "Truncation",
    "Turn",
    "absolute_source",
    "answer_places",
    "array_start",
    "as_json",
    "batches",
    "check_mapping",
    "checked_text",
    "conversation_json",
    "delimiter_of",
    "find_sources",
    "fit",
    "folder_files",
    "holds_array",
    "is_remote",
    "is_wide",
    "json_cell",
    "json_reason",
    "kind",
    "length_batches",
    "loss_named",
    "messages",
    "open_unpacked",
    "packing_of",
    "read_conversation",
    "read_examples",
    "read_rows",
    "recognise",
    "scan",
    "skip",
    "suffix_of",
    "training_row",
    "truncation_named",
    "unify_types",
    "unrecognised",
    "without_nulls",
    "without_rounding",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "batching": ["batches", "length_batches"],
        "columns": ["TRAINER_COLUMNS", "check_mapping", "recognise", "unrecognised"],
        "conversation": ["json_cell", "messages", "without_nulls"],
        "encoding": ["Encoder", "fit"],
        "examples": [
            "ASSISTANT",
            "MASK_KEYS",
            "PART_MASK",
            "EncodedTurn",
            "Example",
            "Json",
            "Span",
            "TEXT",
            "Turn",
            "answer_places",
            "conversation_json",
            "read_conversation",
            "training_row",
        ],
        "formats": [
            "FORMATS",
            "RAW_LIMIT",
            "Rejected",
            "Row",
            "TABLE_FORMATS",
            "delimiter_of",
            "holds_array",
            "read_rows",
            "suffix_of",
        ],
        "json_text": ["array_start", "json_reason", "skip"],
        "metadata": [
            "EXACT",
            "INT64",
            "ColumnType",
            "RowError",
            "as_json",
            "checked_text",
            "is_wide",
            "kind",
            "unify_types",
            "without_rounding",
        ],
        "packing": ["SUFFIXES", "open_unpacked", "packing_of"],
        "readers": ["read_examples"],
        "remote": ["is_remote"],
        "row_encoding": [
            "LossOn",
            "PLAIN_JOIN",
            "PLAIN_TEMPLATE",
            "RowEncoding",
            "Truncation",
            "loss_named",
            "truncation_named",
        ],
        "scanning": ["MAX_REJECTED", "ContentHash", "Scan", "scan"],
        "shape": ["Shape"],
        "sources": ["absolute_source", "find_sources", "folder_files"],
        "templates": ["FALLBACK_TEMPLATE", "TemplateSource"],
    },
)
