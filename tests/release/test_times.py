"""How long a user waits for nothing: the help, and an import where torch is not installed."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HELP_SECONDS, IMPORT_SECONDS = 0.4, 0.3
TRIES = 5
"""The quickest counts: what else runs on the machine only adds to the others."""
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; import whence"
HELP = "import sys; sys.argv = ['whence', '--help']; from whence.cli.main import main; main()"


ROOT = Path(__file__).parents[2]


def quickest(code: str) -> float:
    """Processor seconds of a new process that runs the code; on a free machine, what a user waits."""
    taken = []
    for _ in range(TRIES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


@pytest.mark.alone
def test_help_answers_at_once() -> None:
    assert quickest(HELP) < HELP_SECONDS


@pytest.mark.alone
def test_an_import_costs_next_to_nothing_and_needs_no_torch() -> None:
    assert quickest(WITHOUT_TORCH) < IMPORT_SECONDS


def test_make_looks_where_the_tests_are_that_run_alone() -> None:
    found = re.search(r"^ALONE := (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    folders = {ROOT / name for name in found[1].split()}
    marked = [path for path in (ROOT / "tests").rglob("*.py") if "@pytest.mark.alone" in path.read_text("utf-8")]
    assert {path.parent for path in marked} == folders
