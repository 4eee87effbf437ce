"""A trace goes down through its rooms: none imports from a later one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import whence

ROOT = Path(whence.__file__).parent / "trace"
ORDER = ["query", "settings", "rank", "verdict", "explain", "query_result", "tracer"]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    known = ORDER[: ORDER.index(room) + 1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("whence.trace."):
            assert (node.module or "").split(".")[2] in known, f"{room} imports {node.module}"
