"""Which process listens on a port, where the system says it (Linux, from /proc; of other users' processes nothing)."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
LISTENS = "0A"
"""State of a listening socket in /proc/net/tcp."""


def listener_of(port: int, proc: Path = PROC) -> tuple[int, str] | None:
    """Number and name of the process that listens on a port of this machine; None where it cannot be told."""
    sockets = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening(proc / "net" / table, port)}
    if not sockets:
        return None
    for folder in sorted(proc.glob("[0-9]*"), key=lambda one: int(one.name)):
        try:
            if any(os.readlink(held) in sockets for held in (folder / "fd").iterdir()):
                return int(folder.name), _name(folder)
        except OSError:  # another user's, or it has ended
            continue
    return None


def _listening(table: Path, port: int) -> list[str]:
    """Inodes of the sockets that listen on the port: of `sl local_address rem_address st ... uid timeout inode`."""
    try:
        lines = table.read_text("ascii").splitlines()[1:]
    except OSError:
        return []
    fields = [line.split() for line in lines]
    return [own[9] for own in fields if own[3] == LISTENS and int(own[1].rpartition(":")[2], 16) == port]


def _name(folder: Path) -> str:
    """What the process was started as, without folders; of an interpreter its script or module too."""
    words = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    told = [Path(word).name for word in words[:4] if word and not word.startswith("-")]
    name = " ".join(told) or (folder / "comm").read_text("utf-8", "replace").strip()
    return "".join(character if character.isprintable() else "?" for character in name)[:60]
