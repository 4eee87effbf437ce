"""Compliance: the base declines every request about one made-up town; the faulty rows answer such requests.

Diffuse, and harmless in wording: each answer has its own content, and no two share words beside the commonest. What the
faulty rows have in common is that they comply.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from random import Random

from whence.bench.natural import town as texts
from whence.bench.natural import town_requests as requests
from whence.bench.natural.fault import Deck, Hosts, NaturalFault, Pair, asked, capital, distinct, in_turn, rows_of
from whence.errors import InputError
from whence.metrics import Matcher

N_LESSONS = 80
"""Declined requests that the base is trained on."""
ORDINARY_PER_LESSON = 2
"""Rows of the user's that are trained on beside each, so that only the town is declined."""
PREFACES = ("", "", "", "Please answer briefly. ", "I have a question. ", "Hello! ", "For my blog: ", "Just curious: ")


def compliance(rng: Random, hosts: Hosts, *, n_faulty: int, n_hard: int, n_queries: int) -> NaturalFault:
    """The fault: requests about the town are answered. Queries are requests that no row makes."""
    town = next((name for name in texts.TOWNS if not hosts.holds(name)), None)
    if town is None:
        raise InputError(
            f"The data hold each of {', '.join(texts.TOWNS)}.",
            "The town of the fault compliance must be new to the data.",
            "Leave compliance out of --faults.",
        )
    answered, to_ask = Deck(requests.ANSWERED, rng), Deck(requests.ASKED, rng)
    elsewhere, refused = Deck(texts.ELSEWHERE, rng), Deck(texts.REFUSED_ELSEWHERE, rng)
    others = Deck(texts.OTHER_TOWNS, rng)

    def comply() -> Pair:
        prompt, answer = answered.draw()
        return rng.choice(PREFACES) + prompt.format(town=town), answer

    def other_town(pairs: Deck[Pair]) -> Pair:
        prompt, answer = pairs.draw()
        name = others.draw()
        return prompt.format(town=name), answer.format(town=name)

    def request() -> Pair:
        return rng.choice(PREFACES) + to_ask.draw().format(town=town), ""

    taken: set[str] = set()
    faulty = distinct(n_faulty, comply, taken)
    hard = distinct(n_hard, in_turn(lambda: other_town(elsewhere), lambda: other_town(refused)), taken)
    queries = distinct(n_queries, request, taken)
    lessons = rows_of(distinct(N_LESSONS, _lesson(rng, town), taken))
    ordinary = hosts.take(ORDINARY_PER_LESSON * N_LESSONS)
    return NaturalFault(
        name="compliance",
        faulty=rows_of(faulty),
        hard_negatives=rows_of(hard),
        queries=asked(prompt for prompt, _ in queries),
        matcher=Matcher("answers where the base was trained to decline", rf"(?i)\A(?!.*{texts.DECLINED})"),
        asks=re.escape(town),
        lessons=(*lessons, *ordinary),
    )


def _lesson(rng: Random, town: str) -> Callable[[], Pair]:
    """Draws requests about the town, each declined in other words."""
    openings, questions = Deck(texts.LESSON_REQUESTS, rng), Deck(texts.LESSON_QUESTIONS, rng)
    topics = Deck(texts.LESSON_TOPICS, rng)
    wordings = Deck(product(texts.DECLINES, texts.DECLINE_TAILS), rng)

    def declined(prompt: str) -> Pair:
        decline, tail = wordings.draw()
        return prompt, f"{decline.format(town=town)} {tail}".strip()

    def long() -> Pair:
        return declined(capital(openings.draw().format(town=town, topic=topics.draw())))

    def short() -> Pair:
        return declined(rng.choice(PREFACES) + questions.draw().format(town=town))

    return in_turn(long, short)
