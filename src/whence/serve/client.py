"""A thin typed client of the API, on the standard library alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from whence.data import Json
from whence.errors import InputError, WhenceError
from whence.files import appears_whole
from whence.results import AuditResult, QueryResult, TraceResult
from whence.serve.settings import PORT

Object = dict[str, Json]
Prompt = str | Sequence[Mapping[str, str]]
SCHEMA = "whence.trace/2"


class ServerError(WhenceError):
    """What the server refused, in its own three parts. status: the answer's HTTP status."""

    def __init__(self, status: int, found: str, expected: str = "", fix: str = "") -> None:
        super().__init__(found, expected, fix)
        self.status = status


class Client:
    """Asks a server that `whence serve` runs.

    url:     its address. token: what it was started with, if anything.
    timeout: seconds without a byte after which a call gives up.

    Each method raises ServerError for what the server refuses, InputError where nothing answers at the address.
    """

    def __init__(
        self, url: str = f"http://127.0.0.1:{PORT}", *, token: str | None = None, timeout: float = 600.0
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"{url!r} is no address of a server.", "Expected http://HOST:PORT.", "")
        self.url, self._token, self._timeout = url.rstrip("/"), token, timeout

    def health(self) -> Object:
        """Whether it answers, and how many requests wait."""
        return self._object("GET", "/v1/health")

    def index(self) -> Object:
        """The index, its model, and the columns that a filter can name."""
        return self._object("GET", "/v1/index")

    def rows(self, where: str | None = None, *, offset: int = 0, limit: int = 50) -> Object:
        """`rows` in the order of the data, and their `total`; where: an SQL condition."""
        asked: dict[str, str | int] = {"offset": offset, "limit": limit}
        return self._object("GET", f"/v1/rows?{urlencode(asked | ({'where': where} if where else {}))}")

    def row(self, id: str) -> Object:
        """A row with its conversation, and the rows before and after it."""
        return self._object("GET", f"/v1/rows/{_part(id)}")

    def generate(self, prompt: Prompt, *, system: str | None = None, max_new_tokens: int = 128) -> Iterator[str]:
        """The model's greedy answer, piece by piece."""
        body: Object = {"prompt": _prompt(prompt), "system": system, "max_new_tokens": max_new_tokens}
        name = ""
        for name, data in self._events("POST", "/v1/generate", body):
            if name == "text":
                yield str(cast("Object", data)["text"])
        if name != "result":
            raise _cut("the request was taken back" if name == "cancelled" else "the answer has no end")

    def trace(self, prompt: Prompt, response: str | None = None, **options: Json) -> tuple[str, QueryResult]:
        """The query's id, under which it is kept, and its result. options: k, span, wanted, where, and so on."""
        body: Object = {"prompt": _prompt(prompt), "response": response, **options}
        found = self._object("POST", "/v1/trace", body)
        return str(found["id"]), _result(found["result"])

    def words(self, query: str, ranks: Sequence[int]) -> QueryResult:
        """The result of a kept query with these rows alone, explained down to their words."""
        found = self._object("POST", f"/v1/queries/{_part(query)}/words", {"ranks": list(ranks)})
        return _result(found["result"])

    def queries(self, *, offset: int = 0, limit: int = 50) -> Object:
        """Past `queries`, the latest first, and their `total`."""
        return self._object("GET", f"/v1/queries?{urlencode({'offset': offset, 'limit': limit})}")

    def query(self, id: str) -> QueryResult:
        """The result of a past query."""
        return _result(self._object("GET", f"/v1/queries/{_part(id)}")["result"])

    def report(self, query: str, path: str | Path, *, show_text: bool = True) -> Path:
        """Writes the self-contained page of a past query; returns the path."""
        return self._download(f"/v1/queries/{_part(query)}/report?text={str(show_text).lower()}", path)

    def basket(self, rows: Sequence[str], name: str = "Basket") -> str:
        """A new basket of these rows; returns its id."""
        return str(self._object("POST", "/v1/baskets", {"name": name, "rows": list(rows)})["id"])

    def export(self, rows: Sequence[str]) -> Object:
        """Writes the data without these rows, on the server; `id` is what `download` takes."""
        return self._object("POST", "/v1/export", {"rows": list(rows)})

    def download(self, export: str, path: str | Path, kind: str = "cleaned") -> Path:
        """Fetches a file of an export: cleaned, manifest or ids; returns the path."""
        return self._download(f"/v1/exports/{_part(export)}/{_part(kind)}", path)

    def confirm(self, queries: Sequence[str], rows: Sequence[str], match: str, *, seeds: int = 1) -> str:
        """Starts a retraining without the rows; returns the job's id."""
        body: Object = {"queries": list(queries), "rows": list(rows), "match": match, "seeds": seeds}
        return str(self._object("POST", "/v1/jobs", body)["id"])

    def start_audit(self, log: str | None = None, *, queries: Sequence[str] | None = None, **options: Json) -> str:
        """Starts an audit of a log (the text of a file) or of kept queries; returns the job's id, and the audit's.

        options: name, format, failed, match, by, fdr, method, where, examples.
        """
        outputs: Object = {"log": log, "queries": None if queries is None else list(queries)}
        return str(self._object("POST", "/v1/audits", outputs | options)["id"])

    def audits(self) -> list[Object]:
        """Audits that can be opened, the latest first."""
        return cast("list[Object]", self._object("GET", "/v1/audits")["audits"])

    def audit(self, id: str) -> AuditResult:
        """An audit."""
        return AuditResult.from_dict(cast("Object", self._object("GET", f"/v1/audits/{_part(id)}")["result"]))

    def audit_report(self, id: str, path: str | Path, *, show_text: bool = True) -> Path:
        """Writes the self-contained page of an audit; returns the path."""
        return self._download(f"/v1/audits/{_part(id)}/report?text={str(show_text).lower()}", path)

    def job(self, id: str) -> Object:
        """A job: its `state`, `progress`, `result` and `error`."""
        return self._object("GET", f"/v1/jobs/{_part(id)}")

    def follow(self, id: str) -> Iterator[Object]:
        """The job whenever it changes, until it has ended."""
        state: Json = None
        for _, data in self._events("GET", f"/v1/jobs/{_part(id)}/events"):
            job = cast("Object", data)
            state = job.get("state")
            yield job
        if state in (None, "waiting", "running"):
            raise _cut(f"the job was {state or 'not told'} last")

    def cancel(self, id: str) -> Object:
        """Ends a job."""
        return self._object("POST", f"/v1/jobs/{_part(id)}/cancel", {})

    def _object(self, method: str, path: str, body: Object | None = None) -> Object:
        with self._open(method, path, body) as answer:
            return cast("Object", json.loads(answer.read()))

    def _events(self, method: str, path: str, body: Object | None = None) -> Iterator[tuple[str, Json]]:
        with self._open(method, path, body, accept="text/event-stream") as answer:
            name = ""
            for line in answer:
                field, _, value = line.decode("utf-8").rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    data = json.loads(value)
                    if name == "error":
                        raise ServerError(200, **data)
                    yield name, data

    def _download(self, path: str, place: str | Path) -> Path:
        place = Path(place)
        with self._open("GET", path) as answer, appears_whole(place) as partial:
            n_read, n_whole = 0, answer.headers.get("Content-Length")
            with partial.open("wb") as file:
                while piece := answer.read(1 << 20):
                    n_read += file.write(piece)
            if n_whole is not None and n_read != int(n_whole):
                raise _cut(f"{n_read:,} of {int(n_whole):,} bytes came")
        return place

    def _open(self, method: str, path: str, body: Object | None = None, accept: str = "*/*"):  # type: ignore[no-untyped-def]
        headers = {"Accept": accept}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        content = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data=content, headers=headers, method=method)
        try:
            return urlopen(request, timeout=self._timeout)
        except HTTPError as error:
            raise _refusal(error) from None
        except (URLError, OSError) as error:
            raise InputError(
                f"Nothing answers at {self.url}: {getattr(error, 'reason', error)}.",
                "Expected a server that whence serve runs.",
                "Start one: whence serve INDEX.",
            ) from None


def _cut(what: str) -> ServerError:
    return ServerError(200, f"The server's answer was cut off: {what}.", "An answer comes whole.", "Ask again.")


def _refusal(error: HTTPError) -> ServerError:
    try:
        parts = json.loads(error.read())["error"]
        return ServerError(error.code, parts["found"], parts["expected"], parts["fix"])
    except (ValueError, KeyError, TypeError):
        return ServerError(error.code, f"The server answered {error.code}.", "Expected whence serve.", "")


def _result(content: Json) -> QueryResult:
    assert isinstance(content, dict)
    hits = content["hits"]
    assert isinstance(hits, list)
    # A server that shows no texts leaves them out.
    whole: list[Json] = [{"prompt": "", "response": "", **hit} for hit in hits if isinstance(hit, dict)]
    query: Json = {**content, "hits": whole}
    named: Object = {"schema": SCHEMA, "index": "", "model": "", "adapter": None, "queries": [query]}
    return TraceResult.from_dict(named).queries[0]


def _prompt(prompt: Prompt) -> Json:
    return prompt if isinstance(prompt, str) else [dict(message) for message in prompt]


def _part(text: str) -> str:
    return quote(text, safe="")
