"""`whence.Client` against a server on a socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import whence
from audits import audit_of
from served_world import TOKEN, serving
from traced_world import PROMPT, RESPONSE
from whence.errors import InputError
from whence.serve.app import create_app
from whence.serve.client import ServerError
from whence.serve.service import state_folder
from whence.serve.settings import ServerSettings
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
    assert "".join(client.generate(PROMPT, max_new_tokens=4))
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


class _Cut(BaseHTTPRequestHandler):
    """A server that dies in the middle of every answer."""

    def do_GET(self) -> None:
        self.send_response(200)
        events = self.path.endswith("/events")
        self.send_header("Content-Length", "1500")
        self.end_headers()
        self.wfile.write(b'event: job\ndata: {"state": "running"}\n\n' if events else b"a part")

    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'event: text\ndata: {"text": "half an"}\n\n')

    def log_message(self, *said: object) -> None:
        pass


def test_an_answer_that_is_cut_off_is_no_answer(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Cut)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = whence.Client(f"http://127.0.0.1:{server.server_port}")
    (tmp_path / "cleaned.jsonl").write_text("of before")
    try:
        with pytest.raises(ServerError, match="6 of 1,500 bytes"):
            client.download("x", tmp_path / "cleaned.jsonl")
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("cleaned.jsonl", "of before")]
        with pytest.raises(ServerError, match="no end"):
            list(client.generate("Where?"))
        with pytest.raises(ServerError, match="running last"):
            list(client.follow("x"))
    finally:
        server.shutdown()
        server.server_close()
