"""The public names, and the direction of the imports: a room knows only the rooms before it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import whence

ROOT = Path(whence.__file__).parent
ROOMS = [
    *("errors", "progress", "files", "run_file", "data", "results", "model", "signatures", "scoring", "index", "trace"),
    *("methods", "metrics", "train", "cleaning", "planning", "confirmation", "self_test", "bench", "demo"),
    *("report", "cli"),
]
# Plain data that knows how to be shown: rendering is imported when it is asked for.
LATE = {("results", "report")}
# A report is a function of results alone; it must know neither model nor index.
REPORT_KNOWS = {"errors", "data", "results", "report"}


def imports(path: Path) -> set[str]:
    """Rooms of whence that a module imports, also inside functions; imports for types alone count too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "whence":
            modules = [f"whence.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        names |= {module.split(".")[1] for module in modules if module.startswith("whence.")}
    return names


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    known = ROOMS[: ROOMS.index(room) + 1]
    for other in imports(path):
        assert other in known or (room, other) in LATE, f"{room} imports {other}"
        assert room != "report" or other in REPORT_KNOWS, f"report imports {other}"


def test_methods_never_import_each_other() -> None:
    shared = {"base", "registry", "representations"}
    modules = {path.stem for path in (ROOT / "methods").glob("*.py")} - shared - {"__init__"}
    for path in (ROOT / "methods").glob("*.py"):
        if path.stem in shared:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("whence.methods."):
                assert (node.module or "").split(".")[2] not in modules, f"{path.stem} imports {node.module}"


def test_all_is_sorted_and_each_name_can_be_imported() -> None:
    assert sorted(whence.__all__) == whence.__all__
    assert len(whence.__all__) <= 12
    for name in whence.__all__:
        assert getattr(whence, name).__name__ == name
    assert set(whence.__all__) <= set(dir(whence))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = whence.nothing


def test_importing_whence_has_no_effects() -> None:
    code = "import sys, logging, whence; print('torch' in sys.modules, logging.root.handlers)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False []"
