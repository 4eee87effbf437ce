"""A page and an API over one index: prompts, rankings, baskets, exports and retrainings, for a browser or a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.serve.app import create_app
    from whence.serve.client import Client, ServerError
    from whence.serve.server import run_server
    from whence.serve.settings import ServerSettings

__all__ = [
    "Client",
    "ServerError",
    "ServerSettings",
    "create_app",
    "run_server",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "app": ["create_app"],
        "client": ["Client", "ServerError"],
        "server": ["run_server"],
        "settings": ["ServerSettings"],
    },
)
