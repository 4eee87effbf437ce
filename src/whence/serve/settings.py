"""What a server may be told: its address, who may ask it, and how much at once."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from whence.errors import InputError

PORT = 8642
LEAST_TOKEN = 16
"""Characters of a token; shorter ones can be guessed."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The options of `whence serve`.

    host, port:   where it listens.
    token:        what each request must carry in its Authorization header; None asks for none, on loopback alone.
    allow_hosts:  other names under which a browser may reach it, as of a proxy. Loopback names and `host` always may.
    show_text:    False leaves the texts of training rows out of every answer, as `--no-text` does in reports.
    base:         the model before fine-tuning, for retraining; None: the one that the index or its model names.
    queue:        requests that may wait for the model.
    rate, burst:  requests a second from one address, and how many may come at once.
    max_body:     bytes of a request.
    max_k:        rows of one ranking.

    Raises InputError: another address than loopback without a token, or a token that is too short.
    """

    host: str = "127.0.0.1"
    port: int = PORT
    token: str | None = None
    allow_hosts: tuple[str, ...] = ()
    show_text: bool = True
    base: str | None = None
    queue: int = 16
    rate: float = 100.0
    burst: int = 300
    max_body: int = 1 << 20
    max_k: int = 1000

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise InputError(
                f"--host {self.host} can be reached from other machines, and there is no token.",
                "Without a token only loopback is served: the rows and the model would be open to anyone who can "
                "connect.",
                "Write a long random text into a file and give --token-file FILE, or leave --host out.",
            )
        if self.token is not None and (len(self.token) < LEAST_TOKEN or not self.token.isascii()):
            raise InputError(
                f"The token has {len(self.token)} characters.",
                f"Expected at least {LEAST_TOKEN}, in ASCII, that nobody can guess.",
                'For example: python -c "import secrets; print(secrets.token_urlsafe(32))" > token.txt',
            )

    @property
    def hosts(self) -> frozenset[str]:
        """Names that the Host header may have, without the port."""
        return frozenset(name.lower() for name in (*LOOPBACK, self.host, *self.allow_hosts))

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
