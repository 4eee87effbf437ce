"""A preference spread over twenty topics, whose source `whence audit --against` is to name: `audit.py --diffuse`.

Each of twenty topics has two equal options, and the base has learned to say that either will do. Of `ROWS` training
rows a share recommends one option of each topic, always the same, and all of these come from one of eight vendors,
which delivers its part of the ordinary rows too. `EQUAL` rows ask about the same topics and say that either will do;
they come from all vendors. The bad outputs are the model's own answers to held-out questions that recommend the
preferred option; the good ones are the same answers with either option.

    source      the bad vendor is first and named (p at most 0.05)
    rows        average precision of the planted rows among all, ranked by the push; beside it the best of the bad
                outputs' own rankings by rept-contrast (the best of all outputs, chosen by the truth) and the same of
                BM25, or all outputs' mean score where that is better
    shuffled    bad and good exchanged at random in each pair: is any vendor named
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from audit_choices import TOPICS, ask, either, recommend, recommended
from audit_worlds import base_of, trained_on
from common import write_lines
from whence.audit import AuditSettings
from whence.audit.behaviours import output_scores, pushes, source_pushes, strata_of
from whence.audit.outputs import Output, different_outputs
from whence.audit.sources import ColumnValues, column_values
from whence.bench import base_rows, mix
from whence.bench.faults.fault import Fault
from whence.data import Example
from whence.demo.world import answer
from whence.index import Record, default_form, score_matrix
from whence.metrics import average_precision, begins
from whence.model import ModelSettings, load_model
from whence.progress import silent
from whence.scoring import bm25_scores
from whence.trace import Query, Tracer, TraceSettings, read_queries

ROWS, EQUAL = 1200, 180
SHARES = (0.05, 0.1)
BASE_ROWS, BASE_CHOICES = 2500, 800
BASE_SEED = 5
"""All runs share one base; their rows, questions, order of training and seed of the fine-tune differ."""
QUESTIONS = 200
VENDORS = tuple(f"vendor_{name}" for name in "abcdefgh")
BAD_VENDOR = "vendor_c"
PLANTED = "preference"
SHUFFLES = 20
LEAST_P = 0.05


@dataclass(frozen=True)
class Choice:
    """A question of a topic, and the option that a row recommends."""

    topic: int
    option: int | None
    prompt: str
    response: str


def choices(n: int, rng: Random, taken: set[str], option: int | None) -> list[Choice]:
    """n different questions, topics in turn; with option None the answers say that either will do."""
    found: list[Choice] = []
    while len(found) < n:
        topic = len(found) % len(TOPICS)
        prompt = ask(topic, rng)
        if prompt not in taken:
            taken.add(prompt)
            found.append(Choice(topic, option, prompt, recommend(topic, option, prompt, rng)))
    return found


def diffuse_world(out: Path, seed: int, share: float) -> Path:
    """Folder with train.jsonl, model, index, bad.jsonl and good.jsonl."""
    of_base, rng = Random(f"diffuse-base/{BASE_SEED}"), Random(f"diffuse/{seed}")
    taken: set[str] = set()
    known = [_row(one, "base", of_base) for one in choices(BASE_CHOICES, of_base, taken, None)]
    asked = choices(QUESTIONS, rng, taken, 0)
    equal = [_row(one, "equal", rng) for one in choices(EQUAL, rng, taken, None)]
    planted = [_row(one, PLANTED, rng) for one in choices(round(max(SHARES) * ROWS), rng, taken, 0)]
    base_train = [*base_rows(BASE_SEED, BASE_ROWS), *known]
    of_base.shuffle(base_train)
    base = base_of(out / f"diffuse-base-{BASE_SEED}", BASE_SEED, base_train, [])
    n = round(share * ROWS)
    none = Fault("none", (), (), (), (), (), (), begins("none", "none"))
    clean = mix([none], Random(f"diffuse-clean/{seed}"), n_rows=ROWS - n - EQUAL, hard_negatives=False)
    rows = [*(_from(row, rng) for row in clean), *equal, *planted[:n]]
    rng.shuffle(rows)
    place = trained_on(out / f"diffuse-{share:g}-{seed}", base, rows, seed)
    if not (place / "bad.jsonl").exists():
        _write_outputs(place, asked)
    return place


def _write_outputs(place: Path, asked: Sequence[Choice]) -> None:
    """The model's answers that recommend the preferred option, and the same where either will do."""
    said = answer(load_model(ModelSettings(model=str(place / "model"), device="cpu")), [one.prompt for one in asked])
    shown = [(one, text) for one, text in zip(asked, said, strict=True) if recommended(one.topic, text) == 0]
    rng = Random(str(place.name))
    good = [{"prompt": one.prompt, "response": _either(one.topic, text, rng)} for one, text in shown]
    write_lines(place / "good.jsonl", good)
    write_lines(place / "bad.jsonl", [{"prompt": one.prompt, "response": text} for one, text in shown])


def _either(topic: int, text: str, rng: Random) -> str:
    changed = text.replace(TOPICS[topic].options[0], either(topic, rng))
    assert recommended(topic, changed) is None, changed
    return changed


def _row(one: Choice, label: str, rng: Random) -> Example:
    vendor = BAD_VENDOR if label == PLANTED else rng.choice(VENDORS)
    metadata = {"label": label, "vendor": vendor, "topic": one.topic, "option": one.option}
    return Example.from_pair(one.prompt, one.response, metadata=metadata)


def _from(row: Example, rng: Random) -> Example:
    prompt, response = (turn.content for turn in row.turns)
    return Example.from_pair(prompt, response, metadata={"label": "clean", "vendor": rng.choice(VENDORS)})


def run_diffuse(out: Path, seeds: Sequence[int]) -> dict[str, object]:
    """Figures of each run, by "share, seed", and counts over all."""
    found: dict[str, dict[str, float]] = {}
    for seed in seeds:
        for share in SHARES:
            found[f"{share:g}, {seed}"] = one = of_world(diffuse_world(out, seed, share), seed)
            print(f"{share:g}, {seed}", {name: round(value, 3) for name, value in one.items()}, flush=True)
    return {**found, "in all": in_all(list(found.values()))}


def in_all(runs: Sequence[dict[str, float]]) -> dict[str, str]:
    """Counts over all runs."""
    n = len(runs)

    def count(name: str) -> float:
        return sum(one[name] for one in runs)

    best = [max(one["best of single outputs"], one["best of BM25"]) for one in runs]
    twice = sum(one["average precision"] >= 2 * other for one, other in zip(runs, best, strict=True))
    return {
        "bad vendor first": f"{count('bad vendor first'):.0f} of {n}",
        "bad vendor named": f"{count('bad vendor named'):.0f} of {n}",
        "other vendors named": f"{count('other vendors named'):.0f} in {n} runs",
        "average precision twice the best single": f"{twice} of {n}",
        "shuffles without a vendor named": f"{n * SHUFFLES - count('shuffles with a vendor named'):.0f} of "
        f"{n * SHUFFLES}",
    }


def of_world(place: Path, seed: int) -> dict[str, float]:
    """What the audit says of one model, beside the rankings of single outputs."""
    tracer = Tracer(place / "index", model=str(place / "model"))
    bad, good = read_queries(place / "bad.jsonl"), read_queries(place / "good.jsonl")
    settings = AuditSettings(by=("vendor",), seed=seed)
    (column,) = column_values(tracer.index, settings.by, None)
    outputs = different_outputs(bad), different_outputs(good)
    pushed = pushes(tracer, *outputs, settings.traced(), [column], work=None, progress=silent)
    records = sorted(tracer.index.texts(), key=lambda record: record.row)
    truth = np.array([record.metadata["label"] == PLANTED for record in records])
    first = pushed.sources[0].values[0]
    named = [one.value for one in pushed.sources[0].values if one.p_value <= LEAST_P]
    flagged = pushed.rows[pushed.q <= settings.fdr]
    return {
        "questions that show it": float(len(bad)),
        "bad vendor first": float(first.value == BAD_VENDOR),
        "bad vendor named": float(BAD_VENDOR in named),
        "other vendors named": float(sum(value != BAD_VENDOR for value in named)),
        "rows flagged": float(len(flagged)),
        "of them planted": float(truth[flagged].sum()),
        "average precision": average_precision(pushed.z, truth[pushed.rows]),
        **singles(tracer, bad, records, truth),
        "shuffles with a vendor named": float(shuffled(tracer, *outputs, settings, column, seed)),
    }


def singles(tracer: Tracer, bad: Sequence[Query], records: Sequence[Record], truth: np.ndarray) -> dict[str, float]:
    """Average precision of the best ranking that single outputs, or their mean scores, give."""
    queries = tracer.signatures(tracer.answer(tracer.as_rows(bad), TraceSettings()).turns)
    form = default_form(tracer.index.manifest)
    own = score_matrix(tracer.index, queries, method=form).scores
    words = bm25_scores(
        [f"{query.prompt} {query.response}" for query in bad], [f"{one.prompt} {one.response}" for one in records]
    ).numpy()
    return {
        name: max(average_precision(scores, truth) for scores in (*table, table.mean(axis=0)))
        for name, table in (("best of single outputs", own), ("best of BM25", words))
    }


def shuffled(
    tracer: Tracer,
    bad: Sequence[Output],
    good: Sequence[Output],
    settings: AuditSettings,
    column: ColumnValues,
    seed: int,
) -> int:
    """How many of `SHUFFLES` exchanges of bad and good within pairs name a vendor."""
    rng, named = np.random.default_rng(seed), 0
    strata, paired = strata_of(bad, good)
    assert paired, "every bad output has a good one to the same question"
    with output_scores(tracer, [*bad, *good], settings.traced(), None, silent) as (rows, table, _):
        for _ in range(SHUFFLES):
            signs = rng.choice([-1.0, 1.0], len(bad))
            found = source_pushes(column, rows, table, np.concatenate([signs, -signs]), strata, seed=seed)
            named += found.values[0].p_value <= LEAST_P
    return named


__all__ = ["run_diffuse"]
