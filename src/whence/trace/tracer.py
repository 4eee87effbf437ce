"""From a bad output to its candidate causes: encode the query, extract its signature, rank the index's rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn
from whence.errors import InputError, MismatchError
from whence.index.forms import LayerRoles, ScoreForm
from whence.index.manifest import check_model
from whence.index.search import Match, default_roles, search
from whence.index.store import Index
from whence.model.fingerprint import fingerprint
from whence.model.generate import generate
from whence.model.loading import LoadedModel, ModelSettings, load_model
from whence.results import Hit, QueryResult, TraceResult
from whence.signatures.extract import Extractor
from whence.signatures.types import Signatures
from whence.trace.queries import Query
from whence.trace.scoring import DEFAULT_METHOD, score_form

QUERIES_AT_ONCE = 256
"""Queries answered, extracted and searched together; their signatures are held at once."""

ANSWER_TOKENS = 128


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query with the response that is traced."""

    query: Query
    response: str
    generated: bool
    encoded: EncodedTurn


class Tracer:
    """Answers queries from one index, with the model it was built with.

    index:  an open index, or its folder.
    model:  a model to use instead of the one that the manifest names: a folder or hub name (when the model has moved),
            or a loaded model. It must be the same one: weights, adapter, tokenizer and template are compared by hash.

    Raises:
        IndexFolderError, ModelError: the index or the model cannot be opened.
        MismatchError: the model is not the one that the index was built with; both hashes are in the message.
    """

    def __init__(
        self,
        index: Index | str | Path,
        *,
        model: LoadedModel | str | None = None,
        adapter: str | None = None,
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
        self._extractor = Extractor(self.loaded, self.index.layers, max_tokens=manifest.max_tokens)

    def trace(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        response: str | None = None,
        *,
        k: int = 10,
        method: str = DEFAULT_METHOD,
        weight: float | None = None,
        layer: int | None = None,
        where: str | None = None,
    ) -> TraceResult:
        """The k training rows that rank highest for one output; see `trace_many`.

        prompt:   text, or messages with role and content.
        response: what the model said; None has it answer now, greedily.
        """
        query = Query.of(prompt, response)
        return self.trace_many([query], k=k, method=method, weight=weight, layer=layer, where=where)

    def trace_many(
        self,
        queries: Sequence[Query],
        *,
        k: int = 10,
        method: str = DEFAULT_METHOD,
        weight: float | None = None,
        layer: int | None = None,
        where: str | None = None,
        answer_tokens: int = ANSWER_TOKENS,
        progress: Callable[[int, int], None] | None = None,
    ) -> TraceResult:
        """The k rows that rank highest for each query.

        method: a name in `whence.trace.scoring.SCORES`. weight: the share of h in `rept-balanced`.
        layer:  one of the index's layers for both halves; None takes the method's own.
        where:  an SQL condition on the index's columns, such as "source = 'vendor_b'".

        Raises:
            InputError: an unknown method, a weight for a method without one, a bad filter, k below 1.
            MismatchError: a layer that the index does not have.
            EncodingError: a query that the template cannot render.
        """
        form = score_form(method, weight=weight)
        roles = default_roles(form, self.index.manifest) if layer is None else LayerRoles(layer, layer)
        if layer is not None and layer not in self.index.layers:
            raise MismatchError(
                f"The index has no layer {layer}.",
                f"It has {', '.join(map(str, self.index.layers))}.",
                "Leave --layer out, or build an index with that layer.",
            )
        if not queries:
            raise InputError("There is no query.", "At least one is needed.", "Give --prompt or --queries.")
        n_rows = self.index.count_rows(where)
        answered: list[QueryResult] = []
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            asked = self._ask(queries[start : start + QUERIES_AT_ONCE], answer_tokens)
            signatures = self.signatures([one.encoded for one in asked])
            found = search(self.index, signatures, method=form, k=k, roles=roles, where=where)
            for one, matches in zip(asked, found, strict=True):
                answered.append(self._result(one, matches, form, roles, n_rows))
            if progress is not None:
                progress(len(answered), len(queries))
        settings = self.loaded.settings
        return TraceResult(str(self.index.path), settings.model, settings.adapter, tuple(answered))

    def signatures(self, turns: Sequence[EncodedTurn]) -> dict[int, Signatures]:
        """Signatures of encoded queries at every layer of the index."""
        return self._extractor.extract(turns, labels=lambda i: f"query {i + 1}").layers

    def _ask(self, queries: Sequence[Query], answer_tokens: int) -> list[_Asked]:
        """The queries with their responses; those without one are answered by the model now."""
        silent = [query for query in queries if query.response is None]
        prompts = [self.encoder.render_prompt(query.turns) for query in silent]
        answers = iter(generate(self.loaded, prompts, max_new_tokens=answer_tokens) if prompts else [])
        asked = []
        for query in queries:
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
            asked.append(_Asked(query, response, query.response is None, encoded))
        return asked

    def _result(
        self, asked: _Asked, matches: Sequence[Match], form: ScoreForm, roles: LayerRoles, n_rows: int
    ) -> QueryResult:
        records = self.index.fetch([match.record for match in matches])
        hits = tuple(
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
            )
            for rank, (match, record) in enumerate(zip(matches, records, strict=True), 1)
        )
        return QueryResult(
            prompt=asked.query.prompt,
            response=asked.response,
            method=form.name,
            method_version=form.version,
            layer=_layers_read(form, roles),
            hits=hits,
            n_rows=n_rows,
            generated=asked.generated,
        )


def _layers_read(form: ScoreForm, roles: LayerRoles) -> str:
    """The layers that the form reads, as a person writes them: "5", or "h:5,g:8"."""
    read = {role[0]: layer for (role, _), (layer, _) in zip(form.needs, form.reads(roles), strict=True)}
    return (
        str(next(iter(read.values())))
        if len(set(read.values())) == 1
        else ",".join(f"{r}:{n}" for r, n in read.items())
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
