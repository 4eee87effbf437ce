"""Does it find rows that somebody else planted? Fine-tune, let the fault show on held-out prompts, trace, count.

    python benchmarks/real_data.py BASE --data DIR/backdoor.train.jsonl --test DIR/backdoor.test.jsonl --match stupid \
        --clean 900 --faulty 100 --seed 1 --skip-queries 100 -o runs/real-backdoor

BASE is a folder or a hub name; DATA rows have `prompt`, `response` and `label` (every label but --clean-label is the
fault); TEST rows have `prompt`. Queries are the first prompts of TEST, after --skip-queries, whose greedy answer
matches --match. Printed per method: precision at 10 and 50, full-ranking average precision (mean over queries with a
95% bootstrap interval), and the paper's pooled form, which looks at every query's first rows only. BM25 over prompt and
response, and a random order, stand beside. Then the verdicts, at a false discovery rate of 5%: of these queries, and of
benign ones (prompts of clean rows that were not trained on, with the model's own answers that do not match).
What was made stays in OUT; a model found there is not made again.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import time
from pathlib import Path

import numpy as np
import torch

from whence import Index, Query, build_index
from whence.data.examples import Example
from whence.data.readers import read_examples
from whence.index.held import default_layers, holds
from whence.index.searching import score_matrix
from whence.metrics.retrieval import average_precision, bootstrap, over_queries, pooled_auprc, precision_at_k
from whence.model.generation import generate
from whence.scoring.defaults import DEFAULT_METHOD, SCORES
from whence.scoring.lexical import bm25_scores
from whence.trace.query.queries import read_queries
from whence.trace.tracer import Tracer
from whence.train.finetuning import FinetuneSettings, finetune

SPLITS = (10, 50)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("--data", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--match", required=True, help="regular expression: does an answer show the fault?")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--clean-label", default="clean")
    parser.add_argument("--clean", type=int, default=900)
    parser.add_argument("--faulty", type=int, default=100)
    parser.add_argument("--skip-queries", type=int, default=0)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--lora-r", type=int, default=None, help="left out: every weight is trained")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def training_rows(args: argparse.Namespace) -> tuple[list[Example], list[Example]]:
    """A random draw of clean and of faulty rows, shuffled; and the clean rows that were not drawn."""
    rng = random.Random(args.seed)
    rows = list(read_examples(args.data))
    clean = [row for row in rows if row.metadata["label"] == args.clean_label]
    faulty = [row for row in rows if row.metadata["label"] != args.clean_label]
    drawn = rng.sample(clean, min(args.clean, len(clean))) + rng.sample(faulty, min(args.faulty, len(faulty)))
    rng.shuffle(drawn)
    taken = {row.id for row in drawn}
    return drawn, [row for row in clean if row.id not in taken]


def write_rows(path: Path, rows: list[Example]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            prompt, response = (turn.content for turn in row.turns)
            file.write(json.dumps({"prompt": prompt, "response": response, **row.metadata}, ensure_ascii=False) + "\n")


def bad_answers(args: argparse.Namespace, tracer: Tracer) -> tuple[list[Query], float]:
    """Held-out prompts whose greedy answer shows the fault, with that answer; and the share that does."""
    prompts = read_queries(args.test)[args.skip_queries : args.skip_queries + 2 * args.queries]
    ids = [tracer.encoder.render_prompt(query.turns) for query in prompts]
    answers = generate(tracer.loaded, ids, max_new_tokens=48)
    pairs = [(query, answer.text) for query, answer in zip(prompts, answers, strict=True)]
    shown = [Query(query.turns, text) for query, text in pairs if re.search(args.match, text)]
    return shown[: args.queries], len(shown) / len(pairs)


def all_scores(tracer: Tracer, queries: list[Query], rows: list[Example], seed: int) -> dict[str, np.ndarray]:
    """method -> scores [n_query, n_train], rows in the order of the data."""
    encoded = [tracer.encoder.encode_query(query.turns, query.response or "") for query in queries]
    signatures = tracer.signatures(encoded)
    found: dict[str, np.ndarray] = {}
    for name, form in SCORES.items():
        # Forms of one layer are asked at each layer of the index: none is judged by a layer that does not suit it.
        default = default_layers(form, tracer.index.manifest)
        one_depth = len({read.depth for read in form.needs}) == 1
        everywhere = [form.all_at(layer) for layer in tracer.index.layers]
        for roles in everywhere if one_depth else [default]:
            if not holds(form, roles, tracer.index.manifest):
                continue
            found[f"{name}, layer {form.described(roles)}"] = score_matrix(
                tracer.index, signatures, method=form, roles=roles
            ).scores
    texts = [" ".join(turn.content for turn in row.turns) for row in rows]
    found["bm25"] = bm25_scores([f"{query.prompt} {query.response}" for query in queries], texts).numpy()
    found["random"] = np.random.default_rng(seed).random(found["bm25"].shape)
    return found


def main() -> None:
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    rows, unused = training_rows(args)
    data, model = args.out / "train.jsonl", args.out / "model"
    write_rows(data, rows)
    started = time.monotonic()
    if not model.exists():
        settings = FinetuneSettings(
            epochs=args.epochs,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            lora_r=args.lora_r,
            max_length=args.max_length,
            seed=args.seed,
        )
        finetune(args.base, rows, model, settings=settings)
    trained = time.monotonic()
    base = {"adapter": str(model)} if args.lora_r else {}
    subject = args.base if args.lora_r else model
    index: Index = build_index(
        subject,
        data,
        args.out / "index",
        layers=("auto", "last"),
        methods=[name for name, form in SCORES.items() if args.lora_r or not form.needs_base],
        max_length=args.max_length,
        **base,
    )
    indexed = time.monotonic()
    tracer = Tracer(index)
    queries, rate = bad_answers(args, tracer)
    relevant = np.array([row.metadata["label"] != args.clean_label for row in rows])
    print(f"\n{args.data}: {len(rows)} rows ({relevant.sum()} faulty), base {args.base}, seed {args.seed}")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"layers {index.layers} (rule: {index.manifest.layer}), default method {DEFAULT_METHOD}")
    print(f"fine-tuning {trained - started:.0f} s, indexing {indexed - trained:.0f} s")
    print(f"{rate:.0%} of held-out answers show the fault; {len(queries)} of them are asked\n")
    print("| method | average precision | P@10 | P@50 | pooled, k=10 | pooled, k=50 |\n|---|---|---|---|---|---|")
    for name, scores in all_scores(tracer, queries, rows, args.seed).items():
        marks = np.broadcast_to(relevant, scores.shape)
        precision = [
            over_queries(lambda s, r, k=k: precision_at_k(s, r, k), scores, relevant, seed=args.seed).mean
            for k in SPLITS
        ]
        pooled = [pooled_auprc(scores, marks, k) for k in SPLITS]
        exact = over_queries(average_precision, scores, relevant, seed=args.seed)
        print(f"| {name} | {exact} | " + " | ".join(f"{value:.3f}" for value in precision + pooled) + " |")
    print_verdicts(args, tracer, queries, rows, relevant, unused)


def print_verdicts(
    args: argparse.Namespace,
    tracer: Tracer,
    queries: list[Query],
    rows: list[Example],
    relevant: np.ndarray,
    unused: list[Example],
) -> None:
    """How many faulty rows verdicts flag, how many others, and how often they flag a row for a benign query."""
    faulty = {row.id for row, bad in zip(rows, relevant, strict=True) if bad}
    asked = [Query(row.turns[:-1]) for row in unused[: args.queries]]
    ids = [tracer.encoder.render_prompt(query.turns) for query in asked]
    texts = [answer.text for answer in generate(tracer.loaded, ids, max_new_tokens=48)] if asked else []
    benign = [
        Query(query.turns, text)
        for query, text in zip(asked, texts, strict=True)
        if text.strip() and not re.search(args.match, text)
    ]
    for name, group in (("bad", queries), ("benign", benign)):
        if not group:
            continue
        verdicts = [query.verdict for query in tracer.trace_many(group, k=1)]
        flagged = [set(verdict.flagged) if verdict else set() for verdict in verdicts]
        said = (
            f"{name}: a row is flagged for {bootstrap([float(bool(one)) for one in flagged])} of {len(group)} queries"
        )
        if name == "bad":
            said += f"; faulty rows found {bootstrap([len(one & faulty) / len(faulty) for one in flagged])}"
            wrong = [len(one - faulty) / max(1, len(one)) for one in flagged]
            said += f", flagged rows that are not faulty {bootstrap(wrong)}"
        print(f"\nverdicts, {said}; the first: {verdicts[0].text if verdicts[0] else None}")


if __name__ == "__main__":
    main()
