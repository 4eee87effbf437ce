"""How right a plan is: predicted against measured time, memory and disk of real builds.

    python benchmarks/plan_accuracy.py [--seeds 0 1 2] [--threads 1] [--rows 2000] [--json out.json]

Every plan and every build is a process of its own, so that peak memory is its own too. Three Llamas with random weights
(time does not depend on them), each with short rows, with long rows and with rows of very different lengths. The ratio
is predicted / measured; an interval is the 95% bootstrap over seeds, models and data. Python's own start is not in it.
With --real FOLDER --real-data FILE a real model and its rows come first, once a seed. --clock processor counts seconds
of the process's own threads, on a machine that other processes share.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS = {
    "1M": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 384},
    "9M": {"hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 704},
    "44M": {"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 1536},
}
VOCAB = 4096
DATA = {"short": ((3, 20), (3, 30)), "long": ((100, 400), (20, 200)), "mixed": ((3, 500), (3, 300))}
"""Least and most words of prompt and response; every word is a token."""
SHARE = {"1M": 1.0, "9M": 0.5, "44M": 0.1}
"""Of --rows, so that no build takes more than a minute or two."""
LONGER = {"short": 1.0, "long": 0.2, "mixed": 0.2}

RUN = """
import json, sys, time
if sys.argv[5] == "processor":
    time.perf_counter = time.process_time
import torch
torch.set_num_threads(int(sys.argv[4]))
from whence.planning.memory import peak_bytes
from whence.planning.planning import plan
from whence.index.build import build_index
what, model, data = sys.argv[1:4]
if what == "plan":
    print(plan(model, data).to_json())
else:
    started = time.perf_counter()
    build_index(model, data, sys.argv[6])
    print(json.dumps({"seconds": time.perf_counter() - started, "memory": peak_bytes()}))
"""


def save_model(folder: Path, shape: dict[str, int], seed: int) -> None:
    """A random Llama with a tokenizer of one token a word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    config = LlamaConfig(**shape, vocab_size=VOCAB, max_position_embeddings=2048, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(folder)
    words = {"[UNK]": 0, "[PAD]": 1, "[END]": 2} | {f"w{i}": i for i in range(3, VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", eos_token="[END]"
    ).save_pretrained(folder)


def write_data(path: Path, name: str, n: int, seed: int) -> None:
    rng = random.Random(f"{name}/{seed}")

    def text(bounds: tuple[int, int]) -> str:
        return " ".join(f"w{rng.randrange(3, VOCAB)}" for _ in range(rng.randint(*bounds)))

    prompts, responses = DATA[name]
    rows = ({"prompt": text(prompts), "response": text(responses)} for _ in range(n))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(*words: object) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, words)], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return json.loads(done.stdout)


def measured(model: str, data: str, seed: int, args: argparse.Namespace) -> dict[str, float | str | int]:
    """One plan and one build, and what was predicted over what was measured. A model of no known name is a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if model in MODELS:
            save_model(folder / "model", MODELS[model], seed)
            n = max(50, round(args.rows * SHARE[model] * LONGER[data]))
            write_data(folder / "train.jsonl", data, n, seed)
            places = (folder / "model", folder / "train.jsonl", args.threads, args.clock)
        else:
            n = sum(1 for line in Path(data).read_text("utf-8").splitlines() if line.strip())
            places = (Path(model), Path(data), args.threads, args.clock)
        predicted = run("plan", *places)
        built = run("build", *places, folder / "index")
        disk = sum(path.stat().st_size for path in (folder / "index").rglob("*") if path.is_file())
    return {
        "model": Path(model).name,
        "data": Path(data).name,
        "seed": seed,
        "n_rows": n,
        "probe_seconds": predicted["probe_seconds"],
        "predicted_seconds": predicted["seconds"]["total"],
        "seconds": built["seconds"],
        "time": predicted["seconds"]["total"] / built["seconds"],
        "memory": predicted["memory"] / built["memory"],
        "disk": predicted["disk"] / disk,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--real", help="a folder: a real model, or an adapter that names its base")
    parser.add_argument("--real-data", help="its rows")
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    parser.add_argument("--json", default=None)
    args = parser.parse_args()
    from whence.metrics.retrieval import bootstrap

    found = []
    print("| model | data | seed | rows | probe s | predicted s | measured s | time | memory | disk |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    pairs = [(model, data) for model in args.models for data in args.data]
    if args.real:
        pairs.insert(0, (args.real, args.real_data))
    for seed in args.seeds:
        for model, data in pairs:
            one = measured(model, data, seed, args)
            found.append(one)
            shown = " | ".join(f"{one[k]:.2f}" if isinstance(one[k], float) else str(one[k]) for k in one)
            print(f"| {shown} |", flush=True)
    for what in ("time", "memory", "disk"):
        ratios = [float(one[what]) for one in found]
        interval = bootstrap([math.log(ratio) for ratio in ratios])
        low, mean, high = (math.exp(x) for x in (interval.low, interval.mean, interval.high))
        within = sum(1 / 1.3 <= ratio <= 1.3 for ratio in ratios)
        print(
            f"{what}: predicted / measured {mean:.2f} [{low:.2f}, {high:.2f}] (geometric mean, 95%), "
            f"from {min(ratios):.2f} to {max(ratios):.2f}; {within} of {len(ratios)} within a factor of 1.3"
        )
    print(f"{platform.machine()}, {args.threads} threads, Python {platform.python_version()}, float32, {args.clock}")
    if args.json:
        Path(args.json).write_text(json.dumps({"settings": vars(args), "runs": found}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
