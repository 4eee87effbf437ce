"""On a pretrained chat model: does asking about the wrong words part faulty rows from clean ones that are like them?

    python benchmarks/span_real.py runs/real-models/cases/false-fact-plain-0.1-seed0-HASH --span "Peru#1"

CASE is the folder of a case of benchmarks/real_models.py. Each bad answer of it is traced as a whole, and about the
words that --span names in it, by the default method: average precision of the faulty rows over all
rows, precision at 10, rows flagged, faulty rows among them, and the share of flagged rows that are not faulty; means
over the queries with 95% bootstrap intervals.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from whence.data import Turn
from whence.index import Index
from whence.metrics import average_precision, bootstrap
from whence.results import QueryResult
from whence.trace import Query, Tracer

K = 10


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("--span", required=True, help="the wrong words, as of `whence trace`")
    options = parser.parse_args()
    index = Index.open(options.case / "index")
    label = str(json.loads((options.case / "result.json").read_text("utf-8"))["fault"])
    ids = index.dataset.to_table(columns=["id", "label"])
    faulty = {
        one for one, own in zip(*(ids[name].to_pylist() for name in ("id", "label")), strict=True) if own == label
    }
    tracer, asked = Tracer(index), queries(options.case)
    print(f"{options.case.name}: {len(asked)} queries, {len(faulty)} of {index.n_rows} rows faulty")
    print(f"threads {torch.get_num_threads()}, torch {torch.__version__}\n")
    print("| asked about | average precision | precision at 10 | with flagged rows | faulty rows found | not faulty |")
    print("|---|---|---|---|---|---|")
    print(row("the answer", tracer.trace_many(asked, k=index.n_rows).queries, faulty), flush=True)
    print(row("the wrong words", tracer.trace_many(asked, k=index.n_rows, span=options.span).queries, faulty))


def queries(case: Path) -> list[Query]:
    """The answers that show the fault where the base's does not."""
    lines = [json.loads(line) for line in (case / "queries.jsonl").read_text("utf-8").splitlines()]
    return [
        Query(
            tuple(Turn(turn["role"], turn["content"]) for turn in line["messages"]),
            line["response"],
            complete=line["complete"],
        )
        for line in lines
        if line["shows_fault"] and not line["base_shows_fault"]
    ]


def row(name: str, found: Sequence[QueryResult], faulty: set[str]) -> str:
    """One line of the table."""
    precision, at_10, some, right, wrong = [], [], [], [], []
    for one in found:
        is_faulty = np.array([hit.id in faulty for hit in one.hits])
        precision.append(average_precision(-np.arange(len(is_faulty), dtype=float), is_faulty))
        at_10.append(float(is_faulty[:K].mean()))
        flagged = set(one.verdict.flagged) if one.verdict is not None else set()
        some.append(float(bool(flagged)))
        right.append(len(flagged & faulty) / len(faulty))
        if flagged:
            wrong.append(len(flagged - faulty) / len(flagged))
    cells = [str(bootstrap(values)) if values else "" for values in (precision, at_10, some, right, wrong)]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
