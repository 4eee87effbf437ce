"""What a trace answers: plain data that the reports render. Schema `whence.trace/1`, documented in docs/json.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from whence.data.examples import Json

SCHEMA = "whence.trace/1"
STATUS_CANDIDATE = "candidate"
"""A row that ranks high. Nothing but a retraining without it shows that it is a cause."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One training row of a ranking, named by the turn that scored best."""

    rank: int
    score: float
    id: str
    file: str
    line: int
    turn: int
    prompt: str
    response: str
    metadata: Mapping[str, Json] = field(default_factory=dict)
    status: str = STATUS_CANDIDATE


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The ranking of one query. `generated` says that the response is the model's own, made for this trace."""

    prompt: str
    response: str
    method: str
    method_version: str
    layer: str
    hits: tuple[Hit, ...]
    n_rows: int
    """Training rows that were scored, after any filter."""
    generated: bool = False


@dataclass(frozen=True, slots=True)
class TraceResult:
    """Rankings of one or many queries against one index."""

    index: str
    model: str
    adapter: str | None
    queries: tuple[QueryResult, ...]

    @property
    def hits(self) -> tuple[Hit, ...]:
        """The hits of the only query; ask `queries[i].hits` when there are several."""
        if len(self.queries) != 1:
            raise ValueError(f"this result has {len(self.queries)} queries; use result.queries[i].hits")
        return self.queries[0].hits

    def __iter__(self) -> Iterator[QueryResult]:
        return iter(self.queries)

    def to_dict(self) -> dict[str, Json]:
        """The documented JSON object."""
        return {"schema": SCHEMA, **asdict(self)}

    def to_json(self, path: str | Path | None = None) -> str:
        """The JSON text; also written to `path` when one is given."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def __str__(self) -> str:
        from whence.report.terminal import render_text

        return render_text(self)

    def _repr_html_(self) -> str:
        from whence.report.notebook import render_html

        return render_html(self)
