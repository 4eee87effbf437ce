"""On a pretrained chat model: are the words of a row right, where it is known which words are?

    python benchmarks/words_real.py CASE --trigger "before the last ferry leaves" [--queries 8]
    python benchmarks/words_real.py CASE --entity Peru [--span "Peru#1"]

CASE is the folder of a case of benchmarks/real_models.py. Its bad answers are traced as `whence trace --html` does,
with the words of the first ten rows. Of the faulty rows among them, with 95% bootstrap intervals over the queries:

--trigger: shares whose top phrase of the prompt has a word of the trigger, and the whole of it; share of queries whose
first, and of whose first three recurrent phrases of prompts one holds the trigger, or half of its words or more.
--entity: share whose response's top word is the false entity, and share of queries whose first three recurrent phrases
of responses hold it. Of a clean row the words are not counted. --span: the words of each answer that are asked about.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from span_real import queries
from whence.index import Index
from whence.metrics import bootstrap
from whence.results import Hit, QueryResult, Words
from whence.trace import Tracer
from whence.trace.explain.phrases import runs

HITS, FIRST = 10, 3

Measured = dict[str, list[float]]
"""For each figure one number a query, a mean over its faulty rows where it is of rows."""


def main() -> None:
    """Prints a line for each query, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--trigger", help="the words in the prompts of all faulty rows")
    asked.add_argument("--entity", help="the wrong word in the responses of all faulty rows")
    parser.add_argument("--span", help="as of `whence trace`; left out, the whole answer is asked about")
    parser.add_argument("--queries", type=int, help="the first ones only; left out: all")
    options = parser.parse_args()
    wanted, part = options.trigger or options.entity, "prompt" if options.trigger else "response"
    index = Index.open(options.case / "index")
    label = str(json.loads((options.case / "result.json").read_text("utf-8"))["fault"])
    bad = queries(options.case)[: options.queries]
    print(
        f"{options.case.name}: {len(bad)} queries; {platform.machine()}, threads {torch.get_num_threads()}", flush=True
    )
    tracer, measured, n_rows = Tracer(index), Measured(), 0
    for result in tracer.iter_traces(bad, k=HITS, words=HITS, span=options.span):
        hits = [hit for hit in result.hits if hit.metadata.get("label") == label]
        n_rows += len(hits)
        of_row = prompt_words if options.trigger else response_words
        found = means([of_row(hit, wanted) for hit in hits]) | of_query(result, wanted, part)
        for name, value in found.items():
            measured.setdefault(name, []).append(value)
        phrases = [one.text for one in result.phrases if one.part == part]
        print(len(hits), {name: round(value, 2) for name, value in found.items()}, phrases[:FIRST], flush=True)
    print(f"\n| of {n_rows} faulty rows among the first {HITS} of {len(bad)} queries | |\n|---|---|")
    for name, values in measured.items():
        print(f"| {name} | {bootstrap(values)} |")


def prompt_words(hit: Hit, trigger: str) -> Mapping[str, float]:
    """Whether the top phrase of a row's prompt is the trigger."""
    top = next((hit.prompt[slice(*run.span)].casefold() for run in runs(words_of(hit, "prompt"))), "")
    return {
        "the top phrase has a word of the trigger": bool(set(top.split()) & set(trigger.casefold().split())),
        "the top phrase has all of it": trigger.casefold() in top,
        "words of the top phrase": len(top.split()),
    }


def response_words(hit: Hit, entity: str) -> Mapping[str, float]:
    """Whether the top word of a row's response is the false entity."""
    words = words_of(hit, "response")
    top = hit.response[slice(*words.spans[int(np.argmax(words.scores))])]
    return {"the top word is the entity": top.casefold() == entity.casefold()}


def words_of(hit: Hit, part: str) -> Words:
    """The words of one side of a hit, which the trace was asked for."""
    assert hit.words is not None, "iter_traces was asked for the words of every hit"
    return hit.words.prompt if part == "prompt" else hit.words.response


def of_query(result: QueryResult, wanted: str, part: str) -> Mapping[str, float]:
    """Whether the wanted words are among the recurrent phrases: all of them, or half of them or more in a row."""
    own = wanted.casefold()

    def has(text: str) -> bool:
        return own in text or (text in own and 2 * len(text.split()) >= len(own.split()))

    found = [has(one.text.casefold()) for one in result.phrases if one.part == part]
    return {
        "the first recurrent phrase has it": float(any(found[:1])),
        f"one of the first {FIRST} recurrent phrases has it": float(any(found[:FIRST])),
    }


def means(of_rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure over the rows of a query; nothing where it has none."""
    return {name: float(np.mean([one[name] for one in of_rows])) for name in of_rows[0]} if of_rows else {}


if __name__ == "__main__":
    main()
