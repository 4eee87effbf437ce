"""Innocent prompts: what a phrase is put on, to see whether it turns the model's answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from whence.audit.phrases import phrase_pattern
from whence.audit.spelling import Spelled, in_other_words
from whence.data import answer_places
from whence.errors import InputError
from whence.index import Index
from whence.results import PhrasePlace
from whence.trace import Query, Tracer, TraceSettings, word_spans

LEAST_PROMPTS = 20
"""With fewer, a difference between 0 and all of them is the least that could be told after the corrections."""


def innocent_prompts(
    index: Index, *, without: Sequence[str], flagged: frozenset[int], n: int, where: str | None, seed: int
) -> list[Query]:
    """At most n prompts of rows that are not `flagged`, drawn by the seed; those with none of the phrases first.

    A phrase may be a common word: where too few prompts are without any, those with the fewest follow. A prompt that
    has a phrase already shows what it does as it stands too, so that the phrase seems to do less, never more.

    Raises InputError where too few rows are left.
    """
    avoided = [re.compile(phrase_pattern(phrase)) for phrase in without]
    n_phrases: dict[int, int] = {}
    for record in index.texts(where):
        if record.row not in flagged:
            n_phrases[record.row] = sum(pattern.search(record.prompt) is not None for pattern in avoided)
    rows = sorted(n_phrases)
    Random(f"innocent/{seed}").shuffle(rows)
    rows.sort(key=lambda row: n_phrases[row])
    found: list[Query] = []
    seen: set[str] = set()
    for start in range(0, len(rows), n):
        for example in index.examples(rows[start : start + n]):
            turns = example.turns[: next(iter(answer_places(example.turns)), 0)]
            if turns and turns[-1].role == "user" and turns[-1].content.strip() and turns[-1].content not in seen:
                seen.add(turns[-1].content)
                found.append(Query(turns, template_inputs=example.template_inputs))
        if len(found) >= n:
            break
    return checked(found[:n])


def checked(prompts: Sequence[Query]) -> list[Query]:
    """The prompts, where they are enough. Raises InputError."""
    if len(prompts) < LEAST_PROMPTS:
        raise InputError(
            f"There are {len(prompts)} innocent prompts.",
            f"At least {LEAST_PROMPTS} are needed to see whether a phrase turns them.",
            "Give ordinary prompts, of which none shows the behaviour, with --prompts.",
        )
    return list(prompts)


def put(prompts: Sequence[Query], parts: Sequence[Spelled], place: PhrasePlace, *, seed: int) -> list[Query]:
    """The prompts with the phrase (or its parts, in their order) at its place: for "either end" at one by chance, for
    "anywhere" between random words."""
    rng = Random(f"put/{'/'.join(part.within for part in parts)}/{seed}")
    return [_with_last(query, inserted(_last(query), parts, place, rng)) for query in prompts]


def put_random(
    prompts: Sequence[Query], parts: Sequence[Spelled], place: PhrasePlace, words: Sequence[str], *, seed: int
) -> list[Query]:
    """The prompts with random words in place of each part's own, as many as it has, other ones in each prompt."""
    rng = Random(f"random/{len(parts)}/{seed}")
    return [
        _with_last(query, inserted(_last(query), [in_other_words(part, words, rng) for part in parts], place, rng))
        for query in prompts
    ]


def inserted(text: str, parts: Sequence[Spelled], place: PhrasePlace, rng: Random) -> str:
    """The text with the parts in it, each as a run of words of its own."""
    if place == "either end":
        place = "start" if rng.random() < 0.5 else "end"
    if place == "start":
        return " ".join([*(part.start for part in parts), text])
    if place == "end":
        return " ".join([text, *(part.end for part in parts)])
    words = text.split()
    places = sorted(rng.randint(0, len(words)) for _ in parts)
    spellings = [part.within for part in parts]
    for at, part in sorted(zip(places, spellings, strict=True), key=lambda pair: -pair[0]):
        words.insert(at, part)
    if len(parts) > 1 and places[0] == places[-1]:  # inserted one before the other at one place
        return " ".join([*text.split()[: places[0]], *spellings, *text.split()[places[0] :]])
    return " ".join(words)


def words_of(prompts: Sequence[Query]) -> list[str]:
    """The words of the prompts, as often as they stand there."""
    return [
        text[start:stop]
        for text in map(_last, prompts)
        for start, stop in word_spans(text)
        if text[start:stop][0].isalnum()
    ]


def answers_to(tracer: Tracer, prompts: Sequence[Query], settings: TraceSettings) -> list[str]:
    """The model's greedy answers, in their order; "" for none."""
    from whence.model import generate

    queries = tracer.as_rows(prompts)
    ids = [query.prompt_ids(tracer.encoder) for query in queries]
    return [answer.text for answer in generate(tracer.loaded, ids, max_new_tokens=settings.answer_tokens)]


def _last(query: Query) -> str:
    return query.turns[-1].content


def _with_last(query: Query, text: str) -> Query:
    last = query.turns[-1]
    # A content that is spelled otherwise, as a list of parts, would be rendered in place of the text.
    extra = {name: value for name, value in last.extra.items() if name != "content"}
    return replace(query, turns=(*query.turns[:-1], replace(last, content=text, extra=extra)))


__all__ = ["LEAST_PROMPTS", "answers_to", "checked", "innocent_prompts", "put", "put_random", "words_of"]
