"""A thin typed client of the API, on the standard library alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import quote, urlencode

from whence.data import Json
from whence.files import appears_whole
from whence.results import AuditResult, QueryResult, TraceResult
from whence.serve.connection import Connection, Object, ServerError, cut_off, member
from whence.serve.settings import PORT

Prompt = str | Sequence[Mapping[str, str]]
SCHEMA = "whence.trace/2"


class Answer(Iterator[str]):
    """The model's answer as it comes, piece by piece.

    text:     what has come. complete: None while it comes; at its end whether the model ended it, False where it was
              stopped at the limit of new tokens. `Client.trace(prompt, text, complete=complete)` traces it as it is.
    """

    def __init__(self, events: Iterator[tuple[str, Json]]) -> None:
        self._events = events
        self.text = ""
        self.complete: bool | None = None

    def __next__(self) -> str:
        name = ""
        for name, data in self._events:
            if name == "text":
                piece = str(cast("Object", data)["text"])
                self.text += piece
                return piece
            if name == "result":
                self.complete = bool(cast("Object", data)["complete"])
                break
        if self.complete is None:
            raise cut_off("the request was taken back" if name == "cancelled" else "the answer has no end")
        raise StopIteration


class Client:
    """Asks a server that `whence serve` runs.

    url:     its address. token: what it was started with, if anything.
    timeout: seconds without a byte after which a call gives up.

    Proxies of the environment (HTTP_PROXY, NO_PROXY) are used, but never for this machine; redirects are refused, as
    the token would go with them.

    Each method raises ServerError for what the server refuses and for an answer that is cut off or no server's of
    whence, InputError where nothing answers at the address.
    """

    def __init__(
        self, url: str = f"http://127.0.0.1:{PORT}", *, token: str | None = None, timeout: float = 600.0
    ) -> None:
        self._connection = Connection(url, token, timeout)

    @property
    def url(self) -> str:
        """The server's address, without a slash at its end."""
        return self._connection.url

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

    def generate(self, prompt: Prompt, *, system: str | None = None, max_new_tokens: int = 128) -> Answer:
        """The model's greedy answer, piece by piece; behind the last one, whether it is `complete`."""
        body: Object = {"prompt": _prompt(prompt), "system": system, "max_new_tokens": max_new_tokens}
        return Answer(self._connection.events("POST", "/v1/generate", body))

    def trace(self, prompt: Prompt, response: str | None = None, **options: Json) -> tuple[str, QueryResult]:
        """The query's id, under which it is kept, and its result. options: k, span, wanted, where, and so on."""
        body: Object = {"prompt": _prompt(prompt), "response": response, **options}
        found = self._object("POST", "/v1/trace", body)
        return _id(found), _result(found)

    def words(self, query: str, ranks: Sequence[int]) -> QueryResult:
        """The result of a kept query with these rows alone, explained down to their words."""
        found = self._object("POST", f"/v1/queries/{_part(query)}/words", {"ranks": list(ranks)})
        return _result(found)

    def queries(self, *, offset: int = 0, limit: int = 50) -> Object:
        """Past `queries`, the latest first, and their `total`; `outdated`: the index's rows changed since."""
        return self._object("GET", f"/v1/queries?{urlencode({'offset': offset, 'limit': limit})}")

    def query(self, id: str) -> QueryResult:
        """The result of a past query."""
        return _result(self._object("GET", f"/v1/queries/{_part(id)}"))

    def report(self, query: str, path: str | Path, *, show_text: bool = True) -> Path:
        """Writes the self-contained page of a past query; returns the path."""
        return self._download(f"/v1/queries/{_part(query)}/report?text={str(show_text).lower()}", path)

    def basket(self, rows: Sequence[str], name: str = "Basket") -> str:
        """A new basket of these rows; returns its id."""
        return _id(self._object("POST", "/v1/baskets", {"name": name, "rows": list(rows)}))

    def export(self, rows: Sequence[str]) -> Object:
        """Writes the data without these rows, on the server; `id` is what `download` takes."""
        return self._object("POST", "/v1/export", {"rows": list(rows)})

    def download(self, export: str, path: str | Path, kind: str = "cleaned") -> Path:
        """Fetches a file of an export: cleaned, manifest or ids; returns the path."""
        return self._download(f"/v1/exports/{_part(export)}/{_part(kind)}", path)

    def confirm(self, queries: Sequence[str], rows: Sequence[str], match: str, *, seeds: int = 1) -> str:
        """Starts a retraining without the rows; returns the job's id."""
        body: Object = {"queries": list(queries), "rows": list(rows), "match": match, "seeds": seeds}
        return _id(self._object("POST", "/v1/jobs", body))

    def start_audit(self, log: str | None = None, *, queries: Sequence[str] | None = None, **options: Json) -> str:
        """Starts an audit of a log (the text of a file) or of kept queries; returns the job's id, and the audit's.

        options: name, format, failed, match, by, fdr, method, where, examples.
        """
        outputs: Object = {"log": log, "queries": None if queries is None else list(queries)}
        return _id(self._object("POST", "/v1/audits", outputs | options))

    def audits(self) -> list[Object]:
        """Audits that can be opened, the latest first."""
        return cast("list[Object]", member(self._object("GET", "/v1/audits"), "audits"))

    def audit(self, id: str) -> AuditResult:
        """An audit."""
        found = member(self._object("GET", f"/v1/audits/{_part(id)}"), "result")
        return _read(AuditResult, found)

    def audit_report(self, id: str, path: str | Path, *, show_text: bool = True) -> Path:
        """Writes the self-contained page of an audit; returns the path."""
        return self._download(f"/v1/audits/{_part(id)}/report?text={str(show_text).lower()}", path)

    def job(self, id: str) -> Object:
        """A job: its `state`, `progress`, `result` and `error`."""
        return self._object("GET", f"/v1/jobs/{_part(id)}")

    def follow(self, id: str) -> Iterator[Object]:
        """The job whenever it changes, until it has ended."""
        state: Json = None
        for _, data in self._connection.events("GET", f"/v1/jobs/{_part(id)}/events"):
            job = cast("Object", data)
            state = job.get("state")
            yield job
        if state in (None, "waiting", "running"):
            raise cut_off(f"the job was {state or 'not told'} last")

    def cancel(self, id: str) -> Object:
        """Ends a job."""
        return self._object("POST", f"/v1/jobs/{_part(id)}/cancel", {})

    def _object(self, method: str, path: str, body: Object | None = None) -> Object:
        return self._connection.object(method, path, body)

    def _download(self, path: str, place: str | Path) -> Path:
        with appears_whole(Path(place)) as partial:
            self._connection.download(path, partial)
        return Path(place)


def _id(found: Object) -> str:
    return str(member(found, "id"))


def _result(found: Object) -> QueryResult:
    content = member(found, "result")
    if isinstance(content, dict) and isinstance(hits := content.get("hits"), list):
        # A server that shows no texts leaves them out.
        whole: list[Json] = [{"prompt": "", "response": "", **hit} for hit in hits if isinstance(hit, dict)]
        content = {**content, "hits": whole}
    named: Object = {"schema": SCHEMA, "index": "", "model": "", "adapter": None, "queries": [content]}
    return _read(TraceResult, named).queries[0]


_Result = TypeVar("_Result", TraceResult, AuditResult)


def _read(kind: type[_Result], content: Json) -> _Result:
    try:
        return kind.from_dict(content if isinstance(content, dict) else {})
    except ValueError as error:
        raise ServerError(
            200,
            f"The server's result cannot be read: {error}.",
            "Expected one of this version of whence.",
            "Use the same version of whence here and on the server.",
        ) from None


def _prompt(prompt: Prompt) -> Json:
    return prompt if isinstance(prompt, str) else [dict(message) for message in prompt]


def _part(text: str) -> str:
    return quote(text, safe="")
