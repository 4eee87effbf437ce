"""A server of S3's protocol on loopback, for tests of what lies in object stores."""

from __future__ import annotations

import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


class FlakyProxy:
    """Passes TCP on to a port of this machine, and cuts and delays what goes through.

    every: one in so many pieces cuts its connection on both sides, in the middle of whatever it belongs to; 0: none.
    delay: seconds that each piece waits. down: every connection is cut. n_cuts: how often it happened.
    """

    def __init__(self, target: int) -> None:
        self.target, self.every, self.delay, self.down = target, 0, 0.0, False
        self.n_cuts = self.n_pieces = 0
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """No further connections."""
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
            back.start()
            self._pump(client, server)
            back.join()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while piece := source.recv(1 << 14):
                time.sleep(self.delay)
                if self._is_cut():
                    target.sendall(piece[: len(piece) // 2])
                    break
                target.sendall(piece)
        except OSError:
            pass
        for side in (source, target):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def _is_cut(self) -> bool:
        with self._lock:
            self.n_pieces += 1
            cut = self.down or (self.every and self.n_pieces % self.every == 0)
            self.n_cuts += bool(cut)
            return bool(cut)


@contextmanager
def flaky_s3_server(
    monkeypatch: pytest.MonkeyPatch, bucket: str
) -> Iterator[tuple[fsspec.AbstractFileSystem, FlakyProxy]]:
    """`s3_server`, reached through a proxy that is quiet until it is told otherwise."""
    with s3_server(monkeypatch, bucket):
        proxy = FlakyProxy(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]))
        try:
            with _named_by_environment(monkeypatch, f"http://127.0.0.1:{proxy.port}"):
                yield fsspec.filesystem("s3"), proxy
        finally:
            proxy.close()
