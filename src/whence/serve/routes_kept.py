"""Routes about what the server keeps: past queries, baskets, exports, jobs, audits."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Path, Query
from fastapi.responses import FileResponse, Response

from whence.serve import schemas
from whence.serve.exports import KINDS
from whence.serve.failures import missing
from whence.serve.fields import ID
from whence.serve.service import Service
from whence.serve.streams import EVENTS, event_stream, follow

Id = Annotated[str, Path(pattern=ID, examples=["0123456789abcdef"])]


def add_kept_routes(app: FastAPI, service: Service) -> None:
    """Adds them to the app."""
    _add_queries(app, service)
    _add_baskets(app, service)
    _add_exports(app, service)
    _add_jobs(app, service)
    _add_audits(app, service)


def _add_queries(app: FastAPI, service: Service) -> None:
    @app.get("/v1/queries", response_model=schemas.QueryPage, tags=["queries"])
    def queries(
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0, limit: Annotated[int, Query(ge=1, le=200)] = 50
    ) -> object:
        """Past queries, the latest first."""
        return service.queries(offset, limit)

    @app.get("/v1/queries/{id}", response_model=schemas.QueryDetail, tags=["queries"])
    def query(id: Id) -> object:
        """A past query with its result, and the words that have been explained."""
        return service.query(id)

    @app.delete("/v1/queries/{id}", status_code=204, tags=["queries"])
    def forget_query(id: Id) -> None:
        """Forgets a past query."""
        if not service.state.delete_query(id):
            raise missing("query", id)

    @app.get("/v1/queries/{id}/report", response_class=Response, tags=["queries"])
    def report(id: Id, text: bool = True) -> Response:
        """The self-contained page of a query, as a download. text: with the texts of rows."""
        return _page(service.report(id, show_text=text), f"whence-{id}")


def _page(content: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}.html"'}
    return Response(content, media_type="text/html; charset=utf-8", headers=headers)


def _add_baskets(app: FastAPI, service: Service) -> None:
    @app.get("/v1/baskets", response_model=schemas.Baskets, tags=["baskets"])
    def baskets() -> object:
        """All baskets, the latest first."""
        return {"baskets": service.state.baskets()}

    @app.post("/v1/baskets", response_model=schemas.Basket, status_code=201, tags=["baskets"])
    def new_basket(body: schemas.BasketRequest) -> object:
        """A new basket."""
        service.check_rows(body.rows)
        id = service.state.add_basket(body.name)
        service.state.set_basket(id, body.rows)
        return service.state.basket(id)

    @app.post("/v1/baskets/latest", response_model=schemas.Basket, tags=["baskets"])
    def latest_basket() -> object:
        """The latest basket, which the page shows; where there is none, one is made, the same for all who ask."""
        return service.state.basket(service.state.latest_basket("Basket"))

    @app.get("/v1/baskets/{id}", response_model=schemas.Basket, tags=["baskets"])
    def basket(id: Id) -> object:
        """A basket."""
        found = service.state.basket(id)
        if found is None:
            raise missing("basket", id)
        return found

    @app.put("/v1/baskets/{id}", response_model=schemas.Basket, tags=["baskets"])
    def change_basket(id: Id, body: schemas.BasketChange) -> object:
        """Gives a basket these rows."""
        service.check_rows(body.rows)
        if not service.state.set_basket(id, body.rows, body.name):
            raise missing("basket", id)
        return service.state.basket(id)

    @app.patch("/v1/baskets/{id}", response_model=schemas.Basket, tags=["baskets"])
    def edit_basket(id: Id, body: schemas.BasketEdit) -> object:
        """Takes rows out of a basket and puts others in; what others have put in stays."""
        service.check_rows(body.add)
        if not service.state.edit_basket(id, body.add, body.remove):
            raise missing("basket", id)
        return service.state.basket(id)

    @app.delete("/v1/baskets/{id}", status_code=204, tags=["baskets"])
    def forget_basket(id: Id) -> None:
        """Forgets a basket."""
        if not service.state.delete_basket(id):
            raise missing("basket", id)


def _add_exports(app: FastAPI, service: Service) -> None:
    @app.post("/v1/export", response_model=schemas.Export, status_code=201, tags=["exports"])
    def export(body: schemas.ExportRequest) -> object:
        """Writes the data without the rows, and the manifest that brings them back (docs/clean.md)."""
        return service.exports.make(service.current.get().index, service.chosen(body.basket, body.rows))

    @app.get("/v1/exports/{id}/{kind}", response_class=FileResponse, tags=["exports"])
    def export_file(
        id: Annotated[str, Path(pattern=ID)], kind: Annotated[str, Path(pattern=f"^({'|'.join(KINDS)})$")]
    ) -> FileResponse:
        """A file of an export: `cleaned`, `manifest` or `ids`."""
        place = service.exports.file(id, kind)
        return FileResponse(place, filename=place.name, media_type="application/octet-stream")


def _add_jobs(app: FastAPI, service: Service) -> None:
    def found(id: str) -> dict[str, object]:
        job = service.state.job(id)
        if job is None:
            raise missing("job", id)
        return dict(job)

    @app.get("/v1/jobs", response_model=schemas.JobList, tags=["jobs"])
    def jobs(active: bool = False) -> object:
        """All retrainings and audits, the latest first. active: those that wait or run alone."""
        return {"jobs": service.state.jobs(active=active)}

    @app.post("/v1/jobs", response_model=schemas.Job, status_code=202, tags=["jobs"])
    def confirm(body: schemas.ConfirmRequest) -> object:
        """Starts a retraining without the rows."""
        return service.confirm(body)

    @app.get("/v1/jobs/{id}", response_model=schemas.Job, tags=["jobs"])
    def job(id: Id) -> object:
        """A retraining or an audit: how far it is, or what came out."""
        return found(id)

    @app.get("/v1/jobs/{id}/events", responses={200: {"content": {EVENTS: {}}}}, tags=["jobs"])
    async def job_events(id: Id) -> Response:
        """The job whenever it changes, as events named `job`, until it has ended."""
        found(id)
        return event_stream(follow(lambda: service.state.job(id)))

    @app.post("/v1/jobs/{id}/cancel", response_model=schemas.Job, tags=["jobs"])
    def cancel(id: Id) -> object:
        """Ends a retraining or an audit."""
        found(id)
        service.jobs.cancel(id)
        return found(id)


def _add_audits(app: FastAPI, service: Service) -> None:
    @app.get("/v1/audits", response_model=schemas.AuditList, tags=["audits"])
    def audits() -> object:
        """All audits that can be opened, the latest first; those that are being made are jobs."""
        return {"audits": service.audits.listed()}

    @app.post("/v1/audits", response_model=schemas.Job, status_code=202, tags=["audits"])
    def new_audit(body: schemas.AuditRequest) -> object:
        """Starts an audit as a job; when the job is done, the audit has its id."""
        return service.audit(body)

    @app.get("/v1/audits/{id}", response_model=schemas.AuditDetail, tags=["audits"])
    def audit(id: Id) -> object:
        """An audit with its whole result."""
        return service.audits.audit(id, service.current.get().rows)

    @app.get("/v1/audits/{id}/report", response_class=Response, tags=["audits"])
    def audit_report(id: Id, text: bool = True) -> Response:
        """The self-contained page of an audit, as a download. text: with the texts of rows."""
        return _page(service.audits.report(id, show_text=text), f"whence-audit-{id}")
