"""What the client sends and reads over HTTP, and what it says of an answer that is none of whence's."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from ipaddress import ip_address
from pathlib import Path
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from whence.data import Json
from whence.errors import InputError, WhenceError

Object = dict[str, Json]
EVENTS = "text/event-stream"
SHOWN = 200
"""Characters of a foreign answer that an error shows."""
MOST_READ = 1 << 20
"""Bytes that are read of an error's body."""


class ServerError(WhenceError):
    """What the server refused, in its own three parts. status: the answer's HTTP status."""

    def __init__(self, status: int, found: str, expected: str = "", fix: str = "") -> None:
        super().__init__(found, expected, fix)
        self.status = status


class Connection:
    """Sends requests to one address. Raises InputError for an address or a token that cannot be used."""

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        parts = _address(url)
        token = None if token is None else token.strip()
        if token is not None and not (token.isascii() and token.isprintable()):
            raise InputError("The token has characters that no header can hold.", "Expected printable ASCII.", "")
        self.url, self._token, self._timeout = url.rstrip("/"), token, timeout
        self._opener = _opener(str(parts.hostname))

    def object(self, method: str, path: str, body: Object | None = None) -> Object:
        """The JSON object that is answered. Raises ServerError, InputError."""
        with self._open(method, path, body) as answer, _read_whole():
            content = answer.read()
            try:
                found = json.loads(content)
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, dict):
                raise _foreign(answer, content)
            return cast("Object", found)

    def events(self, method: str, path: str, body: Object | None = None) -> Iterator[tuple[str, Json]]:
        """Name and data of each server-sent event. Raises ServerError, also for an event `error`; InputError."""
        with self._open(method, path, body, accept=EVENTS) as answer, _read_whole():
            if answer.headers.get_content_type() != EVENTS:
                raise _foreign(answer, answer.read(MOST_READ))
            name = ""
            for line in answer:
                field, _, value = line.decode("utf-8", "replace").rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, _data_of(name, value)

    def download(self, path: str, place: Path) -> None:
        """Writes the file that is answered. Raises ServerError, InputError."""
        with self._open("GET", path) as answer:
            if "attachment" not in answer.headers.get("Content-Disposition", ""):
                raise _foreign(answer, _piece(answer))
            n_read, n_whole = 0, answer.headers.get("Content-Length")
            with place.open("wb") as file:
                while piece := _piece(answer):
                    n_read += file.write(piece)
            if n_whole is not None and n_read != int(n_whole):
                raise cut_off(f"{n_read:,} of {int(n_whole):,} bytes came")

    def _open(self, method: str, path: str, body: Object | None = None, accept: str = "*/*") -> HTTPResponse:
        headers = {"Accept": accept}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        content = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data=content, headers=headers, method=method)
        try:
            return cast("HTTPResponse", self._opener.open(request, timeout=self._timeout))
        except HTTPError as error:
            raise _refusal(error) from None
        except (OSError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise InputError(
                f"Nothing answers at {self.url}: {str(reason) or type(reason).__name__}.",
                "Expected a server that whence serve runs.",
                "Start one: whence serve INDEX.",
            ) from None


class _NoRedirects(HTTPRedirectHandler):
    """A request that is followed elsewhere would take the token along, and a POST would lose its body."""

    def redirect_request(self, *_: object) -> None:
        return None


def _address(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket without its other one
        known = None
    if not known or any(character.isspace() for character in url):
        raise InputError(f"{url!r} is no address of a server.", "Expected http://HOST:PORT.", "")
    return parts


def _opener(host: str) -> OpenerDirector:
    return build_opener(_NoRedirects, *([ProxyHandler({})] if _is_here(host) else []))


def _is_here(host: str) -> bool:
    """Whether a host is this machine by its name or address, also one written in short, as 127.1."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        found = ip_address(host if ":" in host else socket.inet_aton(host))
    except (OSError, ValueError):
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_loopback or found.is_unspecified


@contextmanager
def _read_whole() -> Iterator[None]:
    """An answer that ends before its end, or does not go on, as an error of whence."""
    try:
        yield
    except TimeoutError:
        raise cut_off("nothing more came in time") from None
    except (HTTPException, OSError) as error:
        raise cut_off(str(error) or type(error).__name__) from None


def _piece(answer: HTTPResponse) -> bytes:
    with _read_whole():
        return answer.read(MOST_READ)


def _data_of(name: str, text: str) -> Json:
    try:
        data: Json = json.loads(text)
    except (ValueError, RecursionError):
        raise cut_off("an event ends before its end") from None
    if name == "error":
        parts = data if isinstance(data, dict) else {}
        raise ServerError(200, *(str(parts.get(part, "")) for part in ("found", "expected", "fix")))
    return data


def cut_off(what: str) -> ServerError:
    """An answer that is not whole."""
    return ServerError(200, f"The server's answer was cut off: {what}.", "An answer comes whole.", "Ask again.")


def member(found: Object, name: str) -> Json:
    """A part of an answer. Raises ServerError where it has none of this name."""
    if name not in found:
        raise ServerError(
            200,
            f"The answer has no {name!r}.",
            "Expected what whence serve answers.",
            "Check the address, and that whence has the same version here and on the server.",
        )
    return found[name]


def _foreign(answer: HTTPResponse | HTTPError, content: bytes) -> ServerError:
    """An answer that is not of whence, as the page of a proxy."""
    kind = answer.headers.get_content_type() if answer.headers.get("Content-Type") else "no type"
    text = " ".join(content.decode("utf-8", "replace").split())
    text = "".join(character if character.isprintable() else "?" for character in text)
    shown = f": {text[:SHOWN]}{'...' if len(text) > SHOWN else ''}" if text else ", and it is empty"
    return ServerError(
        int(answer.status or 0),
        f"The answer ({answer.status}, {kind}) is none of whence's{shown}",
        "Expected what whence serve answers.",
        "Check the address, and a proxy between (its environment variables are HTTP_PROXY and NO_PROXY).",
    )


def _refusal(error: HTTPError) -> ServerError:
    with error:
        if 300 <= error.code < 400:
            place = urlsplit(str(error.headers.get("Location", "")))
            where = f"{place.scheme}://{place.netloc}" if place.netloc else "another path"
            return ServerError(
                error.code,
                f"The server answered {error.code}, a redirect to {where}.",
                "Redirects are not followed: the token would go with them.",
                "Give the address that it leads to, if it is the server's.",
            )
        try:
            content = error.read(MOST_READ)
        except (OSError, HTTPException):
            content = b""
        try:
            parts = json.loads(content)["error"]
            return ServerError(error.code, parts["found"], parts["expected"], parts["fix"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return _foreign(error, content)
