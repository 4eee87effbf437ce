"""What an index and a trace of many queries cost in this checkout and in an earlier one, in one run.

    git worktree add ../before COMMIT
    python benchmarks/before_after.py --before ../before -o runs/before-after
    python benchmarks/before_after.py --before ../before --model FOLDER --adapter FOLDER --data FILE -o runs/real

Left out, the model is the bench's tiny Llama with random weights beside a random base, and the rows are the bench's
background rows: for times that is as good as a trained one. Both checkouts build their default index of the same rows
with the same model, then trace the same queries (prompts and responses of the rows) with a verdict, alternately, each
time in a process of their own. Printed as JSON: seconds, medians, and the ratios before / now.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

from whence.bench.faults import base_rows
from whence.bench.tiny_model import LanguageSettings, new_model, train_tokenizer
from whence.data.examples import Example
from whence.data.readers import read_examples

HERE = Path(__file__).parents[1]
WORK = """
import json, sys, time
import whence
what, model, data, out, options, n_queries = json.loads(sys.argv[1])
began = time.monotonic()
if what == "index":
    whence.build_index(model, data, out, **options)
else:
    rows = [row for row, _ in zip(map(json.loads, open(data, encoding="utf-8")), range(n_queries))]
    tracer = whence.Tracer(out, **{key: value for key, value in options.items() if key == "base"})
    began = time.monotonic()
    tracer.trace_many([whence.Query.of(row["prompt"], row["response"]) for row in rows], k=10)
print(json.dumps({"seconds": time.monotonic() - began}))
"""
"""Public names alone, which both checkouts have. Loading the model is no part of a trace's time."""


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="another checkout of whence")
    parser.add_argument("--model", help="folder of a checkpoint; left out, a tiny one with random weights")
    parser.add_argument("--adapter", help="its adapter")
    parser.add_argument("--data", type=Path, help="rows with prompt and response; left out, the bench's")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=256, help="0: no trace")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model, options = (args.model, {"adapter": args.adapter} if args.adapter else {})
    rows = base_rows(0, args.rows) if args.data is None else list(read_examples(args.data))[: args.rows]
    data = write_rows(args.out / "rows.jsonl", rows)
    if model is None:
        model, options = tiny(args.out, rows)
    done = ("index", "trace") if args.queries else ("index",)
    checkouts = {"before": args.before / "src", "now": HERE / "src"}
    seconds: dict[str, list[float]] = {}
    for repeat in range(args.repeats):
        for name, source in checkouts.items():
            index = args.out / f"index-{name}-{repeat}"
            shutil.rmtree(index, ignore_errors=True)
            for what in done:
                told = json.dumps([what, model, str(data), str(index), options, args.queries])
                seconds.setdefault(f"{what} {name}", []).append(in_process(source, told))
    found = {
        key: {"median": round(median(own), 2), "all": [round(one, 2) for one in own]} for key, own in seconds.items()
    }
    ratios = {
        what: [round(a / b, 2) for a, b in zip(seconds[f"{what} before"], seconds[f"{what} now"], strict=True)]
        for what in done
    }
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "threads": os.environ.get("OMP_NUM_THREADS")}
    sizes = {"rows": len(rows), "queries": args.queries, "model": args.model or "tiny, random"}
    print(json.dumps({"seconds": found, "before / now": ratios} | sizes | machine, indent=1))


def in_process(source: Path, told: str) -> float:
    """Seconds of the work in a checkout's own process."""
    environment = os.environ | {"PYTHONPATH": str(source.resolve()), "PYTHONWARNINGS": "ignore"}
    ran = subprocess.run(
        [sys.executable, "-c", WORK, told], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(json.loads(ran.stdout.splitlines()[-1])["seconds"])


def write_rows(path: Path, rows: list[Example]) -> Path:
    """Prompt and response of each row."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({"prompt": row.turns[-2].content, "response": row.turns[-1].content}) + "\n")
    return path


def tiny(out: Path, rows: list[Example]) -> tuple[str, dict[str, str]]:
    """The bench's model with random weights and a base of its size, both saved; the options of `build_index`."""
    settings = LanguageSettings()
    tokenizer = train_tokenizer(rows, settings.vocab_size)
    for seed, name in enumerate(("model", "base")):
        new_model(tokenizer, settings.model_copy(update={"seed": seed})).save_pretrained(out / name)
        tokenizer.save_pretrained(out / name)
    return str(out / "model"), {"base": str(out / "base")}


if __name__ == "__main__":
    main()
