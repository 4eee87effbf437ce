"""What the default method costs beside RepT: extraction, bytes a row, and asking an index of many rows.

    python benchmarks/default_cost.py [--rows 100000] [--threads 2] [--repeats 3] [--seed 0]

Extraction: a Llama of 8 layers with random weights and a LoRA adapter, short prompts and answers of 80 tokens. RepT's h
and g at layer 6 by the plain procedure (one example at a time, full passes) and by whence's fast path, beside all that
the default's index stores (layers 6 and last), without and with the base. Times are ratios of medians within this run;
repeats alternate. Asking: an index of random vectors of the demo's width; one search for the ten best rows, by
`rept-contrast` (two passes and the first rows' vectors), `rept-centred` and `rept`; bytes a row on disk.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from common import seconds
from index_speed import SHORT_PROMPTS, SMALL, oracle_costs, random_model, random_turns, wrap
from whence.bench.tiny_model import LanguageSettings
from whence.data.examples import ASSISTANT, EncodedTurn, Example, Turn
from whence.index.centres import read_centres, write_centres
from whence.index.held import vectors_read
from whence.index.manifest import ADAPTER_OFF, RECORDS, Counts, DataSummary, Manifest
from whence.index.records import PendingRecord, append_records, open_records, record_table
from whence.index.searching import search
from whence.index.store import Index
from whence.model.fingerprints import Fingerprint
from whence.scoring.defaults import SCORES, default_method
from whence.scoring.forms import Depths
from whence.signatures.extract import Extractor
from whence.signatures.types import Extracted, Signatures

SHARD = 10_000
ASKED = ("rept-contrast", "rept-centred", "rept")


def extraction(n: int, repeats: int, seed: int) -> None:
    """Prints seconds of each way, and its ratio to RepT by the fast path."""
    turns = random_turns(n, SHORT_PROMPTS, SMALL["vocab_size"], seed)
    rule, last = SMALL["num_hidden_layers"] * 3 // 4, SMALL["num_hidden_layers"]
    lora = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    plain = get_peft_model(random_model(SMALL, seed), lora).eval()
    adapted = get_peft_model(random_model(SMALL, seed), lora).eval()
    loaded, depths = wrap(adapted), Depths(rule, last)
    default, without = (
        form.vectors(form.layers(depths)) for form in (default_method(has_base=base) for base in (True, False))
    )
    ways = {
        "RepT, plain procedure": lambda: oracle_costs(plain, turns, rule),
        "RepT, fast path": lambda: Extractor(loaded, vectors=[(rule, "h"), (rule, "g")]).extract(turns),
        "the default's index without a base": lambda: Extractor(loaded, vectors=without).extract(turns),
        "the default's index": lambda: Extractor(loaded, vectors=default, contrast=True).extract(turns),
    }
    for work in ways.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            times[name].append(seconds(work))
    reference = times["RepT, fast path"]
    print("| extraction | seconds | times RepT's fast path | times RepT's plain procedure |\n|---|---:|---:|---:|")
    for name, own in times.items():
        fast = statistics.median(a / b for a, b in zip(own, reference, strict=True))
        slow = statistics.median(a / b for a, b in zip(own, times["RepT, plain procedure"], strict=True))
        print(f"| {name} | {statistics.median(own):.2f} | {fast:.2f} | {slow:.2f} |")


def asking(n_rows: int, repeats: int, seed: int) -> None:
    """Prints seconds of one search by each form, and bytes a row."""
    width, n_layers = LanguageSettings().hidden_size, LanguageSettings().n_layers
    depths = Depths(n_layers - 1, n_layers)
    vectors = vectors_read([SCORES[name] for name in ASKED], depths, hidden_size=width)
    manifest = Manifest(
        hashes=Fingerprint(weights="", adapter="", tokenizer="", template=""), model="random", dtype="float32",
        n_layers=n_layers, layer=depths.rule, max_length=64, vectors=vectors, base=ADAPTER_OFF,
        data=DataSummary(source="random", content_hash="", n_rows=n_rows),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for shard, first in enumerate(range(0, n_rows, SHARD)):
            count = min(SHARD, n_rows - first)
            records = [_record(first + i) for i in range(count)]
            append_records(folder, record_table(manifest, shard, records, _random(manifest, count, generator)))
        dataset = open_records(folder)
        assert dataset is not None
        write_centres(folder, manifest, dataset)
        size = sum(path.stat().st_size for path in (folder / RECORDS).rglob("*") if path.is_file())
        counts = Counts(n_rows=n_rows, n_records=n_rows, n_rejected=0, n_truncated=0)
        complete = manifest.model_copy(update={"status": "complete", "counts": counts})
        index = Index(folder, complete, dataset, *read_centres(folder, complete))
        query = _random(manifest, 1, generator).layers
        times = {name: [] for name in ASKED}
        for _ in range(repeats + 1):
            for name in ASKED:
                times[name].append(seconds(lambda name=name: search(index, query, method=SCORES[name], k=10)))
    print(f"\n{n_rows:,} rows of width {width}, layers {manifest.layers}: {size / n_rows:,.0f} bytes a row on disk\n")
    print("| asking | seconds, median | each |\n|---|---:|---|")
    for name, own in times.items():
        print(f"| `{name}` | {statistics.median(own[1:]):.2f} | {', '.join(f'{one:.2f}' for one in own[1:])} |")


def _record(row: int) -> PendingRecord:
    prompt, response = f"Where is place {row}?", "It is in a country by the sea."
    turns = (Turn("user", prompt), Turn(ASSISTANT, response))
    encoded = EncodedTurn(0, (1, 2, 3), 2, "", (), prompt, response)
    return PendingRecord(row, Example(turns, "train.jsonl", row + 1), encoded)


def _random(manifest: Manifest, n: int, generator: torch.Generator) -> Extracted:
    named: dict[int, dict[str, torch.Tensor]] = {}
    for vector in manifest.vectors:
        named.setdefault(vector.layer, {})[vector.name] = torch.randn(n, vector.dim, generator=generator)
    layers = {layer: Signatures(**found) for layer, found in named.items()}
    ones = torch.ones(n)
    width = LanguageSettings().hidden_size
    return Extracted(
        layers, ones, ones.long(), gradient_norm=ones, mean_state=torch.zeros(n, width), log_likelihood_gain=ones
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=48, help="turns that are extracted")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{platform.machine()}, {args.threads} threads, torch {torch.__version__}, float32, seed {args.seed}\n")
    extraction(args.turns, args.repeats, args.seed)
    asking(args.rows, args.repeats, args.seed)


if __name__ == "__main__":
    main()
