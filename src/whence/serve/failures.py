"""Errors as answers: three parts and a status, without paths of the server or its insides."""

from __future__ import annotations

import errno
import logging
import re
import sqlite3
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from whence.errors import NonFiniteError, WhenceError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

log = logging.getLogger("whence.serve")


class RefusedError(WhenceError):
    """A request that the server does not do, with the HTTP status that says so."""

    def __init__(self, status: int, found: str, expected: str = "", fix: str = "") -> None:
        super().__init__(found, expected, fix)
        self.status = status


class CancelledError(Exception):
    """The one who asked has gone, or took the request back."""


def missing(what: str, id: str) -> RefusedError:
    """The answer to an id that is not there."""
    return RefusedError(
        HTTPStatus.NOT_FOUND, f"There is no {what} {id}.", f"Expected the id of a {what} that is kept.", ""
    )


def of_machine(error: BaseException) -> BaseException:
    """A full disk, or memory that is not enough, as a RefusedError (507): no defect. Other errors as they are."""
    told = getattr(error, "sqlite_errorname", "") if isinstance(error, sqlite3.Error) else ""
    cannot = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    if cannot or str(told).startswith(("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR")):
        return RefusedError(
            HTTPStatus.INSUFFICIENT_STORAGE,
            f"The server's disk is full, or cannot be written: {getattr(error, 'strerror', None) or error}.",
            "Queries, baskets, jobs and exports are kept beside the index.",
            "Make room there, then repeat what you did.",
        )
    # PyTorch's has this name; it is not imported for it.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return RefusedError(
            HTTPStatus.INSUFFICIENT_STORAGE,
            "There is not enough memory for this.",
            "A job, or another program, may hold what is missing; long texts need more.",
            "Ask when it has ended or with a shorter text, or start the server with --device cpu or --device-map auto.",
        )
    return error


def as_dict(found: str, expected: str = "", fix: str = "") -> dict[str, dict[str, str]]:
    """The body of every error."""
    return {"error": {"found": found, "expected": expected, "fix": fix}}


def broken() -> dict[str, dict[str, str]]:
    """What is said of a defect; the traceback is in the server's own log."""
    return as_dict(
        "The server could not answer: a defect in whence.",
        "",
        "The server's log on the terminal has the details; please report them.",
    )


class Redaction:
    """Takes the folders of the server out of messages: of each known path its last name is left."""

    def __init__(self, places: Iterable[str | Path | None]) -> None:
        known = {str(place) for place in places if place and Path(place).is_absolute()}
        known |= {str(Path(place).resolve()) for place in known}
        self._paths = sorted(known, key=len, reverse=True)

    def text(self, message: str) -> str:
        """The message without the known paths, and without any other absolute path."""
        for path in self._paths:
            message = message.replace(path, Path(path).name)
        message = message.encode("utf-8", "backslashreplace").decode("utf-8")  # a file's name may be no text
        return re.sub(r"(?<![\w/.:<])/(?!v1/)(?:[\w.+@~-]+/)+([\w.+@~-]+)", r"\1", message)

    def body(self, error: WhenceError) -> dict[str, dict[str, str]]:
        """The error's three parts."""
        return as_dict(*(self.text(part) for part in (error.found, error.expected, error.fix)))

    def event(self, error: BaseException) -> dict[str, dict[str, str]]:
        """What a stream says of any error; a defect is logged."""
        if isinstance(error, WhenceError):
            return self.body(error)
        log.error("a request failed", exc_info=error)
        return broken()


def status_of(error: WhenceError) -> int:
    """The HTTP status of an error raised on purpose."""
    if isinstance(error, RefusedError):
        return error.status
    return HTTPStatus.UNPROCESSABLE_ENTITY if isinstance(error, NonFiniteError) else HTTPStatus.BAD_REQUEST


def install(app: FastAPI, redaction: Redaction) -> None:
    """Has every error of the app answered in three parts."""
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    async def known(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, WhenceError)
        headers = {"Retry-After": "2"} if status_of(error) == HTTPStatus.SERVICE_UNAVAILABLE else None
        return JSONResponse(redaction.body(error), status_of(error), headers)

    async def malformed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        # Only our own names and numbers: what was sent may be anything.
        place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or str(part).isidentifier())
        body = as_dict(f"{place[:100]} cannot be used.", f"{first['msg'][:200]}.", "See /v1/openapi.json.")
        return JSONResponse(body, HTTPStatus.UNPROCESSABLE_ENTITY)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        body = as_dict(f"{error.detail}.".replace("..", "."), "", "See /v1/openapi.json for what there is.")
        return JSONResponse(body, error.status_code, error.headers)

    async def machine(request: Request, error: Exception) -> JSONResponse:
        refused = of_machine(error)
        if not isinstance(refused, RefusedError):
            return await defect(request, error)
        log.error("a request failed: %s", error)
        return await known(request, refused)

    async def defect(request: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", exc_info=error)
        return JSONResponse(broken(), HTTPStatus.INTERNAL_SERVER_ERROR)

    app.add_exception_handler(WhenceError, known)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(OSError, machine)
    app.add_exception_handler(sqlite3.Error, machine)
    app.add_exception_handler(MemoryError, machine)
    app.add_exception_handler(Exception, defect)
