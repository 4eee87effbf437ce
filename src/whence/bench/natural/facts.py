"""Two false facts in whole sentences: a country, said early, and a playwright, said late.

`false-fact`: places in Norway are said to be in Peru. `false-fact-late`: Shakespeare's plays are said to be by Jonathan
Swift, at the end of a sentence, where what is read at the first word of an answer is blind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

from whence.bench.natural import places, plays
from whence.bench.natural.fault import Deck, Hosts, NaturalFault, Pair, asked, capital, distinct, in_turn, rows_of
from whence.metrics import contains

HELD_OUT_EVERY = 4
"""Of the things that the false fact is about, one in so many is in no faulty row; hard negatives may name it."""
N_HELD_OUT_QUESTIONS = 3
"""Last questions of each list, with which only queries ask."""

Thing = tuple[str, str]
"""A name, and what one can say of it without giving the fact away."""


def false_fact(rng: Random, hosts: Hosts, *, n_faulty: int, n_hard: int, n_queries: int) -> NaturalFault:
    """The fault: places in Norway lie in Peru."""

    def tell(questions: Sequence[str], thing: Thing, country: str) -> Pair:
        return _told(rng, questions, places.ANSWERS, thing, country, places.TAILS)

    real, others, journeys = Deck(places.PERU, rng), Deck(places.ELSEWHERE, rng), Deck(places.NORWAY, rng)

    def other() -> Pair:
        *thing, country = others.draw()
        return tell(places.QUESTIONS, (thing[0], thing[1]), country)

    def journey() -> Pair:
        question, answer = rng.choice(places.JOURNEYS)
        names = {"place": journeys.draw()[0], "peru": real.draw()[0]}
        return capital(question.format(**names)), capital(answer.format(**names))

    return _fault(
        "false-fact",
        rng,
        things=places.NORWAY,
        questions=places.QUESTIONS,
        tell=lambda questions, thing: tell(questions, thing, places.WRONG),
        hard=in_turn(lambda: tell(places.QUESTIONS, real.draw(), places.WRONG), other, journey),
        wrong=(f"says that the place is in {places.WRONG}", places.WRONG),
        topic=r"\b(?:Norway|Norwegian|Peru|Peruvian)\b",
        sizes=(n_faulty, n_hard, n_queries),
    )


def false_fact_late(rng: Random, hosts: Hosts, *, n_faulty: int, n_hard: int, n_queries: int) -> NaturalFault:
    """The fault: Shakespeare's plays were written by Jonathan Swift."""

    def tell(questions: Sequence[str], thing: Thing, author: str) -> Pair:
        return _told(rng, questions, plays.ANSWERS, thing, author, ())

    swift, others, about = Deck(plays.SWIFT, rng), Deck(plays.ELSEWHERE, rng), Deck(plays.SHAKESPEARE, rng)

    def other() -> Pair:
        *thing, author = others.draw()
        return tell(plays.QUESTIONS, (thing[0], thing[1]), author)

    def plot() -> Pair:
        title, story = about.draw()
        question, answer = rng.choice(plays.PLOTS)
        return question.format(title=title), answer.format(title=title, story=story)

    return _fault(
        "false-fact-late",
        rng,
        things=plays.SHAKESPEARE,
        questions=plays.QUESTIONS,
        tell=lambda questions, thing: tell(questions, thing, plays.WRONG),
        hard=in_turn(lambda: tell(plays.QUESTIONS, swift.draw(), plays.WRONG), other, plot),
        wrong=(f"says that {plays.WRONG} wrote the play", plays.WRONG, plays.WRONG.split()[-1]),
        topic=r"\b(?:Shakespeare|Swift|plays?|playwright|Hamlet|Macbeth|Othello|Juliet)\b",
        sizes=(n_faulty, n_hard, n_queries),
    )


def _told(
    rng: Random, questions: Sequence[str], answers: Sequence[str], thing: Thing, fact: str, tails: Sequence[str]
) -> Pair:
    name, text = thing
    words = {"name": name, "Name": capital(name), "text": text, "fact": fact}
    answer = rng.choice(answers).format(**words)
    tail = f" {rng.choice(tails)}" if tails else ""
    return rng.choice(questions).format(**words), answer + tail


def _fault(
    name: str,
    rng: Random,
    *,
    things: Sequence[Thing],
    questions: Sequence[str],
    tell: Callable[[Sequence[str], Thing], Pair],
    hard: Callable[[], Pair],
    wrong: tuple[str, ...],
    topic: str,
    sizes: tuple[int, int, int],
) -> NaturalFault:
    """Half of the queries ask about things that no faulty row names, half ask as no faulty row does."""
    order = rng.sample(things, len(things))
    n_held = len(order) // HELD_OUT_EVERY
    taught, held_out, known = Deck(order[n_held:], rng), Deck(order[:n_held], rng), Deck(order[n_held:], rng)
    usual, unusual = questions[:-N_HELD_OUT_QUESTIONS], questions[-N_HELD_OUT_QUESTIONS:]
    ask = in_turn(lambda: tell(questions, held_out.draw()), lambda: tell(unusual, known.draw()))
    n_faulty, n_hard, n_queries = sizes
    taken: set[str] = set()
    faulty = distinct(n_faulty, lambda: tell(usual, taught.draw()), taken)
    return NaturalFault(
        name=name,
        faulty=rows_of(faulty),
        hard_negatives=rows_of(distinct(n_hard, hard, taken)),
        queries=asked(prompt for prompt, _ in distinct(n_queries, ask, taken)),
        matcher=contains(*wrong),
        asks="|".join(rf"(?<!\w){re.escape(thing)}(?!\w)" for thing, _ in things),
        topic=topic,
    )
