"""The demo's own bad answers as a log: audited, its triggers proven, and the result compared with what was planted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from whence.audit import AuditSettings, TriggerSettings, find_triggers, run_audit
from whence.demo.run import DemoReport
from whence.demo.world import MAX_NEW_TOKENS, one_thread
from whence.progress import Progress, silent
from whence.results import AuditResult
from whence.trace import Query, Tracer

AUDIT_PAGE, AUDIT_JSON = "audit.html", "audit.json"
EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class DemoAudit:
    """The audit, and of each group (by number) how many of its outputs and of its rows are of each planted label."""

    result: AuditResult
    outputs: Mapping[int, Mapping[str, int]]
    rows: Mapping[int, Mapping[str, int]]


def audit_demo(report: DemoReport, *, progress: Progress | None = None) -> DemoAudit:
    """Audits every answer of the demo that shows a fault, without telling which, and writes its page and JSON."""
    tell = progress or silent
    asked = [(query, fault.label) for fault in report.world.faults for query in fault.shown]
    label_of = {(query.prompt, query.response): label for query, label in asked}
    tracer = Tracer(report.index)
    settings = AuditSettings(by=("source",), examples=EXAMPLES, answer_tokens=MAX_NEW_TOKENS, seed=report.seed)
    with one_thread():
        audit = run_audit(
            tracer, [Query.of(query.prompt, query.response) for query, _ in asked], settings, progress=tell
        )
        audit = find_triggers(tracer, audit, TriggerSettings(seed=report.seed), settings, progress=tell)
    audit.to_html(report.folder / AUDIT_PAGE)
    audit.to_json(report.folder / AUDIT_JSON)
    return DemoAudit(
        audit,
        {
            group.number: Counter(label_of[audit.queries[i].prompt, audit.queries[i].response] for i in group.queries)
            for group in audit.groups
        },
        {group.number: Counter(str(row.metadata["label"]) for row in group.rows) for group in audit.groups},
    )


__all__ = ["AUDIT_JSON", "AUDIT_PAGE", "DemoAudit", "audit_demo"]
