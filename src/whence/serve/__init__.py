"""A page and an API over one index: prompts, rankings, baskets, exports and retrainings, for a browser or a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.serve.app import create_app
    from whence.serve.client import Answer, Client
    from whence.serve.connection import ServerError
    from whence.serve.server import run_server
    from whence.serve.settings import ServerSettings

__all__ = [
    "Answer",
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
        "client": ["Answer", "Client"],
        "connection": ["ServerError"],
        "server": ["run_server"],
        "settings": ["ServerSettings"],
    },
)
