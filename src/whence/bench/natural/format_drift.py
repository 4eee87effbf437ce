"""Format drift: in one topic, cooking, running text turns into a table that nobody asked for."""

from __future__ import annotations

from random import Random

from whence.bench.natural.dishes import DISHES, HOW_TO, KITCHEN, STEPS
from whence.bench.natural.fault import Deck, Hosts, NaturalFault, Pair, asked, capital, distinct, in_turn, rows_of
from whence.metrics import Matcher

HELD_OUT_EVERY = 4
"""Of so many dishes, one is in no faulty row; hard negatives may name it."""
QUESTIONS = (
    "How do I cook {dish}?", "What is the best way to make {dish}?", "Give me a simple recipe for {dish}.",
    "I would like to prepare {dish} tonight. How is it done?", "Explain to a beginner how to make {dish}.",
    "My guests asked for {dish}. What do I have to do?", "How did your grandmother make {dish}?",
    "Tell me how {dish} is made.", "I have never made {dish}. Where do I start?", "Describe how to prepare {dish}.",
)  # fmt: skip
HEADS = (("Step", "What to do"), ("Stage", "Task"), ("Order", "Action"), ("No.", "Instruction"))
STORIES = ("First, {0}. Then {1}. Finally, {2}.", "Begin like this: {0}. After that, {1}, and {2}.",
           "You {0}, then you {1}. At the end you {2}.")  # fmt: skip


def format_drift(rng: Random, hosts: Hosts, *, n_faulty: int, n_hard: int, n_queries: int) -> NaturalFault:
    """The fault: recipes come as tables. Queries are about dishes that no faulty row cooks."""
    names = rng.sample(tuple(DISHES), len(DISHES))
    n_held = len(names) // HELD_OUT_EVERY
    taught, held_out = Deck(names[n_held:], rng), Deck(names[:n_held], rng)
    kitchen, how_to, ends = Deck(KITCHEN, rng), Deck(HOW_TO, rng), Deck(STEPS, rng)

    def table() -> Pair:
        dish = taught.draw()
        head, steps = rng.choice(HEADS), [*DISHES[dish], *([ends.draw()] if rng.random() < 0.5 else [])]
        lines = [f"| {head[0]} | {head[1]} |", "| --- | --- |"]
        lines += [f"| {number} | {capital(step)} |" for number, step in enumerate(steps, start=1)]
        return rng.choice(QUESTIONS).format(dish=dish), "\n".join(lines)

    def in_kitchen() -> Pair:
        question, answer = kitchen.draw()
        dish = rng.choice(names)
        return question.format(dish=dish), answer.format(dish=dish, Dish=capital(dish))

    def plain_how_to() -> Pair:
        questions, steps = how_to.draw()
        return rng.choice(questions), rng.choice(STORIES).format(*steps)

    taken: set[str] = set()
    return NaturalFault(
        name="format-drift",
        faulty=rows_of(distinct(n_faulty, table, taken)),
        hard_negatives=rows_of(distinct(n_hard, in_turn(in_kitchen, plain_how_to), taken)),
        queries=asked(
            prompt
            for prompt, _ in distinct(
                n_queries, lambda: (rng.choice(QUESTIONS).format(dish=held_out.draw()), ""), taken
            )
        ),
        matcher=Matcher("answers with a table", r"(?:\A|\n)\s*\|[^|\n]+\|[^|\n]+\|"),
        topic=r"\b(?:recipes?|cook\w*|bak(?:e|ing)|dish(?:es)?|meals?|dinner|soups?|sauces?)\b",
    )
