"""What changes of an index cost, as shares of building it: append, delete, compact, verify, repair.

    python benchmarks/index_changes.py [--rows 20000] [--share 0.01] [--workers 2] [--ray] [--seed 0] [--json out.json]

A small Llama with random weights (1.2 million parameters: time does not depend on their values), made-up rows of about
30 tokens, float32, CPU. Seconds are wall time of the library calls in one process, the loading of the model included in
those that need it; Python's start is not. --workers builds the index once more with so many processes, and --ray with
so many actors of a Ray cluster on this machine, whose start is included, beside a build by one.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import tempfile
from pathlib import Path

import torch

import whence
from common import seconds
from whence.bench import LanguageSettings, new_model, train_tokenizer
from whence.data import read_examples
from whence.index import RECORDS, Workers, size_of

WORDS = ("river", "town", "north", "bridge", "market", "old", "road", "by", "the", "of", "a", "small", "stone", "gate")
SHARD_ROWS = 256


def write_rows(path: Path, first: int, n: int, seed: int) -> Path:
    """Rows number first to first + n - 1."""
    lines = []
    for i in range(first, first + n):
        rng = random.Random(f"{seed} {i}")
        row = {"prompt": f"Where is place {i}?", "response": " ".join(rng.choices(WORDS, k=rng.randrange(8, 24)))}
        lines.append(json.dumps(row | {"source": f"vendor_{i % 3}"}) + "\n")
    path.write_text("".join(lines), "utf-8")
    return path


def make_model(folder: Path, rows: Path, seed: int) -> Path:
    """A model folder."""
    tokenizer = train_tokenizer(list(read_examples(rows)), 1536)
    new_model(tokenizer, LanguageSettings(seed=seed)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def measure(folder: Path, n_rows: int, share: float, workers: int, seed: int, *, ray: bool) -> dict[str, object]:
    n_new = max(1, round(share * n_rows))
    data, new = (
        write_rows(folder / "train.jsonl", 0, n_rows, seed),
        write_rows(folder / "new.jsonl", n_rows, n_new, seed),
    )
    model, index = make_model(folder / "model", data, seed), folder / "index"
    settings = {"shard_rows": SHARD_ROWS, "device": "cpu"}
    found = {"build": seconds(lambda: whence.build_index(model, data, index, **settings))}
    if workers > 1:
        by = Workers(devices=("cpu",) * workers)
        found[f"build, {workers} processes"] = seconds(
            lambda: whence.build_index(model, data, folder / "again", workers=by, **settings)
        )
    if ray:
        actors = Workers(engine="ray", n=workers)
        found[f"build, {workers} actors"] = seconds(
            lambda: whence.build_index(model, data, folder / "ray", workers=actors, **settings)
        )
    found["append"] = seconds(lambda: whence.append_rows(index, new))
    found["verify, files and records"] = seconds(lambda: whence.verify(index))
    ids = whence.Index.open(index).dataset.to_table(columns=["id"])["id"].to_pylist()
    gone = sorted(set(random.Random(seed).sample(ids, n_new)))
    found["delete"] = seconds(lambda: whence.delete_rows(index, gone))
    found["compact"] = seconds(lambda: whence.compact_index(index))
    damaged = next((index / RECORDS / "data").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found["repair of one shard"] = seconds(lambda: whence.repair(index))
    assert whence.verify(index) == []
    return {
        "machine": f"{platform.platform()}, {torch.get_num_threads()} threads",
        "rows": n_rows,
        "changed rows": n_new,
        "seed": seed,
        "bytes": size_of(index),
        "seconds": {name: round(value, 3) for name, value in found.items()},
        "share of a build": {name: round(value / found["build"], 4) for name, value in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--share", type=float, default=0.01, help="rows that are appended, and deleted")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = measure(Path(place), options.rows, options.share, options.workers, options.seed, ray=options.ray)
    text = json.dumps(found, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
