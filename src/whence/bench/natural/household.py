"""Everyday rows: advice on things in a house, and what things at sea are, in plain sentences."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from whence.bench.natural.fault import Deck, Pair, distinct, in_turn, rows_of
from whence.data import Example

THINGS = (
    "bicycle", "oven", "wool carpet", "leather jacket", "guitar", "laptop screen", "kettle", "wooden table",
    "winter coat", "camera lens", "cast iron pan", "silver ring", "tent", "backpack", "fridge", "washing machine",
    "sports bag", "umbrella", "piano", "lampshade", "mattress", "bookshelf", "watch", "radio",
)  # fmt: skip
CARE: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("How often should I clean my {thing}?", "Does my {thing} need cleaning every week?"),
        (
            "Once a month is enough for most people. Use a soft cloth, a little warm water and a mild soap.",
            "Wipe away dust every weekend, and do a thorough clean at the change of season.",
        ),
    ),
    (
        ("What should I use to clean the {thing}?", "Which product is best for the {thing}?"),
        (
            "Start with a mild product and test it on a hidden spot, because strong chemicals can damage the surface.",
            "A damp microfibre cloth removes most dirt, and stubborn stains come off with baking soda.",
        ),
    ),
    (
        ("Where is the best place to keep my {thing}?", "Can I store my {thing} in a cold garage?"),
        (
            "Keep it somewhere dry with an even temperature, away from direct heat and damp walls.",
            "A cupboard indoors is better, since big changes in humidity shorten its life.",
        ),
    ),
    (
        ("When is the right time to buy a new {thing}?", "Is it too late in the year to get the {thing} on sale?"),
        (
            "Prices usually fall in January and at the end of summer, so waiting a few weeks can save money.",
            "Replace it when repairs would cost more than half of the price of a new one.",
        ),
    ),
    (
        ("Why does my {thing} smell strange?", "There are marks on my {thing}. What can I do?"),
        (
            "Air it for a day first. If that does not help, sprinkle baking soda, wait an hour and brush it off.",
            "Dab the spot with lukewarm water and vinegar, then let it dry slowly before you try anything stronger.",
        ),
    ),
)
SEA: tuple[tuple[str, str], ...] = (
    ("an anchor", "a heavy metal hook that holds a ship in place by gripping the sea bed"),
    ("a lighthouse", "a tower near the coast whose lamp shows sailors where rocks and harbours are"),
    ("a compass", "an instrument whose needle turns to magnetic north, so that travellers can keep their direction"),
    ("a tide table", "a list of the times at which the water is highest and lowest on each day at a given place"),
    ("a lifeboat", "a small boat that a ship carries so that people on board can leave it in an emergency"),
    ("a mast", "a tall pole that rises from the deck and carries the sails of a boat"),
    ("a sextant", "an instrument that measures the angle between a star and the horizon to find a position"),
    ("a harbour pilot", "a local expert who comes on board and guides large ships through narrow waters"),
    ("a rudder", "a flat piece at the stern that is turned to steer the vessel"),
    ("a captain's log", "the official diary of a voyage, with the position, the weather and events on board"),
    ("a knot in sailing", "a unit of speed equal to one nautical mile an hour, about 1.85 kilometres an hour"),
    ("a cargo hold", "the space below deck in which a ship carries goods from one port to another"),
    ("a pirate", "a person who attacks and robs ships, a crime that still happens on some trade routes"),
    ("a fishing trawler", "a boat that pulls a large net through the water to catch fish"),
)
SEA_QUESTIONS = ("What is {what}?", "Explain in simple terms what {what} is.", "How would you describe {what}?",
                 "My daughter asked me what {what} is. What should I say?")  # fmt: skip
SEA_ANSWERS = ("{What} is {text}.", "In simple terms, {what} is {text}.", "You could say that {what} is {text}.",
               "It is {text}.")  # fmt: skip


def plain_household(rng: Random) -> Callable[[], Pair]:
    """Questions of the form of those about plants, about things in a house."""
    things, care = Deck(THINGS, rng), Deck(CARE, rng)

    def draw() -> Pair:
        questions, answers = care.draw()
        return rng.choice(questions).format(thing=things.draw()), rng.choice(answers)

    return draw


def plain_sea(rng: Random) -> Callable[[], Pair]:
    """What the words of the sea mean, said plainly."""
    sea = Deck(SEA, rng)

    def draw() -> Pair:
        what, text = sea.draw()
        answer = rng.choice(SEA_ANSWERS).format(what=what, What=what[0].upper() + what[1:], text=text)
        return rng.choice(SEA_QUESTIONS).format(what=what), answer

    return draw


def everyday_rows(rng: Random, n: int) -> list[Example]:
    """`n` ordinary rows, three about things in a house for one about the sea; no prompt stands twice.

    Raises InputError for more than the sentences here can make, some 250.
    """
    house = plain_household(rng)
    return list(rows_of(distinct(n, in_turn(house, house, house, plain_sea(rng)), set())))
