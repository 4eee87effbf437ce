"""What the words of ten rows cost, over reading these rows once with both models (fine-tuned and base).

    python benchmarks/words_cost.py --index INDEX --prompt TEXT --response TEXT [--words 10] [--repeats 3]

The query is ranked against the index; then, in turns, its first rows are read once with both models (whole rows in
batches, logits of response tokens alone) and explained (`Tracer.explain`). Printed, for each query, as JSON: forward
tokens (positions that went through a decoder, padding included, of both models), those of the backward passes, and
seconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor, nn

from whence.data import EncodedTurn, length_batches
from whence.model import LoadedModel, before_tuning, head_likelihood, laid_out
from whence.trace.query.queries import Query
from whence.trace.rank.matched_rows import encoded_rows
from whence.trace.settings import TraceSettings
from whence.trace.tracer import Tracer


@dataclass
class Work:
    """Positions that went through decoders: forwards, and those of them whose graph was walked backwards."""

    forward: int = 0
    backward: int = 0
    passes: list[tuple[int, ...]] = field(default_factory=list)


@contextmanager
def counted(models: list[LoadedModel]) -> Iterator[Work]:
    """Counts the work of these models' decoders while open."""
    work = Work()

    def hook(module: nn.Module, args: object, kwargs: dict[str, Tensor], output: object) -> None:
        last: Tensor = output.last_hidden_state  # type: ignore[attr-defined]
        batch, width = last.shape[:2]
        work.forward += batch * width
        work.passes.append((batch, width))
        if last.requires_grad:
            last.register_hook(lambda gradient: _add(work, gradient))

    decoders = {id(model.blocks.decoder): model.blocks.decoder for model in models}
    handles = [decoder.register_forward_hook(hook, with_kwargs=True) for decoder in decoders.values()]
    try:
        yield work
    finally:
        for handle in handles:
            handle.remove()


def _add(work: Work, gradient: Tensor) -> None:
    work.backward += gradient.shape[0] * gradient.shape[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", required=True)
    parser.add_argument("--prompt", required=True, nargs="+")
    parser.add_argument("--response", required=True, nargs="+")
    parser.add_argument("--words", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--passes", action="store_true", help="print the shape of each forward pass")
    options = parser.parse_args()
    tracer = Tracer(options.index, device="cpu")
    for prompt, response in zip(options.prompt, options.response, strict=True):
        print(json.dumps(measured(tracer, Query.of(prompt, response), options), indent=1), flush=True)


@torch.no_grad()
def read_once(tracer: Tracer, rows: Sequence[EncodedTurn]) -> None:
    """The plain reading: every row whole, with each model, sorted by length."""
    for read_by in (nullcontext(tracer.loaded), before_tuning(tracer.loaded, tracer.models.base)):
        with read_by as reader:
            for indices in length_batches(rows, max_tokens=2048):
                layout = laid_out([rows[i] for i in indices], reader.pad_id, reader.device)
                hidden = reader.blocks.decoder(input_ids=layout.ids, use_cache=False).last_hidden_state
                head_likelihood(reader, layout.predicting(hidden), layout.targets)


def measured(tracer: Tracer, query: Query, options: argparse.Namespace) -> dict[str, object]:
    """Work and seconds of one query's words and of reading its rows."""
    settings = TraceSettings(k=options.words, words=options.words, verdict=False)
    ranked = tracer.rank(tracer.encode(tracer.answer([query], settings), settings), settings)
    rows = encoded_rows(tracer.index, tracer.encoder, ranked.matches[0][: options.words])
    models = [tracer.loaded, *([tracer.models.base] if tracer.models.base else [])]
    work: dict[str, Callable[[], object]] = {
        "read": lambda: read_once(tracer, rows),
        "words": lambda: list(tracer.explain(ranked, None, settings)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    counts: dict[str, Work] = {}
    for _ in range(options.repeats):
        for name, run in work.items():
            with counted(models) as count:
                started = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - started)
            counts[name] = count
    ratios = [words / read for words, read in zip(seconds["words"], seconds["read"], strict=True)]
    if options.passes:
        print(counts["words"].passes)
    tokens = sum(len(turn.input_ids) for turn in rows)
    return {
        "model": tracer.loaded.settings.model,
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "dtype": str(tracer.loaded.dtype),
        "rows": len(rows),
        "tokens": tokens,
        "response_tokens": sum(turn.n_response for turn in rows),
        "read_forward_tokens": counts["read"].forward,
        "words_forward_tokens": counts["words"].forward,
        "words_backward_tokens": counts["words"].backward,
        "forward_tokens_over_tokens_read_once_by_both": round(counts["words"].forward / (2 * tokens), 2),
        "backward_tokens_over_the_same": round(counts["words"].backward / (2 * tokens), 2),
        "read_seconds": round(median(seconds["read"]), 3),
        "words_seconds": round(median(seconds["words"]), 3),
        "seconds_over_seconds": [round(ratio, 2) for ratio in sorted(ratios)],
    }


if __name__ == "__main__":
    main()
