"""From a bad output to its candidate causes, in five stages.

    answer -> encode -> rank -> judge -> explain
    query/    query/    rank/   verdict/ explain/      the room where each is done

Each stage takes what the one before it gives, so a caller may stop behind any of them, or look at what is between:

    settings = TraceSettings(k=20)
    answers = tracer.answer(queries, settings)          # responses, encoded as the model reads them
    batch = tracer.encode(answers, settings)            # signatures and gains: all that is read of both models
    ranked = tracer.rank(batch, settings)               # the index, scanned once
    verdicts = tracer.judge(ranked, settings)           # which rows are flagged, and what else explains their rank
    results = tracer.explain(ranked, verdicts, settings)  # results with their words, one after the other
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from whence.data import EncodedTurn, Encoder, Json
from whence.errors import InputError, MismatchError
from whence.index import AnnSearch, BlockReader, Index, Manifest, default_form, default_layers, index_hash
from whence.model import LoadedModel, Placement
from whence.progress import Progress
from whence.results import QueryResult, TraceResult
from whence.scoring import FormLayers, ScoreForm, score_form
from whence.signatures import Signatures
from whence.trace.explain.explainer import Explainer
from whence.trace.query.batch import ModelAnswers, QueryBatch, answered, check_queries, query_targets
from whence.trace.query.models import TracedModels, open_models
from whence.trace.query.queries import Query
from whence.trace.query_result import query_results
from whence.trace.rank.ranking import RankedBatch, ranked
from whence.trace.settings import ANSWER_TOKENS, TraceOptions, TraceSettings
from whence.trace.verdict.calibration_data import CalibrationData
from whence.trace.verdict.judge import Judge, QueryVerdict

QUERIES_AT_ONCE = 256
"""Queries that go through the stages together; their signatures, and every row's score for each, are held at once."""


def _silent(stage: str, done: int, total: int | None) -> None:
    """Progress that is not shown."""


class Tracer:
    """Answers queries from one index, with the model it was built with.

    index:  an open index, or its folder.
    model:  a model to use instead of the one that the manifest names: a folder or hub name (when the model has moved),
            or a loaded model. It must be the same one: weights, adapter, tokenizer and template are compared by hash.
    base:   the model before fine-tuning: a folder or hub name, or a loaded model. Left out: the one that the index was
            built with. A model with an adapter needs none, it is compared with itself, the adapter turned off.
    device: where to load them; `whence.Placement(device_map="auto")` spreads each over several devices.

    Raises:
        IndexFolderError, ModelError: the index or a model cannot be opened.
        MismatchError: the model is not the one that the index was built with (both hashes are in the message), or the
            base cannot be its base.
    """

    def __init__(
        self,
        index: Index | str | Path,
        *,
        model: LoadedModel | str | None = None,
        adapter: str | None = None,
        base: LoadedModel | str | None = None,
        device: str | Placement = "auto",
    ) -> None:
        index = index if isinstance(index, Index) else Index.open(index)
        self._take(index, open_models(index, model, adapter, base, device))

    def reopened(self) -> Tracer:
        """A tracer of the index as it is on disk now, after rows came or went or files were compacted; of these models.

        Raises:
            IndexFolderError: it cannot be opened.
            MismatchError: it was built anew since, or vectors were added to it: it is to be opened with its models.
        """
        index = Index.open(self.index.path)
        if _built_as(index.manifest) != _built_as(self.index.manifest):
            raise MismatchError(
                f"The index {index.path} is another one now: it was built anew, or vectors were added to it.",
                "Expected the index that was opened, with other rows at most.",
                "Open it again.",
            )
        found = copy(self)
        found._take(index, self.models)
        return found

    def _take(self, index: Index, models: TracedModels) -> None:
        self.index, self.models = index, models
        self._search: AnnSearch | None = None
        self._judge = Judge(index, CalibrationData(index, models))

    @property
    def loaded(self) -> LoadedModel:
        """The fine-tuned model."""
        return self.models.loaded

    @property
    def encoder(self) -> Encoder:
        """What turns messages into the model's tokens, as it did for the index."""
        return self.models.encoder

    def trace(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        response: str | None = None,
        **options: Unpack[TraceOptions],
    ) -> TraceResult:
        """The training rows that rank highest for one output; see `trace_many`.

        prompt:   text, or messages with role and content.
        response: what the model said; None has it answer now, greedily.
        options:  k, method, span, wanted, words, verdict and others; see `whence.trace.settings.TraceSettings`.
        """
        return self.trace_many([Query.of(prompt, response)], **options)

    def trace_many(
        self, queries: Sequence[Query], *, progress: Progress | None = None, **options: Unpack[TraceOptions]
    ) -> TraceResult:
        """The k rows that rank highest for each query; see `iter_traces`, which gives them one after the other."""
        found = tuple(self.iter_traces(queries, progress=progress, **options))
        settings = self.loaded.settings
        return TraceResult(
            str(self.index.path), settings.model, settings.adapter, found, index_hash(self.index.manifest)
        )

    def iter_traces(
        self, queries: Sequence[Query], *, progress: Progress | None = None, **options: Unpack[TraceOptions]
    ) -> Iterator[QueryResult]:
        """The result of each query, in their order, as soon as it is there.

        options:  see `whence.trace.settings.TraceSettings`.
        progress: called with (name of the stage, how many are done, how many there are where that is known).

        `QUERIES_AT_ONCE` of them are answered, read and ranked together. The first verdict on an index has the model
        answer reference prompts, scores them, and reads the log-likelihood gain of each row; all is kept beside the
        index's manifest for the next.

        Raises:
            InputError: an unknown method, a weight for a method without one, a bad filter, a span that is not in a
                response, or another option that cannot be.
            MismatchError: a layer that the index does not have.
            EncodingError: a query that the template cannot render.
        """
        settings, report = TraceSettings(**options), progress or _silent
        queries = self.as_rows(queries)
        if settings.references is not None:
            settings = replace(settings, references=self.as_rows(settings.references))
        self._form(settings)
        if not queries:
            raise InputError("There is no query.", "At least one is needed.", "Give --prompt or --queries.")
        settings.check_number(len(queries))
        self.index.check_where(settings.where)
        if len(queries) > 1:
            # A query that cannot be asked is found before the others are traced.
            check_queries(self.encoder, queries, span=settings.span, span_tokens=settings.span_tokens)
        return self._traces(queries, settings, report)

    def _traces(self, queries: Sequence[Query], settings: TraceSettings, report: Progress) -> Iterator[QueryResult]:
        # One reader for all batches: an index that fits its memory is read from disk once.
        blocks, explainer = self._blocks(settings), self._explainer(settings)
        done = 0
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            piece = queries[start : start + QUERIES_AT_ONCE]
            answers = self.answer(piece, settings, first=start if len(queries) > 1 else None)
            found = self.rank(self.encode(answers, settings), settings, blocks=blocks)
            verdicts = self.judge(found, settings, progress=report) if settings.verdict else None
            for result in self.explain(found, verdicts, settings, explainer=explainer):
                done += 1
                report("tracing", done, len(queries))
                yield result

    def answer(
        self, queries: Sequence[Query], settings: TraceSettings | None = None, *, first: int | None = None
    ) -> ModelAnswers:
        """Stage 1: the queries with their responses; those without one are answered by the model now, greedily.

        first: number of the first query among all that are traced, where errors must name theirs.

        Raises:
            InputError: a query that the model answers with nothing.
            EncodingError: a query that the template cannot render.
        """
        settings = settings or TraceSettings()
        models = self.models
        return answered(models.loaded, models.encoder, queries, answer_tokens=settings.answer_tokens, first=first)

    def encode(self, answers: ModelAnswers, settings: TraceSettings | None = None) -> QueryBatch:
        """Stage 2: everything that the stages behind want of both models about the queries, read once.

        Raises:
            InputError: a span that is not in a response, or a wanted answer that cannot be compared.
            NonFiniteError: a signature or a log-probability that is NaN or infinite.
        """
        settings = settings or TraceSettings()
        targets = query_targets(
            self.loaded,
            self.encoder,
            answers,
            span=settings.span,
            span_tokens=settings.span_tokens,
            wanted=settings.wanted,
        )
        signatures, shifts = self.models.read(answers.turns, shifts=settings.verdict or settings.words > 0)
        return QueryBatch(answers, signatures, shifts, targets)

    def rank(
        self, batch: QueryBatch, settings: TraceSettings | None = None, *, blocks: BlockReader | None = None
    ) -> RankedBatch:
        """Stage 3: each query's best rows, and for a verdict every row's score, in one scan of the index.

        blocks: a reader of this index under the settings' filter, for several batches to share.

        Raises:
            InputError: an unknown method or a bad filter.
            MismatchError: a layer or a vector that the index does not have.
            NonFiniteError: a value that is NaN or infinite, where rows are reranked.
        """
        settings = settings or TraceSettings()
        form, roles = self._form(settings)
        return ranked(
            blocks or self._blocks(settings),
            self.loaded,
            self.encoder,
            batch,
            form,
            roles,
            k=settings.k,
            every_row=settings.verdict,
            baseline=settings.verdict and settings.confounds and self._judge.shows_confounds(),
            recall=settings.recall,
            search=lambda: self._ann(form, roles),
        )

    def judge(
        self, ranked: RankedBatch, settings: TraceSettings | None = None, *, progress: Progress | None = None
    ) -> list[QueryVerdict]:
        """Stage 4: which rows are flagged for each query, and what else could explain each rank.

        The settings are those of the ranking, with a verdict. Raises NonFiniteError.
        """
        return self._judge.verdicts(ranked, settings or TraceSettings(), progress or _silent)

    def explain(
        self,
        ranked: RankedBatch,
        verdicts: Sequence[QueryVerdict] | None = None,
        settings: TraceSettings | None = None,
        *,
        explainer: Explainer | None = None,
        flagged: Sequence[str] | None = None,
    ) -> Iterator[QueryResult]:
        """Stage 5: each query's result, with the words of its first `settings.words` hits, one after the other.

        verdicts:  what `judge` said; None leaves it out. explainer: one to share between several batches.
        flagged:   ids of rows that an earlier verdict flagged, by which words are weighed; None: the verdicts' own.

        Raises:
            InputError: a form that the word methods cannot take apart.
            NonFiniteError: a value that is NaN or infinite.
        """
        settings = settings or TraceSettings()
        n_rows = self.index.count_rows(settings.where)
        told: Sequence[QueryVerdict | None] = verdicts or [None] * len(ranked)
        results = query_results(self.index, ranked, told, settings, n_rows, max_length=self.encoder.max_length)
        explainer = explainer or self._explainer(settings)
        for number, result in enumerate(results):
            yield explainer.explained(result, ranked, number, settings, flagged) if settings.words else result

    def signatures(self, turns: Sequence[EncodedTurn]) -> dict[int, Signatures]:
        """Signatures of encoded queries, every vector that the index holds."""
        return self.models.read(turns, shifts=False)[0]

    def as_rows(self, queries: Sequence[Query]) -> list[Query]:
        """The queries as the index's rows were read: bare prompts without template, where the rows are plain text."""
        plain = self.index.manifest.data.is_plain_text
        return [query.as_document() if plain else query for query in queries]

    def _ann(self, form: ScoreForm, roles: FormLayers) -> AnnSearch:
        """The approximate search, opened once."""
        if self._search is None:
            self._search = AnnSearch(self.index, form, roles)
        return self._search

    def _blocks(self, settings: TraceSettings) -> BlockReader:
        return BlockReader(self.index, settings.where)

    def _explainer(self, settings: TraceSettings) -> Explainer:
        return Explainer(self.index, self.models, settings.where)

    def _form(self, settings: TraceSettings) -> tuple[ScoreForm, FormLayers]:
        manifest, layer = self.index.manifest, settings.layer
        method = settings.method or default_form(manifest, layer).name
        form = score_form(method, weight=settings.weight)
        if layer is None:
            return form, default_layers(form, manifest)
        if layer not in self.index.layers:
            raise MismatchError(
                f"The index has no layer {layer}.",
                f"It has {', '.join(map(str, self.index.layers))}.",
                "Leave --layer out, or build an index with that layer.",
            )
        return form, form.all_at(layer)


def _built_as(manifest: Manifest) -> list[Json]:
    """What decides which models and vectors an index is asked with, and which index it is; no change of its rows."""
    of_rows = ("data content", "filter columns")
    return [index_hash(manifest), {name: one for name, one in manifest.identity().items() if name not in of_rows}]


__all__ = ["ANSWER_TOKENS", "Tracer"]
