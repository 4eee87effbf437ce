"""The harness of benchmarks/faults.py, with few faults; the full numbers are its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, sys, tempfile
from pathlib import Path
from faults import run
with tempfile.TemporaryDirectory() as place:
    figures, log = run(4, 60, [2], 0, Path(place))
assert len(log) == 4, log
print(json.dumps(figures))
"""


def test_a_few_kills_and_damages_leave_no_trace() -> None:
    path = os.pathsep.join(filter(None, [str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert '"missed": 0' in done.stdout
    assert "Another run is writing" in done.stdout
    assert "cannot be written" in done.stdout
