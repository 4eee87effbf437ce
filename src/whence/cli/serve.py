"""`whence serve`: the page and the API over one index."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.progress import quiet_libraries
from whence.cli.telling import say
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.model import Placement
    from whence.serve import ServerSettings

TOKEN = "WHENCE_TOKEN"
"""Environment variable that may hold the token."""


def serve(
    index: options.IndexFolder,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; others than loopback need a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Port to listen on; 8642.")] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help=f"File with the token that requests must carry; or set {TOKEN}."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Another name of this server, as of a proxy; repeatable.")
    ] = None,
    base: options.Base = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="Show no text of the training rows.")] = False,
    queue: Annotated[int, typer.Option("--queue", min=1, max=1000, help="Requests that may wait for the model.")] = 16,
    rate: Annotated[float, typer.Option("--rate", min=1, help="Requests a second from one address.")] = 100.0,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    quiet: options.Quiet = False,
) -> None:
    """Open a page on this machine: ask the model, mark wrong words, see the rows behind them, export or confirm.

    Queries, baskets and retrainings are kept beside the index, in INDEX.serve.
    """
    from whence.serve import ServerSettings

    settings = ServerSettings(
        host=host,
        port=port if port is not None else ServerSettings().port,
        token=_token(token_file),
        allow_hosts=tuple(allow_host or ()),
        show_text=not no_text,
        base=options.base_of(index, base),
        queue=queue,
        rate=rate,
        burst=int(3 * rate),
    )
    _run(index, settings, placed=options.placement(device, device_map, max_memory), quiet=quiet)


def serve_index(index: Path, *, port: int | None, quiet: bool) -> None:
    """The page of an index on loopback, for commands that made it."""
    from whence.serve import ServerSettings

    settings = ServerSettings(base=options.base_of(index, None))
    if port is not None:
        settings = ServerSettings(base=settings.base, port=port)
    _run(index, settings, placed=options.placement("auto", None, None), quiet=quiet)


def _run(index: Path, settings: ServerSettings, *, placed: Placement, quiet: bool) -> None:
    from whence.serve import run_server

    quiet_libraries()
    options.tell_index(index, quiet=quiet)

    def ready(url: str) -> None:
        if not quiet:
            say(f"The page is at {url}\nCtrl-C ends the server; what it keeps is in {index}.serve", err=True)

    run_server(index, settings, device=placed, ready=ready)


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN, "").strip() or None
    if not file.is_file():
        raise InputError(f"There is no file {file}.", "Expected the token, in a file of its own.", "Check the path.")
    try:
        return file.read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise InputError(f"{file} is no text.", "Expected the token, one line of ASCII.", "Check the path.") from None
