"""Signatures on disk: built shard by shard, bound to their model, read in blocks, searched and verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.index.ann_build import build_ann
    from whence.index.ann_search import AnnFound, AnnSearch
    from whence.index.ann_summary import Ann, AnnPoint
    from whence.index.appending import append_rows
    from whence.index.best_rows import Match
    from whence.index.block_reader import BlockReader
    from whence.index.build import build_index, build_part
    from whence.index.centres import read_centres, write_centres
    from whence.index.changes import require_rows_as_built
    from whence.index.compacting import compact_index
    from whence.index.contents import IndexContents, index_contents
    from whence.index.data_parts import present_rows
    from whence.index.deleting import delete_rows, read_ids
    from whence.index.engines.choosing import Workers
    from whence.index.engines.local import TURNS_AT_ONCE
    from whence.index.held import default_form, default_layers, forms_asked, held_layers, holds, vectors_read
    from whence.index.history import DataSummary
    from whence.index.jobs import Job, JobState, finish_index
    from whence.index.manifest import (
        ADAPTER_OFF,
        MANIFEST,
        RECORDS,
        REFERENCES,
        Counts,
        Manifest,
        StoredVector,
        require_manifest,
    )
    from whence.index.probing import choose_layer
    from whence.index.publishing import size_of
    from whence.index.records import (
        PendingRecord,
        append_records,
        filter_columns,
        open_records,
        record_table,
        vector_column,
    )
    from whence.index.remote_cache import cache_note
    from whence.index.reopening import Workbench, reopen
    from whence.index.repairing import repair
    from whence.index.sameness import (
        built_template,
        check_base_settings,
        check_model,
        index_hash,
        n_row_changes,
        reading_note,
    )
    from whence.index.scanning import ScoreMatrix, ScoreRequest, scan
    from whence.index.searching import score_matrix, search
    from whence.index.settings import BuildSettings, IndexOptions, build_settings
    from whence.index.store import Index, Record
    from whence.index.stored_form import Storage, queries_in_form
    from whence.index.subject import Subject, chosen_layers, examples_to_index, open_subject
    from whence.index.verification import verify

__all__ = [
    "ADAPTER_OFF",
    "MANIFEST",
    "RECORDS",
    "REFERENCES",
    "TURNS_AT_ONCE",
    "Ann",
    "AnnFound",
    "AnnPoint",
    "AnnSearch",
    "BlockReader",
    "BuildSettings",
    "Counts",
    "DataSummary",
    "Index",
    "IndexContents",
    "IndexOptions",
    "Job",
    "JobState",
    "Manifest",
    "Match",
    "PendingRecord",
    "Record",
    "ScoreMatrix",
    "ScoreRequest",
    "Storage",
    "StoredVector",
    "Subject",
    "Workbench",
    "Workers",
    "append_records",
    "append_rows",
    "build_ann",
    "build_index",
    "build_part",
    "build_settings",
    "built_template",
    "cache_note",
    "check_base_settings",
    "check_model",
    "choose_layer",
    "chosen_layers",
    "compact_index",
    "default_form",
    "default_layers",
    "delete_rows",
    "examples_to_index",
    "filter_columns",
    "finish_index",
    "forms_asked",
    "held_layers",
    "holds",
    "index_contents",
    "index_hash",
    "n_row_changes",
    "open_records",
    "open_subject",
    "present_rows",
    "queries_in_form",
    "read_centres",
    "read_ids",
    "reading_note",
    "record_table",
    "reopen",
    "repair",
    "require_manifest",
    "require_rows_as_built",
    "scan",
    "score_matrix",
    "search",
    "size_of",
    "vector_column",
    "vectors_read",
    "verify",
    "write_centres",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ann_build": ["build_ann"],
        "ann_search": ["AnnFound", "AnnSearch"],
        "ann_summary": ["Ann", "AnnPoint"],
        "appending": ["append_rows"],
        "best_rows": ["Match"],
        "block_reader": ["BlockReader"],
        "build": ["build_index", "build_part"],
        "centres": ["read_centres", "write_centres"],
        "contents": ["IndexContents", "index_contents"],
        "changes": ["require_rows_as_built"],
        "data_parts": ["present_rows"],
        "compacting": ["compact_index"],
        "deleting": ["delete_rows", "read_ids"],
        "engines.choosing": ["Workers"],
        "engines.local": ["TURNS_AT_ONCE"],
        "held": ["default_form", "default_layers", "forms_asked", "held_layers", "holds", "vectors_read"],
        "history": ["DataSummary"],
        "jobs": ["Job", "JobState", "finish_index"],
        "manifest": [
            "ADAPTER_OFF",
            "Counts",
            "MANIFEST",
            "Manifest",
            "RECORDS",
            "REFERENCES",
            "StoredVector",
            "require_manifest",
        ],
        "probing": ["choose_layer"],
        "publishing": ["size_of"],
        "records": [
            "PendingRecord",
            "append_records",
            "filter_columns",
            "open_records",
            "record_table",
            "vector_column",
        ],
        "reopening": ["Workbench", "reopen"],
        "remote_cache": ["cache_note"],
        "repairing": ["repair"],
        "sameness": [
            "built_template",
            "check_base_settings",
            "check_model",
            "index_hash",
            "n_row_changes",
            "reading_note",
        ],
        "scanning": ["ScoreMatrix", "ScoreRequest", "scan"],
        "searching": ["score_matrix", "search"],
        "settings": ["BuildSettings", "IndexOptions", "build_settings"],
        "store": ["Index", "Record"],
        "stored_form": ["Storage", "queries_in_form"],
        "subject": ["Subject", "chosen_layers", "open_subject", "examples_to_index"],
        "verification": ["verify"],
    },
)
