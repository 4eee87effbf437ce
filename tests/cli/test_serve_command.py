"""`whence serve` and `whence demo --serve` with what cannot be: said in three parts, before anything is loaded."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from whence.serve.port_owner import listener_of
from whence.serve.settings import ServerSettings
from worlds import World

Whence = Callable[..., tuple[int, str, str]]


def test_a_port_in_use_is_named_and_another_offered(whence: Whence, world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, said = whence("serve", world.index, "--port", port)
    assert status == 2
    by = f" by process {os.getpid()} " if sys.platform == "linux" else ""
    assert f"Port {port} of 127.0.0.1 is in use{by}" in said
    assert "Give --port " in said
    assert f"Give --port {port}." not in said


def test_a_port_whose_owner_is_not_told_is_only_said_to_be_in_use(tmp_path: Path) -> None:
    """Another user's process, another system, a socket that has no process."""
    assert listener_of(8642, tmp_path) is None
    (tmp_path / "net").mkdir()
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    line = "   0: 0100007F:21C2 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100\n"
    (tmp_path / "net" / "tcp").write_text(head + line)
    own = tmp_path / "77"
    (own / "fd").mkdir(parents=True)
    (own / "cmdline").write_bytes(b"/usr/bin/python3\0-m\0/opt/x/evil\x1b[2J\0serve\0")
    assert listener_of(8642, tmp_path) is None
    (own / "fd" / "3").symlink_to("socket:[4242]")
    assert listener_of(8642, tmp_path) == (77, "python3 evil?[2J serve")
    assert listener_of(8643, tmp_path) is None


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--host", "0.0.0.0"], "no token"),
        (["--host", "no such name.invalid"], "no token"),
        (["--token-file", "nowhere.txt"], "There is no file nowhere.txt."),
    ],
)
def test_options_that_cannot_be(whence: Whence, world: World, options: list[str], found: str) -> None:
    status, _, said = whence("serve", world.index, *options)
    assert status == 2
    assert found in said
    assert "Traceback" not in said


def test_a_token_that_is_too_short(whence: Whence, world: World, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("short\n")
    status, _, said = whence("serve", world.index, "--token-file", tmp_path / "token")
    assert status == 2
    assert "5 characters" in said


def test_an_address_that_is_none(whence: Whence, world: World, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * 32)
    status, _, said = whence("serve", world.index, "--host", "203.0.113.7", "--token-file", tmp_path / "token")
    assert status == 2
    assert "cannot be listened on" in said


def test_no_index(whence: Whence, tmp_path: Path) -> None:
    status, _, said = whence("serve", tmp_path / "nothing")
    assert status == 2
    assert "nothing" in said
    assert "Traceback" not in said


def test_the_package_is_asked_for_by_name(whence: Whence, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    status, _, said = whence("serve", world.index)
    assert status == 2
    assert 'pip install -e ".[serve]"' in said


def test_the_demo_is_served_where_it_is(whence: Whence, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, ServerSettings]] = []
    monkeypatch.setattr(
        "whence.serve.run_server", lambda index, settings, **others: asked.append((index, settings)), raising=False
    )
    status, _, _ = whence("demo", "--serve", "-o", world.index.parent, "--port", 9123)
    assert status == 0
    assert [(index, settings.port, settings.host) for index, settings in asked] == [(world.index, 9123, "127.0.0.1")]
    status, _, said = whence("demo", "--port", 9123)
    assert status == 2
    assert "--serve" in said


def test_the_servers_packages_are_loaded_by_the_server_alone() -> None:
    code = (
        "import sys, whence, whence.cli.main, whence.serve; whence.Client\n"
        "print(sorted({'fastapi', 'starlette', 'uvicorn', 'prometheus_client', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
