"""Runs the app on an address, which is tried before anything slow is done."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from whence.errors import InputError, install_extra
from whence.serve.port_owner import listener_of
from whence.serve.settings import ServerSettings

if TYPE_CHECKING:
    from whence.model import Placement

PORTS_TRIED = 20


def run_server(
    index: Path,
    settings: ServerSettings,
    *,
    device: str | Placement = "auto",
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serves an index until it is stopped (Ctrl-C).

    ready: called with the page's address once requests are answered.

    Raises:
        InputError: the packages of whence[serve] are missing, or the address cannot be listened on.
        IndexFolderError, ModelError, MismatchError: as `Tracer`.
    """
    _check_installed()
    listening = _listening(settings)
    try:
        from whence.index import ADAPTER_OFF, require_manifest
        from whence.serve.app import create_app
        from whence.trace import Tracer

        named = require_manifest(index).base
        base = settings.base if named not in ("", ADAPTER_OFF) else None
        app = create_app(Tracer(index, base=base, device=device), settings)
        _run(app, listening, settings, ready)
    finally:
        listening.close()


def _run(app: object, listening: socket.socket, settings: ServerSettings, ready: Callable[[str], None] | None) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_level="warning",
        access_log=False,
        server_header=False,
        # A proxy's word for an address is not taken: rates are counted by it.
        proxy_headers=False,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=64 * 1024,
        ws="none",
    )
    if ready is not None:
        ready(settings.url)
    uvicorn.Server(config).run(sockets=[listening])


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} is not installed.", "The server needs it.", install_extra("serve"))


def _listening(settings: ServerSettings) -> socket.socket:
    """A socket that listens on the address. Raises InputError, for a port in use with a free one."""
    host, port = settings.host, settings.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError as error:
        raise InputError(
            f"--host {host} is no address: {error.strerror}.", "Expected one of this machine.", ""
        ) from error
    try:
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise _cannot_listen(error, settings) from error
    return listening


def _cannot_listen(error: OSError, settings: ServerSettings) -> InputError:
    host, port = settings.host, settings.port
    if error.errno == errno.EADDRINUSE:
        free = next((other for other in range(port + 1, port + 1 + PORTS_TRIED) if _is_free(host, other)), None)
        owner = listener_of(port)
        by = f" by process {owner[0]} ({owner[1]})" if owner else ""
        return InputError(
            f"Port {port} of {host} is in use{by}.",
            "A server needs one of its own; another whence serve may still run there.",
            f"Give --port {free}." if free else "Give another one with --port.",
        )
    return InputError(
        f"{host} port {port} cannot be listened on: {error.strerror}.",
        "Expected an address of this machine, and a port from 1024 on for one who is not root.",
        "Leave --host out, or give another --port.",
    )


def _is_free(host: str, port: int) -> bool:
    if port > 65535:
        return False
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as other:
            other.bind(address)
    except OSError:
        return False
    return True
