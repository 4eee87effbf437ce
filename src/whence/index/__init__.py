"""Signatures on disk: built shard by shard, bound to their model, read in blocks, searched and verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.index.best_rows import Match
    from whence.index.block_reader import BlockReader
    from whence.index.build import build_index
    from whence.index.centres import read_centres, write_centres
    from whence.index.contents import IndexContents, index_contents
    from whence.index.engines.local import TURNS_AT_ONCE
    from whence.index.held import default_form, default_layers, forms_asked, held_layers, holds, vectors_read
    from whence.index.manifest import (
        ADAPTER_OFF,
        RECORDS,
        REFERENCES,
        Counts,
        DataSummary,
        Manifest,
        StoredVector,
        check_model,
        require_manifest,
        write_bytes_atomically,
    )
    from whence.index.probing import choose_layer
    from whence.index.records import (
        PendingRecord,
        append_records,
        filter_columns,
        open_records,
        record_table,
        vector_column,
    )
    from whence.index.scanning import ScoreMatrix, ScoreRequest, scan
    from whence.index.searching import score_matrix, search
    from whence.index.settings import BuildSettings, IndexOptions
    from whence.index.store import Index, Record
    from whence.index.stored_form import Storage
    from whence.index.subject import Subject, chosen_layers, examples_to_index, open_subject
    from whence.index.verification import verify

__all__ = [
    "ADAPTER_OFF",
    "RECORDS",
    "REFERENCES",
    "TURNS_AT_ONCE",
    "BlockReader",
    "BuildSettings",
    "Counts",
    "DataSummary",
    "Index",
    "IndexContents",
    "IndexOptions",
    "Manifest",
    "Match",
    "PendingRecord",
    "Record",
    "ScoreMatrix",
    "ScoreRequest",
    "Storage",
    "StoredVector",
    "Subject",
    "append_records",
    "build_index",
    "check_model",
    "choose_layer",
    "chosen_layers",
    "default_form",
    "default_layers",
    "examples_to_index",
    "filter_columns",
    "forms_asked",
    "held_layers",
    "holds",
    "index_contents",
    "open_records",
    "open_subject",
    "read_centres",
    "record_table",
    "require_manifest",
    "scan",
    "score_matrix",
    "search",
    "vector_column",
    "vectors_read",
    "verify",
    "write_bytes_atomically",
    "write_centres",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "best_rows": ["Match"],
        "block_reader": ["BlockReader"],
        "build": ["build_index"],
        "centres": ["read_centres", "write_centres"],
        "contents": ["IndexContents", "index_contents"],
        "engines.local": ["TURNS_AT_ONCE"],
        "held": ["default_form", "default_layers", "forms_asked", "held_layers", "holds", "vectors_read"],
        "manifest": [
            "ADAPTER_OFF",
            "Counts",
            "DataSummary",
            "Manifest",
            "RECORDS",
            "REFERENCES",
            "StoredVector",
            "check_model",
            "require_manifest",
            "write_bytes_atomically",
        ],
        "probing": ["choose_layer"],
        "records": [
            "PendingRecord",
            "append_records",
            "filter_columns",
            "open_records",
            "record_table",
            "vector_column",
        ],
        "scanning": ["ScoreMatrix", "ScoreRequest", "scan"],
        "searching": ["score_matrix", "search"],
        "settings": ["BuildSettings", "IndexOptions"],
        "store": ["Index", "Record"],
        "stored_form": ["Storage"],
        "subject": ["Subject", "chosen_layers", "open_subject", "examples_to_index"],
        "verification": ["verify"],
    },
)
