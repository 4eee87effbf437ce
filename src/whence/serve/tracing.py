"""Traces, words and answers: everything that asks the model. Each function here runs in the worker's thread."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from whence.data import Json
from whence.errors import InputError
from whence.index import BlockReader, index_hash, n_row_changes
from whence.model import stream_answer
from whence.results import HitWords, QueryResult, TraceResult
from whence.serve.large import large_integers
from whence.serve.state import Object, State
from whence.serve.worker import Task
from whence.trace import Explainer, Query, RankedBatch, Tracer, TraceSettings

KEPT_RANKINGS = 4
"""Latest rankings that are kept in memory for their words; of others the query is ranked again."""
MOST_WORDS = 10
"""Rows whose words are explained by one request."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One query and what is asked of it, as the API takes it."""

    prompt: str | Sequence[dict[str, str]]
    response: str | None
    system: str | None
    settings: TraceSettings
    complete: bool = True
    """Whether the response ends with its turn."""

    def query(self, response: str | None = None) -> Query:
        """The query, with a response that has been given since. Raises InputError."""
        found = Query.of(self.prompt, self.response if response is None else response, system=self.system)
        return replace(found, complete=self.complete)


class Tracing:
    """The model's work, for one thread. show_text: False leaves the texts of rows out of results."""

    def __init__(self, tracer: Tracer, state: State, *, show_text: bool) -> None:
        self._tracer, self._state, self._show_text = tracer, state, show_text
        self._blocks = BlockReader(tracer.index)
        self._explainer = Explainer(tracer.index, tracer.models)
        self._rankings: OrderedDict[str, RankedBatch] = OrderedDict()

    def generate(self, task: Task, asked: Asked, max_new_tokens: int) -> Json:
        """The model's greedy answer; `text` events bring it piece by piece."""
        tracer = self._tracer
        [query] = tracer.as_rows([asked.query()])

        def said(piece: str) -> None:
            task.check()
            task.say("text", {"text": piece})

        answer = stream_answer(tracer.loaded, query.prompt_ids(tracer.encoder), said, max_new_tokens=max_new_tokens)
        return {"text": answer.text, "complete": answer.complete}

    def trace(self, task: Task, asked: Asked, request: Object) -> Json:
        """The ranking with its verdict, kept among the queries; a `ranked` event brings the rows before the verdict."""
        tracer, settings = self._tracer, asked.settings
        ranked = self._ranked(task, asked, asked.query())
        if settings.verdict:
            plain = next(iter(tracer.explain(ranked, None, replace(settings, words=0))))
            task.say("ranked", self._content(plain))
        verdicts = tracer.judge(ranked, settings, progress=task.progress) if settings.verdict else None
        task.check()
        [result] = tracer.explain(ranked, verdicts, settings, explainer=self._explainer_for(settings))
        manifest = tracer.index.manifest
        whole = TraceResult(str(tracer.index.path), *self._made_by(), (result,), index_hash(manifest)).to_dict()
        id = self._state.add_query(request, whole, n_row_changes(manifest))
        self._keep(id, ranked)
        return {"id": id, **self._content(result)}

    def words(self, task: Task, id: str, asked: Asked, found: TraceResult, ranks: Sequence[int]) -> Json:
        """The words of these rows of a kept query, and of the query itself against them; kept with the query.

        Raises InputError for a rank that the query has no row of.
        """
        result = found.queries[0]
        if not 1 <= len(set(ranks)) <= MOST_WORDS or not all(1 <= rank <= len(result.hits) for rank in ranks):
            raise InputError(
                f"Words of {len(set(ranks))} rows.",
                f"Expected 1 to {MOST_WORDS} ranks from 1 to {len(result.hits)}.",
                "Ask for the words of rows that the query has.",
            )
        ranked = self._rankings.get(id)
        if ranked is None:
            settings = replace(asked.settings, verdict=False)
            ranked = self._ranked(
                task, replace(asked, settings=settings), replace(asked.query(result.response), complete=result.complete)
            )
            self._keep(id, ranked)
        task.check()
        chosen = [ranked.matches[0][rank - 1] for rank in sorted(set(ranks))]
        settings = replace(asked.settings, verdict=False, words=len(chosen))
        part = replace(ranked, matches=[chosen])
        flagged = result.verdict.flagged if result.verdict else ()
        explainer = self._explainer_for(settings)
        [own] = self._tracer.explain(part, None, settings, explainer=explainer, flagged=flagged)
        expected = [result.hits[rank - 1].id for rank in sorted(set(ranks))]
        if [hit.id for hit in own.hits] != expected:
            raise InputError(
                "The index's rows have changed since this query was asked, and other rows rank there now.",
                "Words are of the rows that the query was answered with.",
                "Ask the query again.",
            )
        by_id = {hit.id: hit.words for hit in own.hits}
        # Another request may have explained other rows meanwhile; this thread is the only one that writes words.
        kept = self._state.query(id)
        latest = TraceResult.from_dict(kept.result).queries[0] if kept is not None else result
        self._state.set_result(id, replace(found, queries=(_with_words(latest, own, by_id),)).to_dict())
        return self._content(own)

    def _ranked(self, task: Task, asked: Asked, query: Query) -> RankedBatch:
        tracer, settings = self._tracer, asked.settings
        tracer.index.check_where(settings.where)
        answers = tracer.answer(tracer.as_rows([query]), settings)
        task.progress("reading the query", 0, None)
        batch = tracer.encode(answers, settings)
        task.progress("ranking the rows", 0, None)
        return tracer.rank(batch, settings, blocks=self._blocks if settings.where is None else None)

    def _explainer_for(self, settings: TraceSettings) -> Explainer | None:
        return self._explainer if settings.where is None else None

    def _keep(self, id: str, ranked: RankedBatch) -> None:
        # Scores of every row are for the verdict alone, which has been given.
        self._rankings[id] = replace(ranked, scores=None, baseline=None, blocks=self._blocks)
        while len(self._rankings) > KEPT_RANKINGS:
            self._rankings.popitem(last=False)

    def _made_by(self) -> tuple[str, str | None]:
        settings = self._tracer.loaded.settings
        return settings.model, settings.adapter

    def _content(self, result: QueryResult) -> Object:
        return shown(TraceResult("", "", None, (result,)), show_text=self._show_text)


def shown(result: TraceResult, *, show_text: bool) -> Object:
    """The first query of a result as the documented JSON (docs/json.md); texts that are not shown are absent.

    Beside it its large integers, see `whence.serve.large`.
    """
    content = (result if show_text else result.without_text()).to_dict()["queries"]
    assert isinstance(content, list)
    assert isinstance(content[0], dict)
    hits = content[0]["hits"]
    if not show_text and isinstance(hits, list):
        for hit in hits:
            assert isinstance(hit, dict)
            del hit["prompt"], hit["response"], hit["words"]
    return {"result": content[0], "large_integers": large_integers(content[0])}


def _with_words(result: QueryResult, own: QueryResult, by_id: dict[str, HitWords | None]) -> QueryResult:
    """The kept result with the words that have been found now. Its own are those against the most first rows."""
    hits = tuple(replace(hit, words=by_id.get(hit.id) or hit.words) for hit in result.hits)
    explained = sum(1 for _ in takewhile(lambda hit: hit.words, result.hits))
    first = [hit.id for hit in result.hits[: max(explained, len(own.hits))]]
    if result.response_words is not None and [hit.id for hit in own.hits] != first:
        return replace(result, hits=hits)
    return replace(
        result,
        hits=hits,
        prompt_words=own.prompt_words,
        response_words=own.response_words,
        phrases=own.phrases or result.phrases,
    )
