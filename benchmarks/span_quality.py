"""Does asking about the wrong words find more than asking about the whole answer? Average precision, with intervals.

    python benchmarks/span_quality.py --seeds 0 1 2 -o runs/span-quality

Known faults are planted as in `whence bench` (models are kept in OUT/models and made once). Ways of asking, each over
all rows: the first token's gradient (the paper's g), the whole response, the wrong words (found by the task's own
matcher), the wanted answer (the true country; the answer without its opener) and the tokens that fine-tuning raised
most; by the best position in each row, and as a second stage over the best rows of the default method, or over all of
them. Beside them, methods of the bench. Intervals are 95% bootstraps over all queries of all seeds.
OUT/span-quality.json has each query's figures.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from whence.bench.cases import BenchSettings, made_case
from whence.bench.subject import TrainedCase, train_case
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Turn
from whence.methods.base import SharedWork
from whence.methods.registry import method_class
from whence.metrics.retrieval import average_precision, bootstrap, ranking
from whence.model.likelihood import learned_fraction, token_shifts
from whence.scoring.defaults import DEFAULT_METHOD
from whence.signatures.extract import Extractor
from whence.signatures.types import TokenGradients
from whence.trace.query.spans import span_positions
from whence.trace.query.targets import QueryTarget, automatic_positions, span_target, wanted_target
from whence.trace.rank.reranking import RERANK_WEIGHT, best_position

CASES = [
    (task, variant) for task in ("false-fact", "false-fact-late", "backdoor") for variant in BenchSettings().variants
]
BESIDE = ("repsim", "rept", "rept-centred", "rept-contrast", "g-cosine", "bm25", "bm25-full")
WRONG, TRUE = "Peru", "Norway"
"""The planted country of the false facts, and where the cities are."""
Figures = dict[str, list[float]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--queries", type=int, default=20, help="held-out prompts that are asked")
    parser.add_argument("--cases", nargs="+", default=[f"{task}/{variant}" for task, variant in CASES])
    parser.add_argument("--best", type=int, default=200, help="rows that the second stage reads again")
    parser.add_argument("-o", "--out", type=Path, required=True)
    return parser.parse_args()


def targets(
    planted: TrainedCase, turn: EncodedTurn, gains: Tensor, whole: tuple[Tensor, Tensor]
) -> dict[str, QueryTarget]:
    """The ways of asking about one answer, at the last layer; no wanted one where only the fault was said."""
    loaded = planted.subject.loaded
    layer = loaded.n_layers
    match = re.search(planted.case.matcher.pattern, turn.response, re.DOTALL)
    assert match is not None, "a query shows its fault"
    answer = turn.response[match.end() :].strip() if match.start() == 0 else ""
    wanted = turn.response.replace(WRONG, TRUE) if planted.case.task.startswith("false-fact") else answer
    E, H = whole
    found = {
        "first token": QueryTarget((0,), E[:1], {layer: H[:1]}),
        "whole response": QueryTarget(tuple(range(len(E))), E, {layer: H}),
        "span": span_target(loaded, [layer], turn, span_positions(turn, match.span())),
        "automatic": span_target(loaded, [layer], turn, automatic_positions(gains)),
    }
    if wanted.strip():
        encoded = Encoder(loaded.tokenizer).encode_query([Turn("user", turn.prompt)], wanted)
        found["wanted"] = wanted_target(loaded, [layer], turn, encoded)
    return found


def case_figures(planted: TrainedCase, best: int) -> Figures:
    """way of asking -> average precision of each query."""
    loaded, queries = planted.subject.loaded, planted.queries
    assert queries is not None
    layer = loaded.n_layers
    found: Figures = defaultdict(list)
    relevant = np.array(planted.case.faulty)[planted.row_of]
    scores = {}
    for name in BESIDE:
        method = method_class(name)(planted.subject)
        method.fit(planted.train)
        scores[name] = method.score(queries)
        found[name] = [average_precision(row, relevant) for row in scores[name]]
    extractor = Extractor(loaded, [layer], max_tokens=planted.subject.max_tokens)
    rows, asked = (extractor.extract(side.turns, token_gradients=True).tokens for side in (planted.train, queries))
    assert rows is not None
    assert asked is not None
    centre = torch.cat([H.mean(0, keepdim=True) for H in rows[layer].H]).mean(0)
    raised = [shift.gain for shift in token_shifts(loaded, queries.turns)]
    share = learned_fraction(torch.stack([shift.gain.sum() for shift in token_shifts(loaded, planted.train.turns)]))
    for q, turn in enumerate(queries.turns):
        whole = (asked[layer].E[q], asked[layer].H[q])
        first = scores[DEFAULT_METHOD][q]
        for name, ranked in rankings(
            targets(planted, turn, raised[q], whole), rows[layer], centre, share, first, best
        ).items():
            found[name].append(average_precision(ranked, relevant))
    return found


def rankings(
    asked: Mapping[str, QueryTarget], rows: TokenGradients, centre: Tensor, share: Tensor, first: Tensor, best: int
) -> dict[str, Tensor]:
    """Scores of all rows for each way of asking: best position alone, second stage over the best rows and over all."""
    found = {}
    centred = [H - centre for H in rows.H]
    front = ranking(first)[:best].tolist()
    for name, target in asked.items():
        (states,) = target.states.values()
        found[f"{name}: best position"] = best_position(target.errors, rows.E)
        alike = best_position(target.errors, rows.E, target_states=states - centre, row_states=centred)
        both = (first + RERANK_WEIGHT * (share * alike).to(first.dtype)) / (1 + RERANK_WEIGHT)
        # Rows that are not read again stay behind those that are, in the order of the first stage.
        moved = first - 10
        moved[front] = both[front]
        found[f"{name}: second stage, best {best}"], found[f"{name}: second stage, all"] = moved, both
    return found


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    settings = BenchSettings(seeds=tuple(args.seeds), n_queries=args.queries)
    figures: dict[str, Figures] = {}
    started = time.monotonic()
    for case_name in args.cases:
        task, variant = case_name.split("/")
        pooled: Figures = defaultdict(list)
        for seed in args.seeds:
            case = made_case(settings, task, variant, seed)
            planted = train_case(case, settings, args.out / "models", SharedWork(), lambda *_: None)
            for name, values in (case_figures(planted, args.best) if planted.queries else {}).items():
                pooled[name] += values
        figures[case_name] = pooled
    made = {"seeds": args.seeds, "best": args.best, "seconds": round(time.monotonic() - started)}
    (args.out / "span-quality.json").write_text(json.dumps(made | {"average_precision": figures}, indent=1) + "\n")
    print(f"{platform.machine()}, 1 thread, torch {torch.__version__}, seeds {args.seeds}\n")
    print("| asked by | " + " | ".join(f"{name} (n={len(figures[name].get('bm25', []))})" for name in figures) + " |")
    print("|---" * (len(figures) + 1) + "|")
    for name in next((case for case in figures.values() if case), {}):
        cells = [str(bootstrap(case[name])) if case.get(name) else "none asked" for case in figures.values()]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
