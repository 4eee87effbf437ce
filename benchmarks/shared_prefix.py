"""What a system prompt that all rows share costs an index: run once a batch, and run with every row.

    python benchmarks/shared_prefix.py [--model FOLDER] [--rows 16] [--prefix 200] [--repeats 3]

The default's vectors of random rows behind the same random tokens, both ways in one run, alternately; the same of rows
without the shared tokens, for what is left when they cost nothing. FOLDER is a model of transformers, which gets a
LoRA of rank 16 as its fine-tuning; left out, a random Llama of 98M parameters and a base. Printed as JSON, with the
largest difference of the two ways over all vectors, each relative to its largest value.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from random import Random

import torch

from common import default_extractor
from cost import random_turns, spread, subject, timed
from whence.data.examples import EncodedTurn
from whence.model import prefixes
from whence.model.loading import LoadedModel
from whence.signatures.types import Extracted

NEVER = 1 << 60
"""More saved tokens than there are."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a folder; left out, random weights")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--prefix", type=int, default=200)
    parser.add_argument("--prompt", type=int, default=20)
    parser.add_argument("--response", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=2048)
    args = parser.parse_args()
    tuned, base = subject(args.model, torch.float32, "cpu")
    bare = random_turns(args.rows, args.prompt, args.response, tuned.vocab_size)
    turns = behind(bare, args.prefix, tuned)
    extractor = default_extractor(tuned, base, args.max_tokens)
    results: dict[str, Extracted] = {}

    def work(name: str, rows: list[EncodedTurn], saved: int) -> Callable[[], object]:
        def run() -> None:
            prefixes.SAVED_TOKENS = saved
            results[name] = extractor.extract(rows)

        return run

    worthwhile = prefixes.SAVED_TOKENS
    seconds = timed(
        {
            "shared": work("shared", turns, worthwhile),
            "whole": work("whole", turns, NEVER),
            "bare": work("bare", bare, NEVER),
        },
        args.repeats,
        tuned.device,
    )
    faster = [whole / shared for whole, shared in zip(seconds["whole"], seconds["shared"], strict=True)]
    found = {
        "model": args.model or "random Llama, 98M",
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "rows": args.rows,
        "prefix": args.prefix,
        "tokens": sum(len(turn.input_ids) for turn in turns),
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "times_faster": spread(faster),
        "largest_difference": difference(results["shared"], results["whole"]),
    }
    print(json.dumps(found, indent=2))


def behind(turns: list[EncodedTurn], n: int, loaded: LoadedModel) -> list[EncodedTurn]:
    """The turns behind n tokens that all share."""
    rng = Random(1)
    begin = tuple(rng.randrange(loaded.vocab_size) for _ in range(n))
    return [EncodedTurn(0, begin + turn.input_ids, n + turn.response_start, "", (), "", "") for turn in turns]


def difference(one: Extracted, other: Extracted) -> float:
    """The largest difference of a vector's entries, relative to the largest entry of that vector in all rows."""
    worst = 0.0
    for layer, own in one.layers.items():
        for name, vectors in own.named().items():
            expected = other.layers[layer].named()[name]
            worst = max(worst, ((vectors - expected).abs().max() / expected.abs().max()).item())
    return worst


if __name__ == "__main__":
    main()
