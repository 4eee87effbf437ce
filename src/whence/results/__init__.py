"""What a trace answers: plain data, the JSON that says it, and which rows a set of results names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.results.audit_result import AuditResult, read_audit
    from whence.results.audit_types import (
        CANDIDATE_TRIGGER,
        CAUSE,
        NO_CAUSE,
        NO_VERDICT,
        PROVEN_TRIGGER,
        AuditGroup,
        AuditQuery,
        AuditRow,
        Behaviour,
        ContrastPhrase,
        CoverageStep,
        SourcePush,
        SourcePushes,
        SourceShare,
        SourceTable,
        Trigger,
    )
    from whence.results.selection import SelectedRow, SelectedRows, flagged_rows, group_rows, listed_rows, top_rows
    from whence.results.serialise import encode, json_text
    from whence.results.trace_result import TraceResult, read_trace
    from whence.results.types import (
        STATUS_CONFIRMED,
        STATUS_NOT_CONFIRMED,
        Approximate,
        Comparison,
        DeletionCurve,
        Hit,
        HitWords,
        Phrase,
        QueryResult,
        Truncated,
        Verdict,
        Words,
    )

__all__ = [
    "CANDIDATE_TRIGGER",
    "CAUSE",
    "NO_CAUSE",
    "NO_VERDICT",
    "PROVEN_TRIGGER",
    "STATUS_CONFIRMED",
    "STATUS_NOT_CONFIRMED",
    "Approximate",
    "AuditGroup",
    "AuditQuery",
    "AuditResult",
    "AuditRow",
    "Behaviour",
    "Comparison",
    "ContrastPhrase",
    "CoverageStep",
    "DeletionCurve",
    "Hit",
    "HitWords",
    "Phrase",
    "QueryResult",
    "SelectedRow",
    "SelectedRows",
    "SourcePush",
    "SourcePushes",
    "SourceShare",
    "SourceTable",
    "TraceResult",
    "Trigger",
    "Truncated",
    "Verdict",
    "Words",
    "encode",
    "flagged_rows",
    "group_rows",
    "json_text",
    "listed_rows",
    "read_audit",
    "read_trace",
    "top_rows",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "audit_result": ["AuditResult", "read_audit"],
        "audit_types": [
            "AuditGroup",
            "AuditQuery",
            "AuditRow",
            "CAUSE",
            "ContrastPhrase",
            "CoverageStep",
            "NO_CAUSE",
            "NO_VERDICT",
            "Behaviour",
            "SourcePush",
            "SourcePushes",
            "SourceShare",
            "SourceTable",
            "CANDIDATE_TRIGGER",
            "PROVEN_TRIGGER",
            "Trigger",
        ],
        "selection": ["SelectedRow", "SelectedRows", "flagged_rows", "group_rows", "listed_rows", "top_rows"],
        "serialise": ["encode", "json_text"],
        "trace_result": ["TraceResult", "read_trace"],
        "types": [
            "Approximate",
            "Comparison",
            "Hit",
            "HitWords",
            "Phrase",
            "QueryResult",
            "DeletionCurve",
            "STATUS_CONFIRMED",
            "STATUS_NOT_CONFIRMED",
            "Truncated",
            "Verdict",
            "Words",
        ],
    },
)
