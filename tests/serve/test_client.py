"""`whence.Client` against a server on a socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import whence
from audits import audit_of
from served_world import TOKEN, serving
from traced_world import PROMPT, RESPONSE
from whence.errors import InputError
from whence.model.generation import generate
from whence.serve import ServerError
from whence.serve.app import create_app
from whence.serve.service import state_folder
from whence.serve.settings import ServerSettings
from whence.trace.query.queries import Query
from whence.trace.tracer import Tracer


@pytest.fixture(scope="module")
def address(tracer: Tracer) -> Iterator[str]:
    with serving(create_app(tracer, ServerSettings(token=TOKEN))) as url:
        yield url


def test_the_client_does_what_the_page_does(address: str, tracer: Tracer, tmp_path: Path) -> None:
    client = whence.Client(address, token=TOKEN)
    assert client.health()["status"] == "ok"
    assert client.index()["rows"] == 120
    id, result = client.trace(PROMPT, RESPONSE, k=3)
    assert result == tracer.trace(PROMPT, RESPONSE, k=3).queries[0]
    assert client.query(id) == result
    assert client.words(id, [1]).hits[0].words is not None
    answer = client.generate(PROMPT, max_new_tokens=4)
    assert answer.complete is None
    assert "".join(answer) == answer.text
    asked = Query.of(PROMPT).prompt_ids(tracer.encoder)
    [expected] = generate(tracer.loaded, [asked], max_new_tokens=4)
    assert (answer.text, answer.complete) == (expected.text, expected.complete)
    assert not answer.complete, "four tokens do not end it"
    _, unfinished = client.trace(PROMPT, answer.text, complete=answer.complete, verdict=False)
    assert not unfinished.complete
    hits = [hit.id for hit in result.hits]
    assert client.rows("label = 'planted'", limit=1)["total"] == 12
    assert client.row(hits[0])["row"]["id"] == hits[0]  # type: ignore[index, call-overload]
    export = client.export(hits)
    assert len(client.download(str(export["id"]), tmp_path / "ids", "ids").read_text().split()) == 3
    assert "<!doctype html>" in client.report(id, tmp_path / "report.html").read_text("utf-8")
    assert client.queries()["total"]
    audit_of().to_json(state_folder(tracer.index.path) / "audits" / "may.json")
    [listed] = [audit for audit in client.audits() if audit["name"] == "may"]
    assert client.audit(str(listed["id"])).groups == audit_of().groups
    assert "<!doctype html>" in client.audit_report(str(listed["id"]), tmp_path / "audit.html").read_text("utf-8")
    with pytest.raises(ServerError, match="The log"):
        client.start_audit("no JSON", name="June")


def test_what_goes_wrong_has_three_parts(address: str) -> None:
    with pytest.raises(ServerError, match="no token"):
        whence.Client(address).index()
    with pytest.raises(ServerError, match="nothing") as refused:
        whence.Client(address, token=TOKEN).rows("nothing = 1")
    assert refused.value.status == 400
    assert "Columns:" in refused.value.expected
    with pytest.raises(ServerError, match="Peru"):
        whence.Client(address, token=TOKEN).trace(PROMPT, RESPONSE, span="Peru")
    with pytest.raises(InputError, match="Nothing answers"):
        whence.Client("http://127.0.0.1:9").index()
    with pytest.raises(InputError, match="no address"):
        whence.Client("file:///etc/passwd")
    for wrong in ("http://", "http://a b", "http://a:port", "http://[::1"):
        with pytest.raises(InputError, match="no address"):
            whence.Client(wrong)
    with pytest.raises(InputError, match="no header"):
        whence.Client(address, token="two\nlines")
    assert whence.Client(address, token=f"{TOKEN}\n").index()["rows"], "as a file's text may end"


class _Heard(BaseHTTPRequestHandler):
    """Answers everything alike, and keeps who asked."""

    status, kind, content, place = 200, "text/html", b"<html>Sign in</html>", ""
    heard: list[str]

    def do_GET(self) -> None:
        self.heard.append(f"{self.path} {self.headers.get('Authorization')}")
        self.send_response(self.status)
        if self.place:
            self.send_header("Location", self.place)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *said: object) -> None:
        pass


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler] = _Heard, **answer: object) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that answers so, and what it heard."""
    heard: list[str] = []
    own = type("Own", (handler,), {"heard": heard, **answer})
    with ThreadingHTTPServer(("127.0.0.1", 0), own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", heard
        finally:
            server.shutdown()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1"])
def test_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with answering() as (proxy, proxied), answering(kind="application/json", content=b"{}") as (url, heard):
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setenv("http_proxy", proxy)
        whence.Client(url.replace("127.0.0.1", host), token=TOKEN).health()
        assert (len(heard), proxied) == (1, [])
        with pytest.raises(ServerError, match="none of whence's"):
            whence.Client("http://whence.example", token=TOKEN).health()
        assert proxied == [f"http://whence.example/v1/health Bearer {TOKEN}"], "others are, as the environment says"


def test_no_redirect_takes_the_token_along() -> None:
    with answering() as (other, heard), answering(status=302, place=f"{other}/v1/health") as (url, _):
        client = whence.Client(url, token=TOKEN)
        for ask in (client.health, lambda: client.basket([]), lambda: list(client.generate("Where?"))):
            with pytest.raises(ServerError, match=f"302, a redirect to {other}"):
                ask()
        assert heard == []


@pytest.mark.parametrize("status", [200, 502])
@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("text/html", b"<html>\n Sign\0 in</html>", "text/html.*none of whence's: <html> Sign. in</html>"),
        ("application/json", b"[1]", "none of whence's"),
        ("application/json", b"", "and it is empty"),
        ("application/json", b'{"detail": "no"}', "none of whence's|no 'id'"),
        ("application/json", b'{"id": "1", "result": {"hits": 1}}', "none of whence's|cannot be read"),
    ],
)
def test_an_answer_that_is_not_whences_is_said(
    tmp_path: Path, status: int, kind: str, content: bytes, said: str
) -> None:
    with answering(status=status, kind=kind, content=content) as (url, _):
        client = whence.Client(url)
        with pytest.raises(ServerError, match=said) as found:
            client.trace("Where?", "There.")
        assert found.value.fix
        with pytest.raises(ServerError, match="none of whence's"):
            client.download("x", tmp_path / "cleaned.jsonl")
        with pytest.raises(ServerError, match="none of whence's"):
            list(client.follow("x"))
        assert list(tmp_path.iterdir()) == []


class _Silent(BaseHTTPRequestHandler):
    """No HTTP at all, or nothing."""

    said = b""

    def do_GET(self) -> None:
        self.wfile.write(self.said)

    def log_message(self, *said: object) -> None:
        pass


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_what_is_no_http_is_no_server(said: bytes) -> None:
    with answering(_Silent, said=said) as (url, _), pytest.raises(InputError, match="Nothing answers"):
        whence.Client(url).health()


class _Cut(BaseHTTPRequestHandler):
    """A server that dies in the middle of every answer."""

    def do_GET(self) -> None:
        self.send_response(200)
        events = self.path.endswith("/events")
        self.send_header("Content-Type", "text/event-stream" if events else "application/octet-stream")
        self.send_header("Content-Disposition", "attachment")
        self.send_header("Content-Length", "1500")
        self.end_headers()
        self.wfile.write(b'event: job\ndata: {"state": "running"}\n\n' if events else b"a part")

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b'event: text\ndata: {"text": "half an"}\n\n')

    def log_message(self, *said: object) -> None:
        pass


def test_an_answer_that_is_cut_off_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "cleaned.jsonl").write_text("of before")
    with answering(_Cut) as (url, _):
        client = whence.Client(url)
        with pytest.raises(ServerError, match="cut off"):
            client.health()
        with pytest.raises(ServerError, match="6 of 1,500 bytes"):
            client.download("x", tmp_path / "cleaned.jsonl")
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("cleaned.jsonl", "of before")]
        with pytest.raises(ServerError, match="no end"):
            list(client.generate("Where?"))
        with pytest.raises(ServerError, match="running last"):
            list(client.follow("x"))
