"""The system's clock is moved while rows come and go: the index is the same, and deleted text is gone all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

libfaketime = pytest.importorskip("libfaketime", reason="libfaketime is not installed; `make test-peers` has it")

ROOT = Path(__file__).parents[2]
UNDER_IT = ("tests/index/test_changes.py", "tests/index/test_shards.py", "tests/index/test_jobs.py")
"""Appending, deleting, compacting, repairing, and builds that are cut."""


@pytest.mark.skipif(sys.platform != "linux", reason="the clock is moved by a library that Linux loads first")
@pytest.mark.timeout(900)
def test_rows_come_and_go_under_a_clock_that_jumps(tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    offset.write_text("+0d\n")
    (library,) = Path(libfaketime.__file__).parent.rglob("libfaketime.so.1")
    moving = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "PYTHONPATH": str(ROOT / "tests" / "support"),
    }
    words = [sys.executable, "-m", "pytest", "-q", "-p", "moving_clock", "-p", "no:cacheprovider", *UNDER_IT]
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, **moving}, capture_output=True, text=True, check=False, timeout=800
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
