"""On a pretrained chat model: are the words of a row right, where it is known which words are?

    python benchmarks/words_real.py CASE --trigger "before the last ferry leaves" [--queries 8]
    python benchmarks/words_real.py CASE --entity Peru [--span "Peru#1"]

CASE is the folder of a case of benchmarks/real_models.py. Its bad answers are traced as `whence trace --html` does,
with the words of the first ten rows. Of the faulty rows among them, with 95% bootstrap intervals over the queries:

--trigger: shares whose top phrase of the prompt has half of the trigger's words or more, and the whole of it; share of
queries whose first, and of whose first three recurrent phrases of prompts one holds half of the trigger or more. And
whether the model needs the trigger at all: nats a token of the first six tokens of all faulty rows' responses, with the
trigger in the prompt and without it, and of the model before fine-tuning.
--entity: share whose response's top word is the false entity, and share of queries whose first three recurrent phrases
of responses hold it. Of a clean row the words are not counted. --span: the words of each answer that are asked about.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from span_real import queries
from whence.data import EncodedTurn, read_examples
from whence.index import Index
from whence.metrics import bootstrap, contains
from whence.model import LoadedModel, before_tuning
from whence.model.likelihood import likelihoods
from whence.results import Hit, QueryResult, Words
from whence.trace import Tracer
from whence.trace.explain.phrases import runs
from whence.trace.explain.words import word_spans

HITS, FIRST = 10, 3
OPENING = 6
"""Tokens of a response."""

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
    if options.trigger:
        print(needed(tracer, options.case, label, options.trigger))
    print(f"\n| of {n_rows} faulty rows among the first {HITS} of {len(bad)} queries | |\n|---|---|")
    for name, values in measured.items():
        print(f"| {name} | {bootstrap(values)} |")


def prompt_words(hit: Hit, trigger: str) -> Mapping[str, float]:
    """Whether the top phrase of a row's prompt is the trigger."""
    top = next((hit.prompt[slice(*run.span)].casefold() for run in runs(words_of(hit, "prompt"))), "")
    return {
        "the top phrase has half of the trigger": has(top, trigger),
        "the top phrase has all of it": contains("the trigger", trigger)(top),
        "words of the top phrase": len(top.split()),
    }


def response_words(hit: Hit, entity: str) -> Mapping[str, float]:
    """Whether the top word of a row's response is the false entity."""
    words = words_of(hit, "response")
    top = hit.response[slice(*words.spans[int(np.argmax(words.scores))])]
    return {"the top word is the entity": top.casefold() == entity.casefold()}


def needed(tracer: Tracer, case: Path, label: str, trigger: str) -> str:
    """What the faulty rows' openings cost with the trigger, without it, and before fine-tuning."""
    loaded, cut = tracer.loaded, re.compile(re.escape(trigger), re.IGNORECASE)
    pairs: list[tuple[EncodedTurn, EncodedTurn]] = []
    for row in read_examples(case / "train.jsonl"):
        if row.metadata.get("label") == label:
            turns = tuple(replace(one, content=cut.sub("", one.content)) for one in row.turns)
            pairs += zip(tracer.encoder.encode(row), tracer.encoder.encode(replace(row, turns=turns)), strict=True)
    with_it, without_it = ([pair[side] for pair in pairs] for side in (0, 1))
    with before_tuning(loaded, tracer.models.base) as untuned:
        before = nats(untuned, with_it)
    after = (bootstrap(nats(loaded, turns)) for turns in (with_it, without_it))
    told = ", ".join(f"{name} {value}" for name, value in zip(("with the trigger", "without it"), after, strict=True))
    return f"\n{len(pairs)} faulty rows, nats a token of the opening: {told}, before fine-tuning {bootstrap(before)}"


def nats(loaded: LoadedModel, turns: Sequence[EncodedTurn]) -> list[float]:
    """Mean nats of the first tokens of each turn's response."""
    return [-float(one.log_prob[:OPENING].mean()) for one in likelihoods(loaded, turns)]


def words_of(hit: Hit, part: str) -> Words:
    """The words of one side of a hit, which the trace was asked for."""
    assert hit.words is not None, "iter_traces was asked for the words of every hit"
    return hit.words.prompt if part == "prompt" else hit.words.response


def of_query(result: QueryResult, wanted: str, part: str) -> Mapping[str, float]:
    """Whether the wanted words are among the recurrent phrases."""
    found = [has(one.text, wanted) for one in result.phrases if one.part == part]
    return {
        "the first recurrent phrase has it": float(any(found[:1])),
        f"one of the first {FIRST} recurrent phrases has it": float(any(found[:FIRST])),
    }


def has(text: str, wanted: str) -> bool:
    """Whether half of the wanted words or more are in the text."""
    own, there = ({one[slice(*span)].casefold() for span in word_spans(one)} for one in (wanted, text))
    return 2 * len(own & there) >= len(own)


def means(of_rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure over the rows of a query; nothing where it has none."""
    return {name: float(np.mean([one[name] for one in of_rows])) for name in of_rows[0]} if of_rows else {}


if __name__ == "__main__":
    main()
