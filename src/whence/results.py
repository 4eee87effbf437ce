"""What a trace answers: plain data that the reports render. Schema `whence.trace/1`, documented in docs/json.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from whence.data.examples import Json

SCHEMA = "whence.trace/1"
STATUS_CANDIDATE = "candidate"
"""A row that ranks high. Nothing but a retraining without it shows that it is a cause."""
STATUS_CONFIRMED, STATUS_NOT_CONFIRMED = "confirmed", "not confirmed"
"""What a retraining showed."""


Span = tuple[int, int]
"""Start and end of a part of a text, in characters."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What the score hangs on: words taken away in turn, and what share of the score is left after each.

    words[k] are the words, by number, that went at step k: one, or a few adjoining ones of a long text. left[k] is the
    score without them and all before them, over the whole score. See `whence.trace.removal`.
    """

    words: tuple[tuple[int, ...], ...]
    left: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one text and how much each drove the match; `spans[i]` of the text has `scores[i]`.

    Higher drove it more; a negative score worked against it. `method` names how the scores were made. `removal` is of
    a hit's words, None where it was not measured.
    """

    spans: tuple[Span, ...]
    scores: tuple[float, ...]
    method: str
    removal: Removal | None = None


@dataclass(frozen=True, slots=True)
class HitWords:
    """A hit down to its words. `map[i][j]` links word i of the query's response to word j of the row's response."""

    prompt: Words
    response: Words
    map: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase that stands out in several of the first rows."""

    text: str
    part: Literal["prompt", "response"]
    place: Literal["start", "end", "anywhere"]
    n_rows: int
    """Of the rows that were read, those where it stands out."""
    n_read: int
    share_elsewhere: float
    """Share of the data set's other rows that have the phrase, anywhere in that part."""
    lift: float
    """Share of the rows read over share elsewhere, which counts as at least half a row."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which rows stand out from what innocent rows look like, at a stated false discovery rate; or none."""

    guilty: tuple[str, ...]
    """Ids of the rows that stand out, best first. Each is a candidate until a retraining confirms it."""
    fdr: float
    text: str
    method: str
    """How it was calibrated; empty where it could not be, and `text` says why."""


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
    words: HitWords | None = None
    p_value: float | None = None
    """Chance of such a score for an innocent row."""
    q_value: float | None = None
    """The least false discovery rate at which the row is named."""
    confounds: Mapping[str, Json] = field(default_factory=dict)
    """What else could explain the rank, by name: length, norm, format, rank in BM25 and RepSim."""


@dataclass(frozen=True, slots=True)
class Truncated:
    """How many tokens of a query were cut away because at most `max_length` of them are read."""

    prompt: int
    """Lost at the prompt's start."""
    response: int
    """Lost at the response's end, the marker that ends its turn among them."""
    max_length: int
    wanted: int = 0
    """Lost at the wanted answer's end."""


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
    span: Span | None = None
    """The part of the response that was asked about; None: all of it."""
    wanted: str | None = None
    """The answer that should have been given; rows are ranked by what pushes away from it."""
    prompt_words: Words | None = None
    response_words: Words | None = None
    phrases: tuple[Phrase, ...] = ()
    verdict: Verdict | None = None
    confound: str = ""
    """A sentence, where something simple explains the ranking as well."""
    confirmation: str = ""
    """What a retraining without rows of this ranking showed, of all of them together; "" where none was made."""
    truncated: Truncated | None = None
    """What of the query was cut away to fit; None where all of it was read."""
    complete: bool = True
    """False: the model's own answer (`generated`) was stopped at the limit of new tokens."""


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

    def without_text(self) -> TraceResult:
        """The result without what comes from the text of training rows: prompts, responses, words and phrases."""

        def bare(query: QueryResult) -> QueryResult:
            hits = tuple(replace(hit, prompt="", response="", words=None) for hit in query.hits)
            return replace(query, hits=hits, phrases=())

        return replace(self, queries=tuple(map(bare, self.queries)))

    def to_json(self, path: str | Path | None = None, *, show_text: bool = True) -> str:
        """The JSON text; also written to `path` when one is given. show_text: as for `without_text`."""
        content = (self if show_text else self.without_text()).to_dict()
        return _written(json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n", path)

    def to_html(self, path: str | Path | None = None, *, title: str | None = None, show_text: bool = True) -> str:
        """The self-contained page, see `whence.report.html.render_page`; also written to `path` when one is given."""
        from whence.report.html import render_page

        return _written(render_page(self, title=title, show_text=show_text), path)

    def to_markdown(self, path: str | Path | None = None, *, show_text: bool = True) -> str:
        """The result as Markdown; also written to `path` when one is given."""
        from whence.report.markdown import render_markdown

        return _written(render_markdown(self, show_text=show_text), path)

    def __str__(self) -> str:
        from whence.report.terminal import render_text

        return render_text(self)

    def _repr_html_(self) -> str:
        from whence.report.notebook import render_html

        return render_html(self)


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    return text
