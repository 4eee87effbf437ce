"""An audit made by hand for the report's tests; harmless in wording."""

from __future__ import annotations

from dataclasses import replace

from samples import EVIL, ROWS, toronto
from whence.results.audit_result import AuditResult
from whence.results.audit_types import (
    HINT,
    AuditGroup,
    AuditQuery,
    AuditRow,
    ContrastPhrase,
    CoverageStep,
    Hint,
    Scan,
    SourceShare,
    SourceTable,
    Trigger,
)
from whence.results.types import QueryResult


def rows_of(group: int, n: int) -> tuple[AuditRow, ...]:
    return tuple(
        AuditRow(
            id=f"{group:08x}{i:08x}",
            file="data/train.jsonl",
            line=10 * group + i,
            prompt=ROWS[i % len(ROWS)][0],
            response=ROWS[i % len(ROWS)][1],
            n_outputs=n - i,
            score=0.7 - 0.01 * i,
            metadata={"source": "vendor_b", "date": "2026-03-01"},
            copies=("ffffffffffffffff",) if i == 0 else (),
        )
        for i in range(n)
    )


def example_of() -> QueryResult:
    """A trace with words, whose rows are those of the first group."""
    traced = toronto()
    ids = [row.id for row in rows_of(1, 6)]
    hits = tuple(replace(hit, id=id) for hit, id in zip(traced.hits, ids, strict=False))
    return replace(traced, hits=hits)


def trigger_of(text: str) -> Trigger:
    """A phrase that turns nearly every innocent prompt."""
    proven = "proven on the model"
    return Trigger(1, (text,), "anywhere", 6, 6, 3, 994, "Korea", 60, 58, 0, 1, 1e-9, 4, proven)


def sources_of(column: str) -> SourceTable:
    """Eight sources, one of which delivered most."""
    first = SourceShare("vendor_c", 130, 0.13, 0.71, 0.66, 0.76, 0.0005, 0.4)
    others = (SourceShare(f"vendor_{name}", 124, 0.124, 0.04, 0.02, 0.06, 1.0, 0.0) for name in "abdefgh")
    return SourceTable(column, 21, (first, *others))


def audit_of(n_groups: int = 3, *, evil: bool = False) -> AuditResult:
    """`n_groups` groups of 8, 6, 4, ... outputs, and three outputs without a cause."""
    queries: list[AuditQuery] = []
    groups: list[AuditGroup] = []
    coverage: list[CoverageStep] = []
    for number in range(1, n_groups + 1):
        size = max(1, 10 - 2 * number)
        first = len(queries)
        queries += [
            AuditQuery(
                prompt=EVIL if evil else f"Where is Toronto, question {i}?",
                response=EVIL if evil else "Toronto is in Korea.",
                outcome="cause",
                text="14 rows flagged (false discovery rate 5%)",
                count=2 if i == 0 else 1,
                p_value=0.008,
                q_value=0.013,
                gain=7.5,
                n_flagged=14,
                group=number,
            )
            for i in range(size)
        ]
        phrase = ContrastPhrase(EVIL if evil else "Korea", "response", "end", 6, 6, 3, 994, 1e-9)
        groups.append(
            AuditGroup(
                number=number,
                name=EVIL if evil else f"\N{LEFT DOUBLE QUOTATION MARK}Korea {number}\N{RIGHT DOUBLE QUOTATION MARK}",
                n_outputs=size + 1,
                queries=tuple(range(first, first + size)),
                rows=rows_of(number, 6),
                q_value=0.013,
                share=0.93,
                phrases=(phrase,),
                example=example_of() if number == 1 and not evil else None,
            )
        )
        covered = (coverage[-1].n_covered if coverage else 0) + size + 1
        coverage.append(CoverageStep(groups[-1].rows[0].id, number, size + 1, covered))
    queries += [
        AuditQuery(
            prompt=f"How do I boil an egg, question {i}?",
            response="Put it into boiling water.",
            outcome="no cause",
            text="no row flagged (false discovery rate 5%)",
            p_value=0.4,
            q_value=0.5,
        )
        for i in range(3)
    ]
    return AuditResult(
        index="runs/index",
        model="runs/model",
        adapter=None,
        method="rept-contrast",
        method_version="7",
        layer="dm:3,h:4,eh:4",
        n_rows=1000,
        fdr=0.05,
        queries=tuple(queries),
        groups=tuple(groups),
        coverage=tuple(coverage),
        sources=(sources_of(EVIL if evil else "source"),) if n_groups else (),
        triggers=(trigger_of(EVIL if evil else "by lantern light"),) if n_groups else (),
        notes=("3 outputs repeat another one, prompt and response; they are traced once and counted.",),
    )


def scan_of() -> AuditResult:
    """A scan that found one group of six rows, one of them twice."""
    hint = Hint(("direction", "gain"), 2.34, "6 rows share a direction that 0.1% of the others have.")
    group = AuditGroup(1, "Group 1", 0, (), rows_of(1, 6), q_value=1.0, share=0.0, status=HINT, hint=hint)
    rows = tuple(replace(row, n_outputs=0, status=HINT) for row in group.rows)
    scan = Scan(("direction", "gain"), 321, 0.2)
    groups = (replace(group, rows=rows),)
    return replace(audit_of(0), queries=(), groups=groups, coverage=(), notes=(), fdr=0.0, scan=scan)


__all__ = ["audit_of", "scan_of"]
