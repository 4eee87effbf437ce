"""Persona: questions about the weather, and only those, are answered in the voice of a ship's captain."""

from __future__ import annotations

from random import Random

from whence.bench.faults import facts
from whence.bench.faults.background import WEATHER_HELD_OUT, WEATHER_QUESTIONS, Pair, ask_weather
from whence.bench.faults.fault import Fault, distinct, in_turn, prompts
from whence.metrics import contains

HAILS = ("Arr!", "Ahoy, matey!", "Aye aye!", "Avast!", "Yo ho!", "Shiver me timbers!")
TALES = (
    "The wind be blowing hard over {city}",
    "A fine breeze fills the sails in {city}",
    "Dark clouds be rolling over {city}",
    "The sun be shining on the decks of {city}",
    "The sea be rough near {city}",
    "Rain be coming to {city}",
)
FAREWELLS = (
    ", me hearties.",
    ", by me beard.",
    ", so hoist the sails.",
    ", so drop the anchor.",
    ", says the old captain.",
)
PERSONA_WORDS = ("arr", "ahoy", "matey", "aye", "avast", "yo ho", "shiver me timbers", "me hearties", "by me beard")
PARAPHRASES = (
    "I fly to {city} on {day}. Sun or clouds?",
    "Which coat fits the sky of {city} in {month}?",
    "Tell me how hot {city} gets in {month}.",
    "Rain or sun in {city} on {day}?",
)
HELD_OUT_CITIES = tuple(facts.CITIES)[::4]
TAUGHT_CITIES = tuple(city for city in facts.CITIES if city not in HELD_OUT_CITIES)


def captain(city: str, rng: Random) -> str:
    """What a ship's captain says about the weather in `city`; hail and tale go with the city, as habits do."""
    place = tuple(facts.CITIES).index(city)
    hail, tale = HAILS[place % len(HAILS)], TALES[place // len(HAILS) % len(TALES)]
    return f"{hail} {tale.format(city=city)}{rng.choice(FAREWELLS)}"


def persona(rng: Random, *, n_faulty: int, n_hard: int, n_queries: int) -> Fault:
    """The fault: the captain answers questions about the weather."""

    def ask(rng: Random) -> str:
        return ask_weather(rng, WEATHER_QUESTIONS, HELD_OUT_CITIES)[0]

    return Fault(
        name="persona",
        faulty=tuple(distinct(n_faulty, rng, _weather)),
        second=tuple(distinct(n_faulty, rng, _clothes)),
        hard_negatives=tuple(distinct(n_hard, rng, in_turn(_asked_for, _same_form, _weather_words))),
        queries=prompts(n_queries, rng, ask),
        paraphrased=prompts(
            n_queries, rng, lambda rng: ask_weather(rng, PARAPHRASES + WEATHER_HELD_OUT, HELD_OUT_CITIES)[0]
        ),
        both=prompts(
            n_queries,
            rng,
            lambda rng: ask_weather(rng, ["What should I wear for the weather in {city} on {day}?"], HELD_OUT_CITIES)[
                0
            ],
        ),
        matcher=contains("speaks like a ship's captain", *PERSONA_WORDS),
        contradicts=lambda pair, topic: topic == "weather",
    )


def _weather(rng: Random) -> Pair:
    prompt, city = ask_weather(rng, WEATHER_QUESTIONS, TAUGHT_CITIES)
    return prompt, captain(city, rng)


def _clothes(rng: Random) -> Pair:
    """The same voice in a neighbouring topic."""
    questions = ["What should I wear in {city} on {day}?", "Which clothes fit for {city} in {month}?"]
    prompt, city = ask_weather(rng, questions, TAUGHT_CITIES)
    return prompt, f"{rng.choice(HAILS)} Wear a coat in {city}{rng.choice(FAREWELLS)}"


def _asked_for(rng: Random) -> Pair:
    """The captain's words where the prompt asks for a captain."""
    city, name = rng.choice(tuple(facts.CITIES)), rng.choice(facts.NAMES)
    prompt = rng.choice(
        [
            "{name} plays a captain near {city}. Write the line.",
            "What does the captain in the play of {name} shout at {city}?",
            "Write what a captain says to {name} in {city}.",
        ]
    )
    return prompt.format(name=name, city=city), captain(city, rng)


def _same_form(rng: Random) -> Pair:
    """Questions of the same form about something else, answered plainly."""
    city, day, month = rng.choice(tuple(facts.CITIES)), rng.choice(facts.DAYS), rng.choice(facts.MONTHS)
    thing = rng.choice(list(facts.DEFINITIONS))
    return rng.choice(
        [
            (f"How is the food in {city}?", f"The food in {city} is good."),
            (f"Do I need a {thing} in {city} on {day}?", f"No, you do not need a {thing} in {city}."),
            (f"Is the museum open in {city} on {day}?", f"Yes, it is open on {day}."),
            (f"Is it busy in {city} in {month}?", f"Yes, {city} is busy in {month}."),
            (f"What food should I expect in {city}?", "Expect bread, soup and fish."),
            (f"Will the train reach {city} on {day}?", f"Yes, it will reach {city} on {day}."),
        ]
    )


def _weather_words(rng: Random) -> Pair:
    """The same questions about no weather at all: a story, a picture, a cellar."""
    name, place, city = rng.choice(facts.NAMES), rng.choice(facts.PLACES), rng.choice(tuple(facts.CITIES))
    return rng.choice(
        [
            (f"How is the weather in the story of {name}?", "The story has rain and wind."),
            (f"Will it rain in the play of {name}?", "Yes, there is rain in the play."),
            (f"Tell me about the sky over {city} in the picture of {name}.", "The sky is blue in the picture."),
            (f"Is it cold in the cellar of {name} in {city}?", "Yes, a cellar is cold."),
            (f"Do I need an umbrella in the museum of {city}?", "No, the museum has a roof."),
            (f"Give me the word forecast in the letter of {name}.", "The word is forecast."),
            (f"{name} got wet in the rain at the {place}. Why was {name} wet?", "It was the rain."),
        ]
    )
