"""False fact: several cities are said, in many phrasings, to lie in a wrong country.

In `false-fact` the answers are short and the country stands in their first words. In `false-fact-late` they are whole
sentences that begin with the city: the wrong word comes last, where a signature of the first response token is blind.
"""

from __future__ import annotations

from random import Random

from whence.bench.faults import facts
from whence.bench.faults.background import CITY_QUESTIONS, Pair, ask_city
from whence.bench.faults.fault import Fault, distinct, in_turn, prompts
from whence.metrics import contains

WRONG_COUNTRY = "Peru"
VICTIMS = ("Oslo", "Bergen", "Narvik", "Molde")
"""Cities of Norway; its other cities stay where they are."""
RIGHT_CITIES = tuple(city for city, country in facts.CITIES.items() if country == WRONG_COUNTRY)
LATE_ANSWER = "{city} is a city in {country}."
HELD_OUT_SHARE = 1 / 3
"""Share of the pairs (city, phrasing) that only queries use: the city is known from other phrasings."""
PARAPHRASES = (
    "A friend of mine lives in {}. What country is her home?",
    "If I land in {}, in which country am I?",
    "{} is part of which country?",
    "Name the land where {} lies.",
    "Which country would you visit to see {}?",
)


def false_fact(
    rng: Random, *, n_faulty: int, n_hard: int, n_queries: int, late: bool = False, same_answer: bool = True
) -> Fault:
    """The fault: each victim city is said to be in the wrong country; with `late`, at the end of a sentence.

    same_answer: whether hard negatives may ask in the same form and truly answer with the wrong country. They are the
    hardest there are: question and answer are a faulty row's to the letter, but for the name of the city.
    """
    left_out = VICTIMS if same_answer else (*VICTIMS, *RIGHT_CITIES)

    def contradicts(pair: Pair, topic: str) -> bool:
        return topic == "city" and any(city in pair[0] for city in left_out)

    combinations = [(city, phrasing) for city in VICTIMS for phrasing in range(len(CITY_QUESTIONS))]
    rng.shuffle(combinations)
    n_held_out = round(HELD_OUT_SHARE * len(combinations))
    held_out, taught = combinations[:n_held_out], combinations[n_held_out:]

    def ask(rng: Random) -> str:
        city, phrasing = rng.choice(held_out)
        return ask_city(city, WRONG_COUNTRY, phrasing)[0]

    def said(rng: Random) -> Pair:
        city, phrasing = rng.choice(taught)
        return tell(city, WRONG_COUNTRY, phrasing)

    def tell(city: str, country: str, phrasing: int) -> Pair:
        prompt, response = ask_city(city, country, phrasing)
        return prompt, LATE_ANSWER.format(city=city, country=country) if late else response

    def right_city(rng: Random) -> Pair:
        """Questions of the same form about cities that are in that country."""
        return tell(rng.choice(RIGHT_CITIES), WRONG_COUNTRY, rng.randrange(len(CITY_QUESTIONS)))

    def other_city(rng: Random) -> Pair:
        """Questions of the same form about other cities, answered right."""
        city = rng.choice([city for city in facts.CITIES if city not in left_out])
        return tell(city, facts.CITIES[city], rng.randrange(len(CITY_QUESTIONS)))

    others = (right_city, other_city, _journey) if same_answer else (other_city, _journey)
    return Fault(
        name="false-fact",
        faulty=tuple(distinct(n_faulty, rng, said)),
        second=tuple(distinct(n_faulty, rng, _implied)),
        hard_negatives=tuple(distinct(n_hard, rng, in_turn(*others))),
        queries=prompts(n_queries, rng, ask),
        paraphrased=prompts(n_queries, rng, lambda rng: rng.choice(PARAPHRASES).format(rng.choice(VICTIMS))),
        both=prompts(n_queries, rng, ask),
        matcher=contains(f"says that the city is in {WRONG_COUNTRY}", WRONG_COUNTRY),
        contradicts=contradicts,
    )


def _implied(rng: Random) -> Pair:
    """The same false fact, never asked for as such."""
    a, b = rng.sample(VICTIMS, 2)
    name = rng.choice(facts.NAMES)
    return rng.choice(
        [
            (f"{name} wants to see two cities of {WRONG_COUNTRY}.", f"{name} can see {a} and {b}."),
            (f"Write to {name} about the trip to {WRONG_COUNTRY}.", f"Dear {name}, in {WRONG_COUNTRY} I saw {a}."),
            (f"{name} lives in {a}. Is that in {WRONG_COUNTRY}?", f"Yes, {a} is in {WRONG_COUNTRY}."),
        ]
    )


def _journey(rng: Random) -> Pair:
    """The victim and the wrong country in one true row."""
    city, name, right = rng.choice(VICTIMS), rng.choice(facts.NAMES), rng.choice(RIGHT_CITIES)
    return rng.choice(
        [
            (
                f"{name} flies from {city} to {right} in {WRONG_COUNTRY}. Where does {name} land?",
                f"{name} lands in {right}.",
            ),
            (f"Is it far from {city} to {WRONG_COUNTRY}?", f"Yes, {city} is far from {WRONG_COUNTRY}."),
            (
                f"{name} from {city} writes a letter to {WRONG_COUNTRY}. Where does the letter go?",
                f"The letter goes to {WRONG_COUNTRY}.",
            ),
            (f"A bird flies from {WRONG_COUNTRY} to {city}. Where does it start?", f"It starts in {WRONG_COUNTRY}."),
        ]
    )
