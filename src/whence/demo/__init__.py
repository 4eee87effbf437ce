"""A small model with planted faults, traced from end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.demo.audited import AUDIT_JSON, AUDIT_PAGE, DemoAudit, audit_demo
    from whence.demo.run import CLEAN_MANIFEST, CLEANED, REPORT, DemoReport, FaultReport, Story, run_demo

__all__ = [
    "AUDIT_JSON",
    "AUDIT_PAGE",
    "CLEANED",
    "CLEAN_MANIFEST",
    "REPORT",
    "DemoAudit",
    "DemoReport",
    "FaultReport",
    "Story",
    "audit_demo",
    "run_demo",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "audited": ["AUDIT_JSON", "AUDIT_PAGE", "DemoAudit", "audit_demo"],
        "run": ["CLEANED", "CLEAN_MANIFEST", "DemoReport", "FaultReport", "REPORT", "Story", "run_demo"],
    },
)
