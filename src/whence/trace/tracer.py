"""From a bad output to its candidate causes: encode the query, extract its signature, rank the index's rows.

What a trace adds to the ranking lives in rooms of its own: `second_stage` (a span, a wanted answer), `diagnosis`
(verdict, confounds), `hit_words` (words and phrases).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from whence.data import EncodedTurn, Encoder
from whence.errors import InputError, MismatchError
from whence.index import ADAPTER_OFF, Index, Match, check_model, default_form, default_layers, search
from whence.model import LoadedModel, ModelSettings, check_base, fingerprint, generate, load_model, weights_hash
from whence.results import Hit, QueryResult, TraceResult
from whence.scoring import FormLayers, ScoreForm, score_form
from whence.signatures import Extractor, Signatures
from whence.trace.explain.explainer import Explainer
from whence.trace.query.queries import Query
from whence.trace.rank import ranking as second_stage
from whence.trace.rank.ranking import Focus
from whence.trace.settings import ANSWER_TOKENS, Progress, TraceOptions, TraceSettings
from whence.trace.verdict.calibration_data import Evidence
from whence.trace.verdict.judge import Asked, Diagnosis, Judged

QUERIES_AT_ONCE = 256
"""Queries answered, extracted and searched together; their signatures are held at once."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A query with the response that is traced, and the part of it that is asked about."""

    query: Query
    response: str
    encoded: EncodedTurn
    focus: Focus | None = None


class Tracer:
    """Answers queries from one index, with the model it was built with.

    index:  an open index, or its folder.
    model:  a model to use instead of the one that the manifest names: a folder or hub name (when the model has moved),
            or a loaded model. It must be the same one: weights, adapter, tokenizer and template are compared by hash.
    base:   the model before fine-tuning: a folder or hub name, or a loaded model. Left out: the one that the index was
            built with. A model with an adapter needs none, it is compared with itself, the adapter turned off.

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
        device: str = "auto",
    ) -> None:
        self.index = index if isinstance(index, Index) else Index.open(index)
        manifest = self.index.manifest
        if isinstance(model, LoadedModel):
            self.loaded = model
        else:
            self.loaded = load_model(_settings(self.index, model, adapter, device))
        template = manifest.settings.get("template")
        self.encoder = Encoder(
            self.loaded.tokenizer,
            template=template if isinstance(template, str) else None,
            max_length=manifest.max_length,
        )
        check_model(manifest, fingerprint(self.loaded, self.encoder.template))
        base, found = self._checked_base(base)
        self._base = None if manifest.base == ADAPTER_OFF else base
        self._extractor = Extractor(
            self.loaded,
            vectors=manifest.places(),
            max_tokens=manifest.max_tokens,
            contrast=bool(manifest.base),
            base=self._base,
        )
        self._evidence = Evidence(self.index, self.loaded, self.encoder, self._extractor, base, found)
        self._diagnosis = Diagnosis(self.index, self._evidence)

    def _checked_base(self, base: LoadedModel | str | None) -> tuple[LoadedModel | None, str]:
        """The base that is given or that the index was built with, and the hash of its weights; None and "" without.

        Raises MismatchError for one that cannot be the base, or is not the index's.
        """
        manifest = self.index.manifest
        contrasted = manifest.base not in ("", ADAPTER_OFF)
        if base is None and contrasted:
            base = str(manifest.settings["base"])
        if isinstance(base, str):
            base = load_model(
                self.loaded.settings.model_copy(update={"model": base, "adapter": None, "revision": None})
            )
        if base is None:
            return None, ""
        found = weights_hash(base)
        check_base(self.loaded, base, weights=manifest.hashes.weights, base_weights=found)
        if contrasted and found != manifest.base:
            raise MismatchError(
                f"{base.settings.model} is not the base that the index was built with.",
                f"Expected weights {manifest.base}; these are {found}.",
                "Leave --base out, or build the index again with this one.",
            )
        return base, found

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
        """The k rows that rank highest for each query.

        options:  see `whence.trace.settings.TraceSettings`.
        progress: called with (name of the stage, how many are done, how many there are where that is known).

        The first trace with a verdict has the model answer reference prompts and reads what fine-tuning taught each
        row; both are kept beside the index's manifest for the next.

        Raises:
            InputError: an unknown method, a weight for a method without one, a bad filter, a span that is not in a
                response, or another option that cannot be.
            MismatchError: a layer that the index does not have.
            EncodingError: a query that the template cannot render.
        """
        settings, report = TraceSettings(**options), progress or (lambda stage, done, total: None)
        form, roles = self._form(settings)
        if not queries:
            raise InputError("There is no query.", "At least one is needed.", "Give --prompt or --queries.")
        settings.check_number(len(queries))
        n_rows = self.index.count_rows(settings.where)
        changes = self._evidence.token_changes
        explainer = Explainer(self.index, self.loaded, self.encoder, form, roles, settings.where, self._base, changes)
        answered: list[QueryResult] = []
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            asked = self._ask(queries[start : start + QUERIES_AT_ONCE], settings, start if len(queries) > 1 else None)
            signatures = self.signatures([one.encoded for one in asked])
            matches = self._ranked(asked, signatures, form, roles, settings)
            judged: Sequence[Judged | None] = [None] * len(asked)
            if settings.verdict:
                together = Asked([one.encoded for one in asked], signatures, matches)
                judged = self._diagnosis.judge(together, form, roles, settings, report)
            for one, ranked, said in zip(asked, matches, judged, strict=True):
                result = self._result(one, ranked, form, roles, n_rows, said, settings.wanted)
                if settings.words:
                    positions = one.focus.target.positions if one.focus else None
                    result = explainer.explained(result, one.encoded, ranked, settings.words, positions)
                answered.append(result)
                report("tracing", len(answered), len(queries))
        loaded = self.loaded.settings
        return TraceResult(str(self.index.path), loaded.model, loaded.adapter, tuple(answered))

    def signatures(self, turns: Sequence[EncodedTurn]) -> dict[int, Signatures]:
        """Signatures of encoded queries at every layer of the index."""
        return self._extractor.extract(turns, labels=lambda i: f"query {i + 1}").layers

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

    def _ask(self, queries: Sequence[Query], settings: TraceSettings, first: int | None) -> list[_Question]:
        """The queries with their responses; those without one are answered by the model now.

        first: number of the first, where errors must name their query.
        """
        silent = [query for query in queries if query.response is None]
        prompts = [self.encoder.render_prompt(query.turns) for query in silent]
        answers = iter(generate(self.loaded, prompts, max_new_tokens=settings.answer_tokens) if prompts else [])
        asked = []
        for number, query in enumerate(queries):
            response, complete = query.response, True
            if response is None:
                answer = next(answers)
                response, complete = answer.text, answer.complete
                if not response.strip():
                    raise InputError(
                        f"The model answers nothing to {query.prompt[:80]!r}.",
                        "A trace needs a response.",
                        "Give the one that went wrong with --response.",
                    )
            encoded = self.encoder.encode_query(query.turns, response, complete=complete)
            try:
                focus = second_stage.focus_of(self.loaded, self.encoder, query, encoded, settings)
            except InputError as error:
                where = "" if first is None else f"Query {first + number + 1}, {query.prompt[:80]!r}: "
                raise type(error)(where + error.found, error.expected, error.fix) from error
            asked.append(_Question(query, response, encoded, focus))
        return asked

    def _ranked(
        self,
        asked: Sequence[_Question],
        signatures: Mapping[int, Signatures],
        form: ScoreForm,
        roles: FormLayers,
        settings: TraceSettings,
    ) -> list[list[Match]]:
        k = max(second_stage.first_stage_rows(settings.k, one.focus) for one in asked)
        found = search(self.index, signatures, method=form, k=k, roles=roles, where=settings.where)
        return [
            second_stage.second_stage(
                self.index, self.loaded, self.encoder, one.focus, matches, settings.k, taught=form.by_learned_fraction
            )
            for one, matches in zip(asked, found, strict=True)
        ]

    def _result(
        self,
        asked: _Question,
        matches: Sequence[Match],
        form: ScoreForm,
        roles: FormLayers,
        n_rows: int,
        judged: Judged | None,
        wanted: str | None,
    ) -> QueryResult:
        records = self.index.fetch([match.record for match in matches])
        confounds = judged.confounds if judged and judged.confounds else [{}] * len(matches)
        chances = judged.chances if judged else {}
        hits = []
        for rank, (match, record, about) in enumerate(zip(matches, records, confounds, strict=True), 1):
            p, q = chances.get(match.row, (None, None))
            hits.append(
                Hit(
                    rank=rank,
                    score=match.score,
                    id=record.id,
                    file=record.file,
                    line=record.line,
                    turn=record.turn,
                    prompt=record.prompt,
                    response=record.response,
                    metadata=record.metadata,
                    p_value=p,
                    q_value=q,
                    confounds=about,
                )
            )
        return QueryResult(
            prompt=asked.query.prompt,
            response=asked.response,
            method=form.name,
            method_version=form.version + (second_stage.VERSION if asked.focus else ""),
            layer=form.described(roles),
            hits=tuple(hits),
            n_rows=n_rows,
            generated=asked.query.response is None,
            span=asked.focus.span if asked.focus else None,
            wanted=wanted,
            verdict=judged.verdict if judged else None,
            confound=judged.sentence if judged else "",
        )


def _settings(index: Index, model: str | None, adapter: str | None, device: str) -> ModelSettings:
    """How the index's build loaded its model, with what the caller gives put in its place."""
    manifest, kept = index.manifest, index.manifest.settings
    return ModelSettings.model_validate(
        {
            "model": model or manifest.model,
            "adapter": adapter or manifest.adapter,
            "dtype": manifest.dtype,
            "device": device,
            "quantization": manifest.quantization,
            "revision": kept.get("revision") if model is None else None,
            "blocks": kept.get("blocks"),
            "trust_remote_code": bool(kept.get("trust_remote_code")),
        }
    )


__all__ = ["ANSWER_TOKENS", "Tracer"]
