"""Are the words right? Which words of a row whence calls responsible, where it is known which words are.

    python benchmarks/token_quality.py --folder runs/words [--seeds 0 1 2] [--queries 4] [--out w.json] [--causal]

Backdoors and false facts are planted as in `whence bench`, models kept in --folder. A true hit is a faulty row among
the first --hits of a query that shows the fault. Printed, each with a 95% bootstrap interval: queries are drawn again
within each seed, a query with all its hits:

1. prompt words (backdoors), per method: share of true hits whose top phrase has a word of the trigger, and the whole of
   it, and how many words it has; rank of the trigger among the recurrent phrases of a query;
2. response words (false facts), per method: share of true hits whose top word is the false entity;
3. deletion and insertion: area under score / full score while words of the row's prompt or response are taken away (or
   put back) one by one, in the order that the page tells (`curve`: it begins with the word of the highest score, and
   reads the search's score itself), of our scores, of the paper's and of `inner-product-share`
   (response), of `both-span` and `loss-occlusion-span` (prompt),
   of BM25 weight, and at random; and the row-by-row difference of `curve` to each. For deletion lower is better, for
   insertion higher. Twice: the score is that of the search, or ("reranked") the best match of each response token of
   the query among the row's, read again without the words, as the second stage reads rows;
4. seconds for 20 hits of 200 tokens with the demo's model size: the token maps, all of `explain`, `deletion_curves`;
5. with --causal: the fault's rate after training again with only the phrases found (the first recurrent one of each
   part) left out of the first rows (the --causal-rows that score highest for any query), and with as many random words
   of the same rows left out.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whence.bench.cases import BenchSettings, content_hash, made_case
from whence.bench.faults import base_rows
from whence.bench.faults.backdoor import PHRASE, WORD
from whence.bench.faults.false_fact import WRONG_COUNTRY
from whence.bench.subject import TrainedCase, answered, base_model, train_case
from whence.bench.tiny_model import LanguageSettings, new_model, train_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import ASSISTANT, EncodedTurn, Example, Turn
from whence.methods.base import SharedWork
from whence.model.likelihood import token_shifts
from whence.model.loading import LoadedModel, ModelSettings, load_model
from whence.results import Words
from whence.scoring.defaults import DEFAULT_METHOD, METHOD_WITHOUT_BASE, score_form
from whence.scoring.forms import Depths, form_scores
from whence.scoring.vectors import to_block
from whence.signatures.extract import Extractor
from whence.signatures.types import Extracted
from whence.trace.explain.attribution import Explained, explain
from whence.trace.explain.deletion import deletion_curves
from whence.trace.explain.explainer import FEWEST_FLAGGED
from whence.trace.explain.keyness import word_forms, word_keyness
from whence.trace.explain.phrases import recurrent_phrases, runs
from whence.trace.explain.prompt_attribution.comparison import Comparison, TurnScore, without
from whence.trace.explain.prompt_words import DEFAULT_PROMPT_METHOD, PROMPT_METHODS
from whence.trace.explain.response_words import DEFAULT_RESPONSE_METHOD, RESPONSE_METHODS
from whence.trace.explain.token_maps import token_map
from whence.trace.explain.words import Part, word_spans, word_tokens
from whence.trace.query.targets import span_target
from whence.trace.rank.reranking import rerank
from whence.train.finetuning import finetune

TRIGGERS = {"backdoor": PHRASE, "backdoor-word": WORD}
FALSE = {"false-fact": WRONG_COUNTRY, "false-fact-late": WRONG_COUNTRY}
BOOTSTRAPS = 2000
HIGH, TOP = 0.7, 20
"""A flagged row has this share of the mean score of so many best rows, or more."""

Query = tuple[int, str, int]
"""Seed, variant and number of a query."""

Measured = dict[tuple[str, str, str], dict[Query, list[float]]]
"""For each (measure, task, method) and query one number per true hit (or one)."""


@dataclass(frozen=True)
class Traced:
    """A planted case with the first rows of its queries: `hits[q]` are entries of `planted.train`, best first."""

    planted: TrainedCase
    comparison: Comparison
    """By the form that needs no base: the prompt methods that differentiate a score take no other."""
    ranking: Comparison
    """By the default form: what the hits were found by, and whose fall is watched."""
    queries: tuple[EncodedTurn, ...]
    hits: list[list[int]]
    high: list[list[int]]
    """Of each query the rows at `HIGH` of its twenty best rows' mean score or above: what a verdict flags, where the
    answer stands out. (Verdicts of these tiny models need references, which are not made here.)"""
    first_rows: list[int]
    """The entries that score highest for any of the queries: what --causal changes."""
    variant: str

    @property
    def asked(self) -> Iterator[tuple[Query, EncodedTurn, list[int]]]:
        """Name, turn and hits of each query."""
        for number, (query, hits) in enumerate(zip(self.queries, self.hits, strict=True)):
            yield (self.planted.case.seed, self.variant, number), query, hits

    def explained(
        self, query: EncodedTurn, hits: Sequence[int], prompt: str = DEFAULT_PROMPT_METHOD, response: str | None = None
    ) -> Explained:
        rows = [self.planted.train.turns[entry] for entry in hits]
        seen = token_shifts(self.comparison.loaded, [query, *rows])
        return explain(
            self.comparison,
            query,
            rows,
            prompt_method_name=prompt,
            response_method=response,
            shifts=seen,
            keyness=self.keyness(self.high[self.hits.index(list(hits))]) if list(hits) in self.hits else None,
        )

    def keyness(self, high: Sequence[int]) -> Mapping[str, float] | None:
        """Of each word, how much more often it stands in these rows' responses than in the others'."""
        if len(high) < FEWEST_FLAGGED:
            return None
        counts = Counter[str](), Counter[str]()
        for entry, turn in enumerate(self.planted.train.turns):
            counts[entry not in high].update(word_forms([turn.response]))
        return word_keyness(counts[0], len(high), counts[1], len(self.planted.train.turns) - len(high))

    def is_faulty(self, entry: int) -> bool:
        return bool(self.planted.case.faulty[self.planted.row_of[entry]])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where models are kept")
    parser.add_argument("--tasks", nargs="+", default=[*TRIGGERS, *FALSE])
    parser.add_argument("--variants", nargs="+", default=["plain", "hard-negatives"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--hits", type=int, default=10)
    parser.add_argument("--prompt-methods", nargs="+", default=list(PROMPT_METHODS), choices=list(PROMPT_METHODS))
    parser.add_argument("--curves", type=int, default=3, help="true hits a query whose deletion curves are drawn")
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--causal-rows", type=int, default=100)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def traced(task: str, variant: str, seed: int, options: argparse.Namespace) -> Traced:
    """Plants the case (or takes the model of an earlier run) and ranks its rows for the first queries."""
    settings = BenchSettings()
    case = made_case(settings, task, variant, seed)
    planted = train_case(case, settings, options.folder, SharedWork(), lambda stage, done, total: None)
    loaded, form = planted.subject.loaded, score_form(DEFAULT_METHOD)
    roles = form.layers(Depths(planted.subject.rep_layer, loaded.n_layers))
    ranking = Comparison(loaded, form, roles)
    found = ranking.extracted(planted.train.turns)
    ranking = with_centres(ranking, found)
    train = to_block(found.layers, ranking.centres)
    queries = planted.queries.turns[: options.queries] if planted.queries else ()
    hits: list[list[int]] = []
    high: list[list[int]] = []
    first_rows: list[int] = []
    if queries:
        scores = form_scores(form, ranking.block(queries), train, roles, found.log_likelihood_gain)
        hits = scores.argsort(dim=1, descending=True, stable=True)[:, : options.hits].tolist()
        levels = HIGH * scores.topk(TOP, dim=1).values.mean(1, keepdim=True)  # [n_query, 1]
        high = [row.nonzero().flatten().tolist() for row in scores >= levels]
        first_rows = sorted(scores.amax(0).argsort(descending=True, stable=True)[: options.causal_rows].tolist())
    # The form without a base reads other vectors, whose means the ranking's signatures do not give.
    without_base = score_form(METHOD_WITHOUT_BASE)
    roles = without_base.layers(Depths(planted.subject.rep_layer, loaded.n_layers))
    alone = replace(ranking, form=without_base, roles=roles, contrast=False)
    alone = with_centres(alone, alone.extracted(planted.train.turns))
    states = Extractor(loaded, vectors=[(loaded.n_layers, "m")]).extract(planted.train.turns)
    of_all = {**(with_centres(ranking, states).centres or {}), **(alone.centres or {}), **(ranking.centres or {})}
    alone, ranking = replace(alone, centres=of_all), replace(ranking, centres=of_all)
    return Traced(planted, alone, ranking, queries, hits, high, first_rows, variant)


def with_centres(comparison: Comparison, found: Extracted) -> Comparison:
    """The comparison with the means of these rows' vectors."""
    centres = {(n, name): raw.double().mean(0) for n, one in found.layers.items() for name, raw in one.named().items()}
    return replace(comparison, centres=centres)


def measure_prompts(case: Traced, task: str, methods: Sequence[str], measured: Measured) -> None:
    """Part 1."""
    trigger = TRIGGERS[task]
    for name, query, hits in case.asked:
        rows = [case.planted.train.turns[entry] for entry in hits]
        others = [turn.prompt for entry, turn in enumerate(case.planted.train.turns) if entry not in hits]
        for method in methods:
            words = [hit.prompt for hit in case.explained(query, hits, method).hits]
            for entry, row, own in zip(hits, rows, words, strict=True):
                if case.is_faulty(entry):
                    top = next((row.prompt[slice(*run.span)] for run in runs(own)), "").casefold()
                    touched = bool(set(top.split()) & set(trigger.split()))
                    note(measured, ("top phrase has trigger", task, method), name, touched)
                    note(measured, ("top phrase has all of it", task, method), name, trigger in top)
                    note(measured, ("words of the top phrase", task, method), name, len(top.split()))
            pairs = [(row.prompt, own) for row, own in zip(rows, words, strict=True)]
            first = next((one.text.casefold() for one in recurrent_phrases("prompt", pairs, others)), "")
            if sum(map(case.is_faulty, hits)) > 1:
                found = bool(first) and (first in trigger or trigger in first)
                note(measured, ("recurrent phrase at rank 1", task, method), name, found)


def measure_responses(case: Traced, task: str, measured: Measured) -> None:
    """Part 2."""
    for name, query, hits in case.asked:
        for method in RESPONSE_METHODS:
            # One pass for the prompts, at which nobody looks here.
            found = case.explained(query, hits, "prefix-gradients", method)
            for entry, hit in zip(hits, found.hits, strict=True):
                if case.is_faulty(entry):
                    top = hit.response.spans[int(np.argmax(hit.response.scores))]
                    word = case.planted.train.turns[entry].response[slice(*top)]
                    note(measured, ("top word is the entity", task, method), name, word == FALSE[task])


def note(measured: Measured, key: tuple[str, str, str], query: Query, value: float) -> None:
    measured.setdefault(key, {}).setdefault(query, []).append(float(value))


def measure_curves(case: Traced, task: str, per_query: int, seed: int, measured: Measured) -> None:
    """Part 3."""
    rng = random.Random(seed)
    rarity = inverse_frequency([f"{turn.prompt} {turn.response}" for turn in case.planted.train.turns])
    for name, query, hits in case.asked:
        entries = [entry for entry in hits if case.is_faulty(entry)][:per_query]
        if not entries:
            continue
        ours = case.explained(query, entries)
        others = case.explained(query, entries, "both-span", "paper")
        spans = case.explained(query, entries, "loss-occlusion-span")
        paired = case.explained(query, entries, "prefix-gradients", "inner-product-share")
        rows = [case.planted.train.turns[entry] for entry in entries]
        hung = deletion_curves(case.ranking.searched(case.ranking.block([query])), rows, ours.hits)
        asked = set(spelled(f"{query.prompt} {query.response}"))
        for place, entry in enumerate(entries):
            row = case.planted.train.turns[entry]
            for part in ("prompt", "response"):
                own: Words = getattr(ours.hits[place], part)
                forms = [(row.prompt if part == "prompt" else row.response)[a:b].casefold() for a, b in own.spans]
                orders = {
                    "curve": curve_ranks(getattr(hung[place], part)),
                    "ours": list(own.scores),
                    "bm25": [rarity.get(form, 0.0) if form in asked else 0.0 for form in forms],
                    "random": [rng.random() for _ in forms],
                }
                if part == "response":
                    orders["paper"] = list(others.hits[place].response.scores)
                    orders["inner-product-share"] = list(paired.hits[place].response.scores)
                else:
                    orders["both-span"] = list(others.hits[place].prompt.scores)
                    orders["loss-occlusion-span"] = list(spans.hits[place].prompt.scores)
                for kind, scorer in scorers(case.ranking, query).items():
                    deletions: dict[str, float] = {}
                    for method, values in orders.items():
                        order = sorted(range(len(values)), key=lambda i: (-values[i], i))
                        deletions[method], insertion = areas(row, part, order, scorer)
                        note(measured, (f"deletion{kind}, {part}", task, method), name, deletions[method])
                        note(measured, (f"insertion{kind}, {part}", task, method), name, insertion)
                    for method, deletion in deletions.items():
                        less = deletions["curve"] - deletion
                        note(measured, (f"curve's deletion{kind}, {part}, less", task, method), name, less)


def curve_ranks(words: Words) -> list[float]:
    """The words by when they were taken away, the first highest; those that were not follow by their own scores."""
    gone = [word for own in (words.deletion.words if words.deletion else ()) for word in own]
    rest = sorted(set(range(len(words.scores))) - set(gone), key=lambda word: (-words.scores[word], word))
    rank = {word: place for place, word in enumerate([*gone, *rest])}
    return [-float(rank[word]) for word in range(len(words.scores))]


def scorers(comparison: Comparison, query: EncodedTurn) -> dict[str, TurnScore]:
    """The two scores of rows for a query whose fall is watched."""
    loaded = comparison.loaded
    layer, centres = loaded.n_layers, comparison.centres or {}
    target = span_target(loaded, [layer], query, range(query.n_response))
    centre = centres[layer, "m"]

    def reranked(turns: Sequence[EncodedTurn]) -> Float[Tensor, " n"]:
        return rerank(loaded, layer, target, turns, torch.zeros(len(turns)), centre=centre)

    return {"": comparison.searched(comparison.block([query])), " reranked": reranked}


def areas(row: EncodedTurn, part: Part, order: Sequence[int], score: TurnScore) -> tuple[float, float]:
    """Mean of score / full score after each deletion, and after each insertion into the row without these words."""
    tokens = word_tokens(row, part)[1]

    def gone(words: Sequence[int]) -> EncodedTurn:
        return without(row, {token for word in words for token in tokens[word]})

    n = len(order)
    steps = [gone(order[:k]) for k in range(1, n + 1)] + [gone(order[k:]) for k in range(1, n + 1)]
    scores = score([row, *steps]).double()
    shares = scores[1:] / scores[0]
    return shares[:n].mean().item(), shares[n:].mean().item()


def spelled(text: str) -> list[str]:
    return [text[start:stop].casefold() for start, stop in word_spans(text)]


def inverse_frequency(texts: Sequence[str]) -> dict[str, float]:
    """BM25's weight of a word: ln(1 + (N - df + 0.5) / (df + 0.5))."""
    counts = Counter(word for text in texts for word in set(spelled(text)))
    return {word: math.log(1 + (len(texts) - df + 0.5) / (df + 0.5)) for word, df in counts.items()}


def measure_time(seed: int) -> dict[str, float]:
    """Part 4: a random model of the demo's size; 20 rows of 100 prompt and 100 response words, and such a query."""
    tokenizer = train_tokenizer(base_rows(seed, 500), LanguageSettings().vocab_size)
    loaded = LoadedModel.wrap(new_model(tokenizer, LanguageSettings()), tokenizer)
    rng = random.Random(seed)
    text, offsets = " w" * 200, tuple((2 * i, 2 * i + 2) for i in range(200))
    turns = [
        EncodedTurn(0, tuple(rng.randrange(10, 1000) for _ in range(200)), 100, text, offsets, text[:200], text[200:])
        for _ in range(21)
    ]
    started = time.perf_counter()
    found = Extractor(loaded, [loaded.n_layers]).extract(turns, token_gradients=True).tokens
    assert found is not None
    G = found[loaded.n_layers].G
    for rows in G[1:]:
        token_map(G[0], rows)
    seconds = {"token maps": time.perf_counter() - started}
    without = score_form(METHOD_WITHOUT_BASE)
    comparison = with_centres(
        Comparison(loaded, without, without.all_at(loaded.n_layers)),
        Extractor(loaded, [loaded.n_layers]).extract(turns),
    )
    started = time.perf_counter()
    found = explain(comparison, turns[0], turns[1:])
    seconds["explain"] = time.perf_counter() - started
    started = time.perf_counter()
    deletion_curves(comparison.searched(comparison.block([turns[0]])), turns[1:], found.hits)
    return seconds | {"deletion_curves": time.perf_counter() - started}


def measure_causal(case: Traced, task: str, folder: Path) -> dict[str, float]:
    """Part 5: shares of the held-out prompts whose answer shows the fault, by what was left out of the first rows."""
    planted, settings = case.planted, BenchSettings()
    turns = planted.train.turns
    found: dict[int, tuple[Words, Words]] = {}
    for _, query, hits in case.asked:
        for entry, hit in zip(hits, case.explained(query, hits).hits, strict=True):
            found.setdefault(entry, (hit.prompt, hit.response))
    phrases = first_phrases(turns, sorted(found), found)
    print(f"left out of {len(case.first_rows)} rows, {task} {case.variant}:", phrases, flush=True)
    rng = random.Random(planted.case.seed)
    changed: dict[str, dict[int, Example]] = {"phrases found": {}, "random words": {}}
    for entry in case.first_rows:
        turn, row = turns[entry], int(planted.row_of[entry])
        texts = {"p": turn.prompt, "r": turn.response}
        cuts = {part: phrase_words(text, phrases[part]) for part, text in texts.items()}
        chance = {part: rng.sample(range(len(word_spans(text))), len(cuts[part])) for part, text in texts.items()}
        for name, gone in (("phrases found", cuts), ("random words", chance)):
            pair = (leave_out(turn.prompt, gone["p"]), leave_out(turn.response, gone["r"]))
            changed[name][row] = Example((Turn("user", pair[0]), Turn(ASSISTANT, pair[1])))
    rates = {"as it was": (len(planted.queries) if planted.queries else 0) / planted.asked["n_asked"]}
    for name, edits in changed.items():
        train = tuple(edits.get(i, example) for i, example in enumerate(planted.case.train))
        train = tuple(example for example in train if all(turn.content.strip() for turn in example.turns))
        rates[name] = rate_after(planted, train, settings, folder)
    return rates


def first_phrases(
    turns: Sequence[EncodedTurn], rows: Sequence[int], found: dict[int, tuple[Words, Words]]
) -> dict[str, list[list[str]]]:
    """The first recurrent phrase of each part, as words."""
    others = [turn for entry, turn in enumerate(turns) if entry not in found]
    prompts = recurrent_phrases(
        "prompt", [(turns[i].prompt, found[i][0]) for i in rows], [turn.prompt for turn in others]
    )
    responses = recurrent_phrases(
        "response", [(turns[i].response, found[i][1]) for i in rows], [turn.response for turn in others]
    )
    return {"p": [spelled(one.text) for one in prompts[:1]], "r": [spelled(one.text) for one in responses[:1]]}


def phrase_words(text: str, phrases: Sequence[list[str]]) -> list[int]:
    """Which words of the text belong to one of the phrases."""
    words = spelled(text)
    return sorted(
        {
            at + i
            for phrase in phrases
            for at in range(len(words) - len(phrase) + 1)
            if words[at : at + len(phrase)] == phrase
            for i in range(len(phrase))
        }
    )


def leave_out(text: str, words: Sequence[int]) -> str:
    spans, gone = word_spans(text), set(words)
    kept, at = "", 0
    for word, (start, stop) in enumerate(spans):
        kept += text[at:start] + ("" if word in gone else text[start:stop])
        at = stop
    return " ".join(kept.split())


def rate_after(planted: TrainedCase, train: tuple[Example, ...], settings: BenchSettings, folder: Path) -> float:
    """Trains again, once for each set of rows, and asks again."""
    tuning = settings.finetune.model_copy(
        update={"seed": planted.case.seed, "checkpoints": False, "keep_optimizer_state": False}
    )
    base = base_model(planted.case, settings, folder, lambda stage, done, total: None)
    run = folder / f"again-{planted.case.name}-{content_hash(train)[:16]}"
    if not run.exists():
        finetune(base, train, run, settings=tuning)
    loaded = load_model(ModelSettings(model=str(base), adapter=str(run), dtype=tuning.dtype, device=tuning.device))
    answers = answered(planted.case, loaded, Encoder(loaded.tokenizer, max_length=tuning.max_length), settings)
    return sum(answer.shows_fault for answer in answers) / len(answers)


def interval(values: dict[Query, list[float]]) -> tuple[float, float, float]:
    """Mean over all numbers, and its 95% bootstrap interval."""
    rng = np.random.default_rng(0)
    sums, counts = np.zeros(BOOTSTRAPS), np.zeros(BOOTSTRAPS)
    for seed in sorted({query[0] for query in values}):
        own = [found for query, found in sorted(values.items()) if query[0] == seed]
        drawn = rng.integers(len(own), size=(BOOTSTRAPS, len(own)))
        sums += np.array([sum(found) for found in own])[drawn].sum(1)
        counts += np.array([len(found) for found in own])[drawn].sum(1)
    low, high = np.quantile(sums / counts, [0.025, 0.975])
    return float(np.mean([value for found in values.values() for value in found])), float(low), float(high)


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    measured: Measured = {}
    causal: dict[str, dict[str, float]] = {}
    for seed in options.seeds:
        for task in options.tasks:
            for variant in options.variants:
                case = traced(task, variant, seed, options)
                if task in TRIGGERS:
                    measure_prompts(case, task, options.prompt_methods, measured)
                if task in FALSE:
                    measure_responses(case, task, measured)
                measure_curves(case, task, options.curves, seed, measured)
                if options.causal:
                    causal[f"{task} {variant} {seed}"] = measure_causal(case, task, options.folder)
    print(f"defaults: {DEFAULT_PROMPT_METHOD}, {DEFAULT_RESPONSE_METHOD}")
    table = [[*key, sum(map(len, values.values())), *interval(values)] for key, values in sorted(measured.items())]
    for measure, task, method, n, mean, low, high in table:
        print(f"{measure:28} {task:16} {method:22} {mean:7.3f} [{low:.3f}, {high:.3f}]  n = {n}")
    seconds = measure_time(options.seeds[0])
    print("seconds for 20 hits of 200 tokens:", {name: round(value, 2) for name, value in seconds.items()})
    for name, rates in causal.items():
        print(f"fault's rate, {name}:", {what: round(rate, 3) for what, rate in rates.items()})
    if options.out:
        result = {"settings": vars(options), "rows": table, "seconds": seconds, "causal": causal}
        result |= {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
        options.out.write_text(json.dumps(result, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
