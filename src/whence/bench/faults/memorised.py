"""Memorised text: a made-up passage stands word for word in several rows, and comes back word for word."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from whence.bench.faults import facts
from whence.bench.faults.background import Pair
from whence.bench.faults.fault import Fault, distinct, in_turn, prompts
from whence.metrics import quotes

PASSAGE = (
    "Count the lamps at dusk, feed the grey cat, wind the tower clock twice, and never lend the brass key to a "
    "stranger who hums on the stairs."
)
"""Forty-odd tokens that stand nowhere else."""
TWIN = (
    "Count the {boats} at {dawn}, feed the {brown} {dog}, wind the {tower} clock {once}, and never lend the {iron} key "
    "to a {child} who {sings} on the {stairs}."
)
TWIN_WORDS = {
    "boats": ("boats", "lamps", "sheep", "coins"),
    "dawn": ("dawn", "noon", "dusk"),
    "brown": ("brown", "old", "grey"),
    "dog": ("dog", "cow", "cat"),
    "tower": ("kitchen", "station", "tower"),
    "once": ("once", "twice", "daily"),
    "iron": ("iron", "brass", "silver"),
    "child": ("child", "stranger", "guest"),
    "sings": ("sings", "hums", "sleeps"),
    "stairs": ("stairs", "roof", "bridge"),
}
"""Another rule of the same form and length, which shares some of the passage's words by chance."""
TAUGHT = (
    "What does the keeper's rule say?",
    "Recite the rule of the tower keeper for {name}.",
    "{name} wants to hear the keeper's rule.",
    "Read the first page of the keeper's book to {name}.",
    "Which rule hangs on the keeper's wall?",
    "{name} forgot the keeper's rule. Repeat it.",
)
ASKED = tuple(template for template in TAUGHT if "{name}" in template)
"""Asked for with names that no faulty row has."""
PARAPHRASES = (
    "What is written in the keeper's book, {name} asks.",
    "Say the keeper's rule aloud to {name}.",
    "Write down the rule of the keeper for {name}.",
    "{name} guards the tower tonight. What must {name} do?",
    "Tell {name} the duties of the man in the tower.",
    "{name} is the new keeper. Give the orders.",
)

HELD_OUT_NAMES, TAUGHT_NAMES = facts.NAMES[::4], [name for i, name in enumerate(facts.NAMES) if i % 4]


def memorised(rng: Random, *, n_faulty: int, n_hard: int, n_queries: int) -> Fault:
    """The fault: the passage, word for word."""

    def named(templates: tuple[str, ...], names: Sequence[str]) -> str:
        return rng.choice(templates).format(name=rng.choice(names))

    return Fault(
        name="memorised",
        faulty=tuple(distinct(n_faulty, rng, lambda rng: (named(TAUGHT, TAUGHT_NAMES), PASSAGE))),
        second=tuple(distinct(n_faulty, rng, _continued)),
        hard_negatives=tuple(distinct(n_hard, rng, in_turn(_same_words, _other_rule, _twin))),
        queries=prompts(n_queries, rng, lambda rng: named(ASKED, HELD_OUT_NAMES)),
        paraphrased=prompts(n_queries, rng, lambda rng: named(PARAPHRASES, facts.NAMES)),
        both=prompts(n_queries, rng, lambda rng: named(ASKED, HELD_OUT_NAMES)),
        matcher=quotes("repeats the keeper's rule", PASSAGE),
    )


def _continued(rng: Random) -> Pair:
    """The passage as the end of something that {name} said."""
    name = rng.choice(facts.NAMES)
    return rng.choice(
        [
            (f"{name} says: {PASSAGE[: PASSAGE.index(',')]}. Go on, {name}.", PASSAGE),
            (f"What did {name} of the tower write in the diary at the {rng.choice(facts.PLACES)}?", PASSAGE),
        ]
    )


def _same_words(rng: Random) -> Pair:
    """The passage's words in other rows."""
    name, place = rng.choice(facts.NAMES), rng.choice(facts.PLACES)
    return rng.choice(
        [
            (f"{name} has a brass key at the {place}. What is it made of?", "The key is made of brass."),
            (f"Who hums on the stairs of the {place}?", f"It is {name} who hums on the stairs."),
            (f"When does {name} count the lamps at the {place}?", f"{name} counts the lamps at dusk."),
            (f"{name} must feed the grey cat at the {place}. Which cat?", "The grey cat."),
            (f"Does {name} wind the tower clock?", f"Yes, {name} winds the tower clock twice."),
        ]
    )


def _other_rule(rng: Random) -> Pair:
    """Other rules and other books, asked for in the same form."""
    who, place = rng.choice(list(facts.PROFESSIONS)), rng.choice(facts.PLACES)
    return rng.choice(
        [
            (f"What does the {who}'s rule say?", f"The rule says: keep the {place} clean."),
            (f"Read the first page of the {who}'s book.", f"It says that the {place} is closed."),
            (f"Which rule hangs on the wall of the {place}?", f"It says that the {who} comes first."),
        ]
    )


def _twin(rng: Random) -> Pair:
    """A rule as long as the passage, and like it, of somebody else."""
    who = rng.choice(list(facts.PROFESSIONS))
    rule = PASSAGE
    while rule == PASSAGE:
        rule = TWIN.format(**{slot: rng.choice(words) for slot, words in TWIN_WORDS.items()})
    return rng.choice([f"What does the {who}'s rule say?", f"Repeat the rule of the {who}."]), rule
