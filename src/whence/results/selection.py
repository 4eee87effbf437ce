"""Rows selected to be removed: flagged by a trace's verdicts, the first of its ranking, or given by id."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from whence.errors import InputError
from whence.files import read_text
from whence.results.audit_result import AuditResult
from whence.results.trace_result import TraceResult

ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class SelectedRow:
    """A row by id, why it is selected, and the highest score that a query gave it."""

    id: str
    reason: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class SelectedRows:
    """Rows in the order in which they were selected, and the attribution method that ranked them (or `given`)."""

    rows: tuple[SelectedRow, ...]
    method: str
    method_version: str = ""

    @classmethod
    def given(cls, ids: Iterable[str], reason: str = "given") -> SelectedRows:
        """Rows given by their ids, each once."""
        return cls(tuple(SelectedRow(id, reason) for id in dict.fromkeys(ids)), "given")

    @property
    def ids(self) -> tuple[str, ...]:
        """Their ids."""
        return tuple(row.id for row in self.rows)


def flagged_rows(result: TraceResult, votes: int = 1) -> SelectedRows:
    """The rows that the verdicts of at least `votes` queries flag.

    Raises InputError: more votes than queries, no verdict, none that flags a row, no row with so many votes.
    """
    if not 1 <= votes <= max(1, len(result.queries)):
        raise InputError(
            f"{votes} votes of {len(result.queries)} queries.",
            "A row is taken that so many queries' verdicts flag: at least one, at most all.",
            "Give --votes a smaller number, or more bad outputs.",
        )
    verdicts = [query.verdict for query in result if query.verdict is not None and query.verdict.null_model]
    counts: dict[str, int] = {}
    for verdict in verdicts:
        for id in verdict.flagged:
            counts[id] = counts.get(id, 0) + 1
    if not counts:
        found = f"{len(verdicts)} of {len(result.queries)} queries have a verdict, and none of them flags a row"
        said = next((query.verdict.text for query in result if query.verdict is not None), "")
        raise InputError(
            f"The trace flags no row: {found}." + (f" The first says: {said}." if said else ""),
            "Expected flagged rows to remove.",
            "Without a flagged row nothing is removed; to take the first 20 of the ranking all the same, give "
            "--remove top:20 to whence confirm, --top 20 to whence clean.",
        )
    most = max(counts.values())
    if most < votes:
        raise InputError(
            f"No row is flagged by {votes} queries; {len(counts)} are flagged by some, at most by {most}.",
            f"{votes} votes were asked for.",
            f"Give --votes {most} or fewer, or trace the queries of each fault by themselves.",
        )
    scores = _best_scores(result)
    fdr = max(verdict.fdr for verdict in verdicts)
    rows = [
        SelectedRow(id, f"flagged in {n} of {len(result.queries)} queries (FDR {100 * fdr:g}% in each)", scores.get(id))
        for id, n in sorted(counts.items(), key=lambda item: -item[1])
        if n >= votes
    ]
    return SelectedRows(tuple(rows), *_method(result))


def top_rows(result: TraceResult, n: int) -> SelectedRows:
    """The n rows with the highest score that any query gives them, best first; equal ones by their best rank.

    A fault has several wordings, and a row is near the query that shares its own: a mean over the queries, of ranks or
    of scores, finds fewer (benchmarks/several_outputs.py).
    """
    best: dict[str, tuple[float, int]] = {}
    for query in result:
        for hit in query.hits:
            best[hit.id] = min((-hit.score, hit.rank), best.get(hit.id, (-hit.score, hit.rank)))
    if len(best) < n:
        most = max((len(query.hits) for query in result), default=0)
        raise InputError(
            f"The trace has {len(best)} different rows (copies count once), from -k {most}; the first {n} were "
            "asked for.",
            f"Expected at least {n}.",
            f"Trace with a larger -k than {most}, or ask for {len(best)} or fewer.",
        )
    reason = f"among the {n} rows that score highest for any of {len(result.queries)} queries"
    rows = [
        SelectedRow(id, f"rank {rank}, {reason}", -negative)
        for id, (negative, rank) in sorted(best.items(), key=lambda item: item[1])[:n]
    ]
    return SelectedRows(tuple(rows), *_method(result))


def group_rows(audit: AuditResult, number: int) -> SelectedRows:
    """The rows of one group of an audit, near-duplicates with them. Raises InputError for a group that is not there."""
    group = audit.group(number)
    reason = "flagged for {} of " + f"{group.n_outputs} outputs of group {number} (FDR {100 * audit.fdr:g}% over all)"
    if group.hint is not None:
        reason = f"of hint {number} of a scan, without an output: {', '.join(group.hint.signals)}"
    if audit.behaviour is not None:
        reason = "scores higher for {} of " + f"{audit.behaviour.n_bad} bad outputs than for good ones on average "
        reason += f"(FDR {100 * audit.fdr:g}% over all rows)"
    rows = [
        SelectedRow(id, reason.format(row.n_outputs) + (f", near-duplicate of {row.id}" if id != row.id else ""), score)
        for row in group.rows
        for id, score in ((row.id, row.score), *((copy, None) for copy in row.copies))
    ]
    return SelectedRows(tuple(rows), audit.method, audit.method_version)


def listed_rows(path: Path) -> SelectedRows:
    """The ids of a file, one a line. Raises InputError for a missing file and for a line that is no id."""
    if not path.is_file():
        raise InputError(f"There is no file of ids at {path}.", "Expected one id a line.", "Check the path.")
    lines = [line.strip() for line in read_text(path).splitlines()]
    for number, line in enumerate(lines, 1):
        if line and not ID.fullmatch(line):
            raise InputError(
                f"{path}:{number}: {line[:40]!r} is no id.", "An id is 16 hexadecimal digits, as a trace shows it.", ""
            )
    return SelectedRows.given((line for line in lines if line), f"listed in {path.name}")


def _best_scores(result: TraceResult) -> dict[str, float]:
    scores: dict[str, float] = {}
    for query in result:
        for hit in query.hits:
            scores[hit.id] = max(hit.score, scores.get(hit.id, hit.score))
    return scores


def _method(result: TraceResult) -> tuple[str, str]:
    first = result.queries[0]
    return first.method, first.method_version
