"""The scripts beside the package: what they take from whence is there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for folder in ("benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_script_imports_from_whence_is_there(script: Path) -> None:
    missing = [f"{module}.{name}" for module, name in imported(script) if not there(module, name)]
    assert not missing


def imported(script: Path) -> list[tuple[str, str]]:
    """(module, name) of each `from whence... import ...` of a script, wherever it stands."""
    found = ast.walk(ast.parse(script.read_text("utf-8")))
    own = [node for node in found if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "whence"]
    return [(node.module or "", alias.name) for node in own for alias in node.names]


def there(module: str, name: str) -> bool:
    if importlib.util.find_spec(module) is None:
        return False
    return hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}") is not None
