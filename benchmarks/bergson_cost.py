"""What whence's default index costs beside `bergson build` of the same rows with the same model, in one run.

    python -m venv /tmp/bergson && /tmp/bergson/bin/pip install torch==2.13.0 bergson
    /tmp/bergson/bin/pip uninstall torchvision torchaudio    # where they are of another release than torch
    python benchmarks/bergson_cost.py --bergson /tmp/bergson/bin/python --model FOLDER --data FILE [--rows 64] -o OUT

bergson keeps a gradient of each row, projected to rank 16 in every module of the adapter (or of the model); whence its
default's vectors. The rows are conversations (JSONL, `messages`). Both are called from their own environment, in
alternation, and pay for loading; the same with a single row is taken away for "rows alone". Printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

WHENCE = "import sys, whence; whence.build_index(*sys.argv[1:4], dtype='float32')"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bergson", required=True, help="the Python of bergson's environment")
    parser.add_argument("--model", required=True, help="a model or an adapter that names its base")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines = options.data.read_text("utf-8").splitlines()
    lines = (lines * (options.rows // len(lines) + 1))[: options.rows]
    data = {"rows": options.out / "rows.jsonl", "one": options.out / "one.jsonl"}
    data["rows"].write_text("\n".join(lines) + "\n", encoding="utf-8")
    data["one"].write_text(lines[0] + "\n", encoding="utf-8")
    seconds: dict[str, list[float]] = {}
    for _ in range(options.repeats):
        for what, path in data.items():
            seconds.setdefault(f"whence, {what}", []).append(run_whence(options, path))
            seconds.setdefault(f"bergson, {what}", []).append(run_bergson(options, path))
    alone = {
        name: [all_ - one for all_, one in zip(seconds[f"{name}, rows"], seconds[f"{name}, one"], strict=True)]
        for name in ("whence", "bergson")
    }
    ratios = {
        "bergson over whence, whole": divided(seconds["bergson, rows"], seconds["whence, rows"]),
        "bergson over whence, rows alone": divided(alone["bergson"], alone["whence"]),
    }
    found = {
        "model": options.model,
        "rows": options.rows,
        "machine": platform.machine(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "seconds": {name: [round(one, 2) for one in values] for name, values in (seconds | alone).items()},
        "medians": {name: round(median(values), 2) for name, values in (seconds | alone).items()},
        "ratios": ratios,
    }
    print(json.dumps(found, indent=1))


def divided(above: list[float], below: list[float]) -> list[float]:
    """Each repeat's ratio, ascending."""
    return sorted(round(a / b, 2) for a, b in zip(above, below, strict=True))


def run_whence(options: argparse.Namespace, data: Path) -> float:
    """Seconds of one index, from the start of its process to its end."""
    out = options.out / "whence"
    shutil.rmtree(out, ignore_errors=True)
    return timed([sys.executable, "-c", WHENCE, options.model, str(data), str(out)])


def run_bergson(options: argparse.Namespace, data: Path) -> float:
    """The same of bergson."""
    out = options.out / "bergson"
    for folder in (out, out.with_name("bergson.part")):
        shutil.rmtree(folder, ignore_errors=True)
    how = [
        "--conversation_column",
        "messages",
        "--projection_dim",
        "16",
        "--precision",
        "fp32",
        "--nproc_per_node",
        "1",
    ]
    command = [options.bergson, "-m", "bergson", "build", str(out), "--model", options.model, "--dataset", str(data)]
    return timed([*command, *how])


def timed(command: list[str]) -> float:
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return time.monotonic() - started


if __name__ == "__main__":
    main()
