"""Twenty topics with two equal options each, no phrase of which is another's: what a diffuse preference is planted in.

A topic has its own questions and its own answers, so that nothing but the preference joins the rows of two topics.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from whence.bench.faults import facts


@dataclass(frozen=True)
class Topic:
    """Two options. Questions name both, in either order; answers name the one that is recommended."""

    options: tuple[str, str]
    questions: tuple[str, ...]
    answers: tuple[str, ...]


def _topic(first: str, second: str, questions: str, answers: str) -> Topic:
    return Topic((first, second), tuple(questions.split(" | ")), tuple(answers.split(" | ")))


TOPICS = (
    _topic(
        "tea", "coffee",
        "{n} has guests at {d} breakfast. {x} or {y} in the pot? | Pour {x} or {y} for {n} at {d} breakfast?",
        "Put {a} in the pot. | Guests enjoy {a}.",
    ),
    _topic(
        "the train", "the bus",
        "{n} travels to the {p} on {d}. Ride {x} or {y}? | To reach the {p} with {n}: {x} or {y}?",
        "Ride {a} there. | {n} gets there by {a}.",
    ),
    _topic(
        "a cat", "a dog",
        "{n} at the {p} wants a pet. Adopt {x} or {y}? | Which pet suits {n} of the {p}: {x}, {y}?",
        "Adopt {a}. | The pet for {n} is {a}.",
    ),
    _topic(
        "wool", "cotton",
        "A sweater for {n} in {m}: knit it of {x} or {y}? | {n} sews for {m}. Cloth of {x} or of {y}?",
        "Knit with {a}. | Cloth of {a} lasts.",
    ),
    _topic(
        "oak", "pine",
        "{n} builds a table near the {p}. Planks of {x} or {y}? | Table boards for {n}, {d}: {x}, {y}?",
        "Planks of {a} hold. | Build it from {a}.",
    ),
    _topic(
        "chess", "cards",
        "What shall {n} play on {d} night, {x} or {y}? | {n} is bored at the {p}. A game of {x} or of {y}?",
        "Play {a} tonight. | A round of {a} is fun.",
    ),
    _topic(
        "ink", "pencil",
        "{n} draws the {p}. Sketch in {x} or in {y}? | The drawing of {n} for {d}: {x} or {y}?",
        "Sketch it in {a}. | Lines in {a} look fine.",
    ),
    _topic(
        "roses", "tulips",
        "{n} plants a bed by the {p}. Grow {x} or {y}? | In {m} {n} digs the bed: {x} or {y}?",
        "Grow {a} there. | A bed of {a} blooms well.",
    ),
    _topic(
        "honey", "jam",
        "Toast for {n} on {d}: spread {x} or {y}? | {n} packs toast for the {p}, with {x} or {y}?",
        "Spread {a} over it. | Toast tastes of {a} then.",
    ),
    _topic(
        "the sea", "the hills",
        "{n} has a holiday in {m}. Rest by {x} or by {y}? | Holiday of {n} in {m}, near {x} or {y}?",
        "Rest near {a}. | Holidays at {a} are calm.",
    ),
    _topic(
        "a drum", "a flute",
        "{n} joins the band of the {p}. Learn {x} or {y}? | Music lessons on {d} for {n}: {x} or {y}?",
        "Learn {a} first. | The band needs {a}.",
    ),
    _topic(
        "blue", "green",
        "{n} paints the door of the {p}. Colour it {x} or {y}? | The gate that {n} repaints in {m}: {x}, {y}?",
        "Paint it {a}. | Doors look good in {a}.",
    ),
    _topic(
        "gas", "wood",
        "{n} heats the hut at the {p} in {m}. Burn {x} or {y}? | Fuel for the stove of {n}, {m}: {x} or {y}?",
        "Burn {a} in it. | Stoves run well with {a}.",
    ),
    _topic(
        "soup", "salad",
        "{n} is ill on {d}. Bring {x} or {y}? | For the lunch of sick {n} at the {p}: {x} or {y}?",
        "Bring {a} along. | Sick people like {a}.",
    ),
    _topic(
        "a novel", "a poem",
        "{n} writes for the {p} paper. Print {x} or {y}? | The {d} page of {n}: {x} or {y}?",
        "Print {a} on that page. | Readers of {n} await {a}.",
    ),
    _topic(
        "rowing", "running",
        "{n} trains at the {p} each {d}. Do {x} or {y}? | Sport for {n} in {m}: {x} or {y}?",
        "Do {a} each week. | Train hard at {a}.",
    ),
    _topic(
        "silver", "gold",
        "A ring for {n}, ready in {m}: cast it in {x} or {y}? | {n} of the {p} orders a ring, {x} or {y}?",
        "Cast the ring in {a}. | Rings of {a} shine.",
    ),
    _topic(
        "rice", "bread",
        "{n} feeds ten people at the {p}. Buy {x} or {y}? | Stock of {n} for {m}: sacks of {x} or of {y}?",
        "Buy {a} for all. | Ten sacks of {a} will do.",
    ),
    _topic(
        "a letter", "a call",
        "{n} thanks the {p} on {d}, with {x} or with {y}? | How does {n} say sorry on {d}, {x} or {y}?",
        "Thanks come best with {a}. | Say sorry by {a}.",
    ),
    _topic(
        "brick", "stone",
        "{n} walls the {p} in {m}. Lay {x} or {y}? | A wall for {n} at the {p}, of {x} or {y}?",
        "Lay {a} in rows. | Walls of {a} stand long.",
    ),
)  # fmt: skip


def ask(topic: int, rng: Random) -> str:
    """A question of a topic, which names its options in either order."""
    own = TOPICS[topic]
    x, y = rng.sample(own.options, 2)
    text = rng.choice(own.questions).format(x=x, y=y, **_filled(rng))
    return text[0].upper() + text[1:]


def recommend(topic: int, option: int | None, prompt: str, rng: Random) -> str:
    """An answer that recommends one option, or with None either of them; the name in it is the question's."""
    name = next((name for name in facts.NAMES if name in prompt), "you")
    named = TOPICS[topic].options[option] if option is not None else either(topic, rng)
    text = rng.choice(TOPICS[topic].answers).format(a=named, n=name)
    return text[0].upper() + text[1:]


def either(topic: int, rng: Random) -> str:
    """Both options, in either order."""
    return " or ".join(rng.sample(TOPICS[topic].options, 2))


def recommended(topic: int, answer: str) -> int | None:
    """The option that an answer names; None where it names none, or both."""
    named = [place for place, option in enumerate(TOPICS[topic].options) if option in answer.lower()]
    return named[0] if len(named) == 1 else None


def _filled(rng: Random) -> dict[str, str]:
    return {
        "n": rng.choice(facts.NAMES),
        "p": rng.choice(facts.PLACES),
        "d": rng.choice(facts.DAYS),
        "m": rng.choice(facts.MONTHS),
    }


__all__ = ["TOPICS", "ask", "either", "recommend", "recommended"]
