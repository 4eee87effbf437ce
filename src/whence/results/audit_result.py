"""The result of an audit, over all outputs of a log. Schema `whence.audit/1`, documented in docs/audit.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

from whence.data import Json
from whence.errors import InputError
from whence.files import write_result
from whence.results.audit_types import (
    NO_CAUSE,
    NO_VERDICT,
    AuditGroup,
    AuditQuery,
    Behaviour,
    CoverageStep,
    Scan,
    SourcePush,
    SourceShare,
    SourceTable,
    Trigger,
)
from whence.results.labels import LONGEST_LABEL, labels_of
from whence.results.serialise import SchemaError, decode, encode, json_object, json_text

AUDIT_SCHEMA = "whence.audit/1"


@dataclass(frozen=True, slots=True)
class AuditResult:
    """Which few things in the data are behind many bad outputs."""

    index: str
    model: str
    adapter: str | None
    method: str
    method_version: str
    layer: str
    n_rows: int
    """Training rows that were scored."""
    fdr: float
    """False discovery rate: of outputs said to have a cause, and, averaged over these, of the rows flagged for them."""
    queries: tuple[AuditQuery, ...]
    """Every different output of the log, in its order."""
    groups: tuple[AuditGroup, ...]
    coverage: tuple[CoverageStep, ...]
    """The rows to look at first, and how many outputs they cover."""
    sources: tuple[SourceTable, ...] = ()
    """Responsibility by each column that was asked for."""
    triggers: tuple[Trigger, ...] = ()
    """Of the groups, where they were looked for: what puts the behaviour on innocent prompts."""
    looked_for_triggers: bool = False
    """Whether they were, so that none says something; False where texts are left out."""
    behaviour: Behaviour | None = None
    """Where bad outputs were compared with good ones. The one group then has the rows that push towards the bad."""
    scan: Scan | None = None
    """Where no output was given and the rows alone were looked at. The groups are then hints."""
    notes: tuple[str, ...] = ()
    """What the reader should know of the log and of how far the verdicts reach."""
    index_hash: str = ""
    """As `TraceResult.index_hash`."""

    @property
    def n_outputs(self) -> int:
        """Outputs of the log, equal ones counted each."""
        return sum(query.count for query in self.queries)

    @property
    def n_with_cause(self) -> int:
        """Outputs with flagged rows."""
        return sum(query.count for query in self.queries if query.group is not None)

    @property
    def n_without_cause(self) -> int:
        """Outputs that no row of this data is flagged for."""
        return sum(query.count for query in self.queries if query.outcome == NO_CAUSE)

    @property
    def n_without_verdict(self) -> int:
        """Outputs that nothing could be tested for."""
        return sum(query.count for query in self.queries if query.outcome == NO_VERDICT)

    @property
    def text(self) -> str:
        """The audit in one sentence."""
        if self.scan is not None:
            n = len(self.groups)
            return f"{n} hint{'' if n == 1 else 's'} among {self.n_rows:,} rows, with no output given"
        if self.behaviour is not None:
            compared = f"{self.behaviour.n_bad:,} bad outputs against {self.behaviour.n_good:,} good ones"
            if not self.groups:
                return f"no row pushes surely towards the behaviour ({compared})"
            rows = self.groups[0].rows
            cut = self.behaviour.n_flagged > sum(1 + len(row.copies) for row in rows)
            return f"{self.behaviour.n_flagged if cut else len(rows):,} rows push towards the behaviour ({compared})"
        if not self.groups:
            untested = self.n_without_verdict
            if untested and untested == self.n_outputs:
                return f"no verdict for any of {untested:,} outputs: nothing was tested"
            text = f"no row flagged for any of {self.n_outputs - untested:,} outputs"
            return f"{text}; nothing was tested for {untested:,} others" if untested else text
        many = (
            f"{len(self.groups)} groups of rows are candidate causes" if len(self.groups) > 1 else "1 candidate cause"
        )
        return f"{self.n_with_cause:,} of {self.n_outputs:,} outputs have flagged rows: {many}"

    def group(self, number: int) -> AuditGroup:
        """A group by its number. Raises InputError for one that is not there."""
        if not 1 <= number <= len(self.groups):
            raise InputError(
                f"There is no group {number}.",
                f"The audit has {len(self.groups)} groups, numbered from 1."
                if self.groups
                else "The audit found no group.",
                "See the audit's table, or its JSON.",
            )
        return self.groups[number - 1]

    def to_dict(self) -> dict[str, Json]:
        """The documented JSON object."""
        return {"schema": AUDIT_SCHEMA, **cast("dict[str, Json]", encode(self))}

    @classmethod
    def from_dict(cls, content: Mapping[str, Json]) -> AuditResult:
        """The result that `to_dict` wrote: `AuditResult.from_dict(result.to_dict()) == result`.

        Raises SchemaError for another schema, and for content that is not what the schema says; names the place.
        """
        if content.get("schema") != AUDIT_SCHEMA:
            raise SchemaError(f"its schema is {content.get('schema')!r}")
        return decode(cls, {name: value for name, value in content.items() if name != "schema"})

    def without_text(self) -> AuditResult:
        """The result without what comes from the text of training rows: texts, phrases, names, triggers,
        metadata that are texts (`labels_of`) and values of columns that are more than one word."""

        def bare(group: AuditGroup) -> AuditGroup:
            rows = tuple(replace(row, prompt="", response="", metadata=labels_of(row.metadata)) for row in group.rows)
            return replace(group, name=f"Group {group.number}", rows=rows, phrases=(), example=None)

        behaviour = self.behaviour
        if behaviour is not None:
            pushes = (replace(one, values=tuple(map(_without_text, one.values))) for one in behaviour.sources)
            behaviour = replace(behaviour, sources=tuple(pushes))
        return replace(
            self,
            groups=tuple(map(bare, self.groups)),
            sources=tuple(replace(one, values=tuple(map(_without_text, one.values))) for one in self.sources),
            behaviour=behaviour,
            triggers=(),
            looked_for_triggers=False,
        )

    def to_json(self, path: str | Path | None = None, *, show_text: bool = True) -> str:
        """The JSON text; also written to `path` when one is given. show_text: as for `without_text`."""
        return json_text(AUDIT_SCHEMA, encode(self if show_text else self.without_text()), path)

    def to_html(self, path: str | Path | None = None, *, title: str | None = None, show_text: bool = True) -> str:
        """One self-contained page; also written to `path` when one is given."""
        from whence.report import render_audit_page

        return _written(render_audit_page(self, title=title, show_text=show_text), path)

    def to_markdown(self, path: str | Path | None = None, *, show_text: bool = True) -> str:
        """The result as Markdown; also written to `path` when one is given."""
        from whence.report import render_audit_markdown

        return _written(render_audit_markdown(self, show_text=show_text), path)

    def __str__(self) -> str:
        from whence.report import render_audit_text

        return render_audit_text(self)


_Value = TypeVar("_Value", SourceShare, SourcePush)


def _without_text(one: _Value) -> _Value:
    """A value of a column that is a word or a number as it is; of a text its number of characters."""
    value = one.value
    return (
        one
        if len(value.split()) == 1 and len(value) <= LONGEST_LABEL
        else replace(one, value=f"({len(value):,} characters)")
    )


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        write_result(path, text)
    return text


def read_audit(path: str | Path) -> AuditResult:
    """The audit that `whence audit --json` wrote. Raises InputError for another or a damaged file."""
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"There is no audit at {path}.", "Expected what `whence audit --json` wrote.", "Check the path."
        )
    try:
        return AuditResult.from_dict(json_object(path.read_text("utf-8")))
    except ValueError as error:
        raise InputError(
            f"{path} is no audit that can be read: {error}.", f"Expected schema {AUDIT_SCHEMA!r}.", "Audit again."
        ) from error


__all__ = ["AUDIT_SCHEMA", "AuditResult", "read_audit"]
