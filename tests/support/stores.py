"""A server of S3's protocol on loopback, for tests of what lies in object stores."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "test-key-of-nobody", "AWS_SECRET_ACCESS_KEY": "test-secret-of-nobody"}


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch, bucket: str) -> Iterator[fsspec.AbstractFileSystem]:
    """A store with an empty bucket; the environment names it. The test is left out where moto or s3fs is missing."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", _free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with _named_by_environment(monkeypatch, f"http://{host}:{port}"):
            # All its servers in one process have the same buckets.
            urllib.request.urlopen(
                urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
            ).close()
            store = fsspec.filesystem("s3")
            store.mkdir(bucket)
            yield store
    finally:
        server.stop()


@contextmanager
def refusing_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store that answers every request with 403 Access Denied."""
    pytest.importorskip("s3fs")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with _named_by_environment(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}"):
            yield
    finally:
        server.shutdown()
        server.server_close()


class _Refusing(BaseHTTPRequestHandler):
    def _refuse(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _refuse  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def _named_by_environment(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> Iterator[None]:
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}).items():
        monkeypatch.setenv(name, value)
    kind = fsspec.get_filesystem_class("s3")
    kind.clear_instance_cache()
    yield
    kind.clear_instance_cache()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
