"""Everything that one server holds open: the index, the model's worker, the state, jobs, exports and counters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from importlib.metadata import version
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from whence.confirmation import CONTROLS, check_enough, training_base
from whence.data import Json
from whence.errors import InputError, WhenceError
from whence.files import hash_of
from whence.index import Manifest, default_form, default_layers, holds, index_hash, n_row_changes, reading_note
from whence.object_path import is_remote
from whence.results import TraceResult
from whence.scoring import SCORES
from whence.serve.audits import Audits
from whence.serve.current import Current, Opened
from whence.serve.exports import Exports
from whence.serve.failures import Redaction, RefusedError, missing
from whence.serve.jobs import Jobs, can_train, opened_with
from whence.serve.reading import Rows
from whence.serve.schemas import AuditRequest, ConfirmRequest, Prompt, TraceRequest
from whence.serve.settings import ServerSettings
from whence.serve.state import KeptQuery, Object, State
from whence.serve.tracing import Asked, Tracing, shown
from whence.serve.worker import Worker
from whence.trace import Tracer, TraceSettings, read_queries


def state_folder(index: Path) -> Path:
    """Where a server keeps its state: beside the index, under its name with `.serve` behind it."""
    if is_remote(index):
        raise InputError(
            f"The index {index} is not on this machine.",
            "whence serve keeps what is asked and marked beside the index.",
            "Copy the index to a folder here, and serve that.",
        )
    index = index.absolute()
    return index.with_name(f"{index.name}.serve")


class Service:
    """What the routes of the API call. Raises InputError where the state's folder cannot be used."""

    def __init__(self, tracer: Tracer, settings: ServerSettings) -> None:
        index = tracer.index
        manifest = index.manifest
        self.settings = settings
        folder = state_folder(index.path)
        places = (index.path.absolute(), manifest.model, manifest.adapter, manifest.data.source, folder, settings.base)
        self.redaction = Redaction(places)
        # Rows that came or went are the same index: what was asked before stays.
        self.state = State(folder, index_hash(manifest), hash_of(manifest.identity()))
        self.current = Current(tracer, self._answering)
        self.worker = Worker(self.redaction, settings.queue)
        self.exports = Exports(folder)
        self._base = training_base(manifest, settings.base)
        self.jobs = Jobs(self.state, self.redaction, opened_with(tracer, self._base))
        self.audits = Audits(self.state, self.redaction, show_text=settings.show_text)

    def _answering(self, tracer: Tracer) -> Opened:
        texts = self.settings.show_text
        return Opened(tracer, Rows(tracer.index, show_text=texts), Tracing(tracer, self.state, show_text=texts))

    def close(self) -> None:
        """Ends the threads and closes the state."""
        self.jobs.close()
        self.worker.close()
        self.state.close()

    def health(self) -> Object:
        """See `schemas.Health`."""
        return {
            "version": version("whence"),
            "waiting": self.worker.waiting,
            "busy": self.worker.is_busy,
            "needs_token": self.settings.token is not None,
        }

    def info(self) -> Object:
        """See `schemas.IndexInfo`."""
        opened = self.current.get()
        index, manifest = opened.index, opened.index.manifest
        note = reading_note(manifest)
        rejected = manifest.counts.n_rejected if manifest.counts else 0
        columns: list[Json] = [name for name in index.columns if name not in ("shard", "turns", "metadata")]
        return {
            "name": index.path.absolute().name,
            "model": Path(manifest.model).name,
            "adapter": Path(manifest.adapter).name if manifest.adapter else None,
            "rows": index.n_rows,
            "records": index.n_records,
            "rejected": rejected,
            "method": default_form(manifest, None).name,
            "base": bool(manifest.base),
            "methods": _methods(manifest),
            "columns": columns,
            "facets": opened.rows.facets(),
            "show_text": self.settings.show_text,
            "can_confirm": self._base is not None and can_train(manifest),
            "plain_text": manifest.data.is_plain_text,
            "max_k": self.settings.max_k,
            "notes": [f"{note}."] if note else [],
        }

    def asked(self, request: Prompt) -> Asked:
        """A request as the tracer takes it. Raises InputError, RefusedError."""
        settings = TraceSettings(verdict=False)
        response, complete = None, True
        if isinstance(request, TraceRequest):
            if request.k > self.settings.max_k:
                raise RefusedError(
                    422, f"k is {request.k}.", f"At most {self.settings.max_k} rows are ranked.", "Ask fewer."
                )
            self.current.get().rows.check(request.where)
            span = request.span if isinstance(request.span, str | None) else (request.span[0], request.span[1])
            response, complete = request.response, request.complete
            settings = TraceSettings(
                k=request.k,
                method=request.method,
                where=request.where,
                span=span,
                wanted=request.wanted,
                words=request.words,
                verdict=request.verdict,
                fdr=request.fdr,
            )
        asked = Asked(request.asked(), response, request.system, settings, complete)
        asked.query()  # what is wrong with it is said before it waits
        return asked

    def kept(self, id: str) -> tuple[TraceRequest, TraceResult]:
        """A past query. Raises RefusedError (404; 409 for one of another version)."""
        _, request, result = self._kept(id)
        return request, result

    def _kept(self, id: str) -> tuple[KeptQuery, TraceRequest, TraceResult]:
        found = self.state.query(id)
        if found is None:
            raise missing("query", id)
        try:
            return found, TraceRequest.model_validate(found.request), TraceResult.from_dict(found.result)
        except ValueError as error:
            raise RefusedError(
                HTTPStatus.CONFLICT,
                "The query was kept by another version of whence, and cannot be read.",
                "A past query is read as this version writes it.",
                "Ask it again, and forget this one.",
            ) from error

    def queries(self, offset: int, limit: int) -> Object:
        """See `schemas.QueryPage`."""
        found, total = self.state.queries(offset, limit)
        is_outdated = self._outdated()
        for one in found:
            one["outdated"] = is_outdated(float(str(one["created"])), cast("int | None", one.pop("row_changes")))
        return {"queries": cast("Json", found), "total": total}

    def query(self, id: str) -> dict[str, object]:
        """See `schemas.QueryDetail`. Raises RefusedError as `kept`."""
        found, request, result = self._kept(id)
        outdated = self._outdated()(found.created, found.row_changes)
        own = shown(result, show_text=self.settings.show_text)
        return {"id": id, "request": request, "outdated": outdated, **own}

    def _outdated(self) -> Callable[[float, int | None], bool]:
        """Whether rows came or went since a query; its arguments: `KeptQuery.created` and `row_changes`."""
        try:
            manifest = self.current.get().index.manifest
        except RefusedError:
            return lambda created, changes: True
        last = max((one.when for one in manifest.history if one.change in ("append", "delete")), default="")
        since = datetime.fromisoformat(last).timestamp() if last else -inf
        return lambda created, changes: changes != n_row_changes(manifest) if changes is not None else created < since

    def chosen(self, basket: str | None, rows: Sequence[str] | None) -> list[str]:
        """The rows that a request means, all of them in the index. Raises RefusedError."""
        if (basket is None) == (rows is None):
            raise RefusedError(422, "Both basket and rows, or neither.", "Expected one of them.", "Leave one out.")
        if basket is not None:
            found = self.state.basket(basket)
            if found is None:
                raise missing("basket", basket)
            kept = found["rows"]
            assert isinstance(kept, list)
            rows = [str(row) for row in kept]
        assert rows is not None
        if not rows:
            raise RefusedError(422, "There is no row.", "Expected at least one.", "Put rows into the basket first.")
        self.check_rows(rows)
        return list(dict.fromkeys(rows))

    def check_rows(self, rows: Sequence[str]) -> None:
        """Raises RefusedError (422) for an id that is not in the index."""
        known = self.current.get().rows.known(rows)
        unknown = [row for row in dict.fromkeys(rows) if row not in known]
        if unknown:
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise RefusedError(422, f"The index has no row {unknown[0]}{more}.", "Expected ids of its rows.", "")

    def confirm(self, request: ConfirmRequest) -> Object:
        """Starts a retraining; returns the job. Raises RefusedError, InputError."""
        manifest = self.current.get().index.manifest
        if self._base is None or not can_train(manifest):
            raise RefusedError(
                HTTPStatus.CONFLICT,
                "The model's base or its training settings are not known.",
                "A retraining starts from the model before, with the settings of its run.yaml or whence.yaml.",
                "Start the server with --base BASE, or use whence confirm on the command line.",
            )
        check_enough(len(request.queries))
        rows = self.chosen(request.basket, request.rows)
        public: Object = {**request.model_dump(), "rows": [*rows]}
        internal: Object = {
            "queries": [self._output(id) for id in request.queries],
            "controls": [name for name in CONTROLS if name not in SCORES or name in _methods(manifest)],
        }
        return self._job(self.jobs.start("confirm", public, internal))

    def audit(self, request: AuditRequest) -> Object:
        """Starts an audit; returns the job. Raises RefusedError, InputError; DataError for a log that is none."""
        if (request.queries is None) == (request.log is None):
            raise RefusedError(422, "Both queries and log, or neither.", "Expected one of them.", "Leave one out.")
        self.current.get().rows.check(request.where)
        public: Object = request.model_dump(exclude={"log"})
        outputs = [self._output(id) for id in request.queries or ()]
        internal: Object = {"queries": outputs, "log": None}
        if request.log is None:
            return self._job(self.jobs.start("audit", public | {"n_outputs": len(outputs)}, internal))
        name = f"outputs.{request.format}"
        n_outputs = self._count_outputs(name, request.log, failed=request.failed)
        log = (name, request.log)
        return self._job(self.jobs.start("audit", public | {"n_outputs": n_outputs}, internal | {"log": name}, log=log))

    def _count_outputs(self, name: str, log: str, *, failed: bool) -> int:
        """Outputs of a log: what is wrong with it is said before a job waits."""
        with TemporaryDirectory(prefix="whence-") as folder:
            path = Path(folder) / name
            path.write_text(log, encoding="utf-8", newline="")
            try:
                columns = self.current.get().index.manifest.data.columns
                return len(read_queries(path, columns=columns, failed=failed, keep_silent=True))
            except WhenceError as error:
                parts = (part.replace(str(path), "The log") for part in (error.found, error.expected, error.fix))
                raise InputError(*parts) from error

    def _output(self, id: str) -> Json:
        asked, result = self.kept(id)
        [found] = result.queries
        return {
            "prompt": _json(asked),
            "system": asked.system,
            "response": found.response,
            "complete": found.complete,
        }

    def _job(self, id: str) -> Object:
        job = self.state.job(id)
        assert job is not None
        return job

    def report(self, id: str, *, show_text: bool) -> str:
        """The self-contained page of a past query, which says of one that is outdated that it is. Raises as `kept`."""
        found, _, result = self._kept(id)
        [query] = result.queries
        outdated = self._outdated()(found.created, found.row_changes)
        title = f"{' '.join(query.prompt.split())[:80]} (asked before rows came or went)" if outdated else None
        named = replace(
            result,
            index=self.redaction.text(result.index),
            model=self.redaction.text(result.model),
            adapter=self.redaction.text(result.adapter) if result.adapter else None,
        )
        return named.to_html(title=title, show_text=show_text and self.settings.show_text)


def _methods(manifest: Manifest) -> list[Json]:
    """Methods that the index has all vectors for, each where it reads them."""
    return [name for name, form in SCORES.items() if holds(form, default_layers(form, manifest), manifest)]


def _json(asked: TraceRequest) -> Json:
    prompt = asked.asked()
    return prompt if isinstance(prompt, str) else [dict(message) for message in prompt]
