"""What a request must pass before anything reads it: host, origin, token, size and rate; and the headers of answers.

A page of another site can send requests to loopback with the person's browser. It cannot forge Host (DNS rebinding
sends its own name), Origin or Sec-Fetch-Site, and cannot send JSON to an origin that does not allow it.
"""

from __future__ import annotations

import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from whence.serve.failures import RefusedError, as_dict
from whence.serve.settings import ServerSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
OPEN = ("/", "/page.js", "/page.css", "/v1/health")
"""Paths that need no token: the page's own files, which hold no data, and whether the server is there."""
READS = ("GET", "HEAD")
CLIENTS = 1024
"""Addresses whose rate is remembered."""


class Rate:
    """Requests of each address: `burst` at once, filled up again at `rate` a second."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str) -> bool:
        """Takes one request of the address, if there is one left."""
        now = self._clock()
        left, seen = self._left.pop(address, (float(self._burst), now))
        left = min(self._burst, left + (now - seen) * self._rate)
        allowed = left >= 1
        self._left[address] = (left - allowed, now)
        if len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        return allowed


class Gate:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings
        self._rate = Rate(settings.rate, settings.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what may not pass; hands on the rest with its body counted and its answer's headers set."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        sent = _WithHeaders(send, private=scope["path"].startswith("/v1/") or scope["path"] == "/metrics")
        try:
            self._check(scope, headers)
            await self._app(scope, _counted(receive, self._settings.max_body), sent)
        except RefusedError as refused:
            if not sent.started:
                await _refuse(sent, refused)

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        address = scope["client"][0] if scope.get("client") else ""
        if not self._rate.allows(address):
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "Too many requests from this address.",
                f"At most {self._settings.rate:g} a second are answered.",
                "Wait a second.",
            )
        _check_host(headers, self._settings.hosts)
        _check_origin(scope, headers)
        self._check_token(scope, headers)
        _check_body(scope, headers, self._settings.max_body)

    def _check_token(self, scope: Scope, headers: dict[str, str]) -> None:
        token = self._settings.token
        if token is None or (scope["path"] in OPEN and scope["method"] in READS):
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        # Compared in constant time: how long it takes says nothing about where the texts differ.
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
            raise RefusedError(
                HTTPStatus.UNAUTHORIZED,
                "The request has no token, or another one." if not given else "The token is not this server's.",
                "Expected the header Authorization: Bearer TOKEN.",
                "Use the token that the server was started with. It is never part of an address.",
            )


def _check_host(headers: dict[str, str], hosts: frozenset[str]) -> None:
    if _host_name(headers.get("host", "")) not in hosts:
        raise RefusedError(
            HTTPStatus.MISDIRECTED_REQUEST,
            "The request is for another host.",
            "Expected a name that this server was started with.",
            "Open the address that whence serve prints; to allow a proxy's name, start it with --allow-host NAME.",
        )


def _host_name(host: str) -> str:
    """The name in a Host header, without its port; of an IPv6 address without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _check_origin(scope: Scope, headers: dict[str, str]) -> None:
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    is_page = scope["path"] in OPEN and scope["method"] in READS
    foreign = origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()
    if foreign or (site not in ("same-origin", "none") and not is_page):
        raise RefusedError(
            HTTPStatus.FORBIDDEN,
            "The request comes from a page of another site.",
            "Only this server's own page, and programs that are no browser, may ask.",
            "Open the page at the address that whence serve prints.",
        )


def _check_body(scope: Scope, headers: dict[str, str], most: int) -> None:
    if scope["method"] in READS:
        return
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 15 or int(length) > most:
        raise _too_long(most)
    # A form of another site can send plain text, but never JSON.
    has_body = length != "0" or "transfer-encoding" in headers
    if has_body and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "The request's body is not declared as JSON.",
            "Expected the header Content-Type: application/json.",
            "Send JSON.",
        )


def _too_long(most: int) -> RefusedError:
    return RefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "The request is too large.",
        f"At most {most:,} bytes are read.",
        "Send less at once.",
    )


def _counted(receive: Receive, most: int) -> Receive:
    """The body as it comes, refused once it is longer than `most`, whatever its header said."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            from starlette.exceptions import HTTPException

            # This kind of error passes through the reading of JSON as it is.
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"At most {most:,} bytes are read")
        return message

    return counted


class _WithHeaders:
    """Sends an answer with the headers that every answer has."""

    def __init__(self, send: Send, *, private: bool) -> None:
        self._send, self._private = send, private
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            own = HEADERS | ({"cache-control": "no-store"} if self._private else {"cache-control": "no-cache"})
            named = {name.lower() for name, _ in message.get("headers", [])}
            added = [(k.encode(), v.encode()) for k, v in own.items() if k.encode() not in named]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await self._send(message)


async def _refuse(send: _WithHeaders, refused: RefusedError) -> None:
    body = json.dumps(as_dict(refused.found, refused.expected, refused.fix)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refused.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    if refused.status == HTTPStatus.TOO_MANY_REQUESTS:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": int(refused.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
