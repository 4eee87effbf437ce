"""Many traces: which few things in the data are behind a log of bad outputs, and the rows to look at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.audit.auditing import run_audit
    from whence.audit.settings import AuditSettings

__all__ = ["AuditSettings", "run_audit"]

__getattr__, __dir__ = attach(__name__, {"auditing": ["run_audit"], "settings": ["AuditSettings"]})
