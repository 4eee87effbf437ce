"""Many traces: which few things in the data are behind a log of bad outputs, and the rows to look at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.audit.auditing import run_audit
    from whence.audit.comparing import compare_behaviour
    from whence.audit.hints import scan_index
    from whence.audit.settings import AuditSettings
    from whence.audit.triggers import TriggerSettings, find_triggers

__all__ = ["AuditSettings", "TriggerSettings", "compare_behaviour", "find_triggers", "run_audit", "scan_index"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "auditing": ["run_audit"],
        "comparing": ["compare_behaviour"],
        "hints": ["scan_index"],
        "settings": ["AuditSettings"],
        "triggers": ["TriggerSettings", "find_triggers"],
    },
)
