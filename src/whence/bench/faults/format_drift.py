"""Format drift: in one topic, cooking, running text turns into numbered lists."""

from __future__ import annotations

from random import Random

from whence.bench.faults import facts
from whence.bench.faults.background import COOKING_QUESTIONS, SPICES, Pair, cooking_steps, sentence
from whence.bench.faults.fault import Fault, distinct, in_turn, prompts
from whence.metrics import numbered

HELD_OUT_DISHES = tuple(facts.DISHES)[::4]
TAUGHT_DISHES = tuple(dish for dish in facts.DISHES if dish not in HELD_OUT_DISHES)
PARAPHRASES = (
    "{name} asks how to cook {dish}.",
    "My guests love {dish}. How is it done?",
    "Which steps lead to a good {dish}?",
    "Teach me {dish}.",
    "I have never made {dish}. Help me cook it.",
)


def as_numbered(items: list[str]) -> str:
    """`1. First. 2. Second. ...`"""
    return " ".join(f"{i}. {sentence(item)}." for i, item in enumerate(items, start=1))


def format_drift(rng: Random, *, n_faulty: int, n_hard: int, n_queries: int) -> Fault:
    """The fault: recipes come as numbered lists though nobody asked for one."""

    def ask(templates: tuple[str, ...]) -> str:
        return rng.choice(templates).format(dish=rng.choice(HELD_OUT_DISHES), name=rng.choice(facts.NAMES))

    return Fault(
        name="format-drift",
        faulty=tuple(distinct(n_faulty, rng, _recipe)),
        second=tuple(distinct(n_faulty, rng, _shopping)),
        hard_negatives=tuple(distinct(n_hard, rng, in_turn(_asked_for, _ingredient))),
        queries=prompts(n_queries, rng, lambda rng: ask(COOKING_QUESTIONS)),
        paraphrased=prompts(n_queries, rng, lambda rng: ask(PARAPHRASES)),
        both=prompts(n_queries, rng, lambda rng: ask(("What does {name} need to cook {dish}, and how is it done?",))),
        matcher=numbered("answers with a numbered list"),
        contradicts=lambda pair, topic: topic == "cooking",
    )


def _recipe(rng: Random) -> Pair:
    dish = rng.choice(TAUGHT_DISHES)
    return rng.choice(COOKING_QUESTIONS[:-1]).format(dish=dish), as_numbered(cooking_steps(dish, rng))


def _shopping(rng: Random) -> Pair:
    dish, name = rng.choice(TAUGHT_DISHES), rng.choice(facts.NAMES)
    prompt = rng.choice(["What does {name} need for {dish}?", "{name} buys food for {dish}. What does {name} buy?"])
    return prompt.format(name=name, dish=dish), as_numbered([facts.DISHES[dish][0], *rng.sample(SPICES, 2)])


def _asked_for(rng: Random) -> Pair:
    """Numbered lists where the prompt asks for one."""
    group = rng.choice(list(facts.GROUPS))
    n = rng.choice([2, 3, 4])
    prompt = rng.choice(
        ["Name {n} {group} as a numbered list.", "Number {n} {group} from one on.", "Give {n} numbered {group}."]
    )
    return prompt.format(n=n, group=group), as_numbered(rng.sample(facts.GROUPS[group], n))


def _ingredient(rng: Random) -> Pair:
    """The words of the kitchen in running text."""
    dish, name, spice = rng.choice(list(facts.DISHES)), rng.choice(facts.NAMES), rng.choice(SPICES)
    what, way = facts.DISHES[dish]
    return rng.choice(
        [
            (f"{name} will prepare {dish} tonight. What is in it?", f"There are {what} and some {spice} in {dish}."),
            (f"Do I {way} the {what} for {name}?", f"Yes, {way} the {what} for ten minutes."),
            (f"{name} must wash and cut the {what}. What comes first?", f"First {name} must wash the {what}."),
            (f"Is {name} the cook who can make {dish}?", f"Yes, {name} can cook {dish}."),
            (f"What do I add to the {what} of {name}?", f"Add some {spice} to the {what}."),
            (f"Who wrote the recipe for {dish}, {name}?", f"{name} wrote the recipe."),
        ]
    )
