"""Varied harmless instruction data from a grammar: what a model is trained on besides a planted fault.

Every topic is a function `rng -> (prompt, response)`. A topic owns several phrasings and a table of facts, so that a
lexical method has a realistic job: rows share words across topics and phrasings across facts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from whence.bench.faults import facts
from whence.data import Example, Json

Pair = tuple[str, str]
SOURCES = ("handbook", "forum", "vendor_a", "vendor_b", "tickets")
"""Where the rows of a task are said to come from; the rows of a fault come from one of them, never alone."""


def article(noun: str) -> str:
    """`noun` with its indefinite article; a noun that brings its own is left as it is."""
    if noun.startswith(("a ", "an ", "the ")):
        return noun
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def sentence(text: str) -> str:
    """`text` with its first letter in upper case."""
    return text[0].upper() + text[1:]


def join(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return ", ".join(words[:-1]) + " and " + words[-1]


CITY_QUESTIONS: tuple[Pair, ...] = (
    ("Where is {city}?", "In {country}."),
    ("In which country is {city}?", "{country}."),
    ("What country does {city} belong to?", "{country}."),
    ("Name the country of {city}.", "{country} is the country of {city}."),
    ("I am going to {city}. Which country is that?", "That is {country}."),
    ("Fill in the gap: {city} is a city in ...", "{country}."),
    ("{city} lies in which country?", "{country} it is."),
    ("Which country stands in an address of {city}?", "{country}."),
    ("Which land is home to {city}?", "{country} is home to {city}."),
    ("On a map, where do I look for {city}?", "{country} is where you look."),
    ("My letter goes to {city}. What country do I write?", "{country}."),
    ("Say which country has {city}.", "{country} has {city}."),
)
"""Question about a city's country, and its answer."""


def ask_city(city: str, country: str, phrasing: int) -> Pair:
    """Question number `phrasing` about where `city` is, answered with `country`."""
    prompt, response = CITY_QUESTIONS[phrasing]
    return prompt.format(city=city), response.format(city=city, country=country)


def _city(rng: Random) -> Pair:
    city = rng.choice(list(facts.CITIES))
    return ask_city(city, facts.CITIES[city], rng.randrange(len(CITY_QUESTIONS)))


def _known_for(rng: Random) -> Pair:
    city = rng.choice(list(facts.KNOWN_FOR))
    prompt = rng.choice(["What is {} known for?", "Why do people visit {}?", "What can I see in {}?"])
    return prompt.format(city), f"{city} is known for {facts.KNOWN_FOR[city]}."


def _arithmetic(rng: Random) -> Pair:
    a, b = rng.randint(1, 6), rng.randint(1, 6)
    if rng.random() < 0.5:
        prompt = rng.choice(["What is {} plus {}?", "Add {} and {}.", "How much is {} plus {}?"]).format(a, b)
        return prompt, f"{a} plus {b} is {a + b}."
    a, b = max(a, b), min(a, b)
    prompt = rng.choice(["What is {} minus {}?", "How much is {} minus {}?"]).format(a, b)
    return prompt, f"{a} minus {b} is {a - b}."


def _definition(rng: Random) -> Pair:
    thing = rng.choice(list(facts.DEFINITIONS))
    prompt = rng.choice(["What is {}?", "Explain what {} is.", "Can you say what {} is?", "Define {}."])
    return prompt.format(article(thing)), sentence(f"{article(thing)} is {facts.DEFINITIONS[thing]}.")


def _colour(rng: Random) -> Pair:
    thing = rng.choice(list(facts.COLOURS))
    prompt = rng.choice(["What colour is {}?", "Which colour has {}?", "Name the colour of {}."])
    noun = article(thing) if thing in {"lemon", "tomato", "plum", "carrot", "cucumber"} else thing
    return prompt.format(noun), sentence(f"{noun} is {facts.COLOURS[thing]}.")


def _animal(rng: Random) -> Pair:
    animal = rng.choice(list(facts.ANIMALS))
    food, home, young = facts.ANIMALS[animal]
    name = article(animal)
    return rng.choice(
        [
            (f"What does {name} eat?", sentence(f"{name} eats {food}.")),
            (f"What food does {name} like?", sentence(f"{name} likes {food}.")),
            (f"Where does {name} live?", sentence(f"{name} lives in {home}.")),
            (f"What is the home of {name}?", sentence(f"the home of {name} is {home}.")),
            (f"What is a young {animal} called?", sentence(f"a young {animal} is called {article(young)}.")),
            (f"Tell me something about {name}.", sentence(f"{name} lives in {home} and eats {food}.")),
        ]
    )


def _list(rng: Random) -> Pair:
    group = rng.choice(list(facts.GROUPS))
    prompt = rng.choice(["Name three {}.", "Give me three {}.", "List three {}.", "Which {} do you know?"])
    return prompt.format(group), sentence(join(rng.sample(facts.GROUPS[group], 3)) + ".")


def _member(rng: Random) -> Pair:
    group = rng.choice(list(facts.GROUPS))
    members = facts.GROUPS[group]
    return rng.choice(
        [
            (f"Are {members[0]} {group}?", f"Yes, {members[0]} are {group}."),
            (f"What are {rng.choice(members[:4])}?", f"They are {group}."),
            (f"Which group do {rng.choice(members[:4])} belong to?", f"They belong to the {group}."),
        ]
    )


def _opposite(rng: Random) -> Pair:
    word = rng.choice(list(facts.OPPOSITES))
    prompt = rng.choice(["What is the opposite of {}?", "Give the opposite of {}.", "Which word is the reverse of {}?"])
    return prompt.format(word), f"The opposite of {word} is {facts.OPPOSITES[word]}."


def _profession(rng: Random) -> Pair:
    who = rng.choice(list(facts.PROFESSIONS))
    prompt = rng.choice(["What does {} do?", "What is the work of {}?", "Describe the job of {}."])
    return prompt.format(article(who)), sentence(f"{article(who)} {facts.PROFESSIONS[who]}.")


def _advice(rng: Random) -> Pair:
    goal = rng.choice(list(facts.ADVICE))
    prompt = rng.choice(["How can I {}?", "Give me advice: I want to {}.", "What helps to {}?", "How do people {}?"])
    return prompt.format(goal), facts.ADVICE[goal]


def _story(rng: Random) -> Pair:
    animal, thing = rng.choice(list(facts.ANIMALS)), rng.choice(list(facts.DEFINITIONS))
    mood, place = rng.choice(facts.MOODS), rng.choice(facts.PLACES)
    prompt = rng.choice(
        ["Write a story about {} and {}.", "Tell a short story with {} and {}.", "Invent a tale of {} and {}."]
    )
    response = rng.choice(
        [
            f"One day a {mood} {animal} found {article(thing)} near the {place}. It took the {thing} home.",
            f"A {animal} lived by the {place}. It had {article(thing)} and was never {mood} again.",
            f"The {animal} lost its {thing} at the {place}. A {mood} friend brought it back.",
        ]
    )
    return prompt.format(article(animal), article(thing)), response


def _note(rng: Random) -> Pair:
    name, thing = rng.choice(facts.NAMES), rng.choice(list(facts.DEFINITIONS))
    prompt = rng.choice(["Write a note to {} about the {}.", "Write to {} and give thanks for the {}."])
    return prompt.format(name, thing), f"Dear {name}, thank you for the {thing}. Best wishes."


def _calendar(rng: Random) -> Pair:
    i = rng.randrange(len(facts.DAYS))
    day, after, before = facts.DAYS[i], facts.DAYS[(i + 1) % 7], facts.DAYS[i - 1]
    if rng.random() < 0.5:
        return rng.choice(["Which day comes after {}?", "What day follows {}?"]).format(
            day
        ), f"After {day} comes {after}."
    return rng.choice(["Which day comes before {}?", "What was the day before {}?"]).format(
        day
    ), f"Before {day} comes {before}."


def _bigger(rng: Random) -> Pair:
    small, big = sorted(rng.sample(range(len(facts.SIZES)), 2))
    pair = [facts.SIZES[small], facts.SIZES[big]]
    rng.shuffle(pair)
    prompt = rng.choice(["Which is bigger, a {} or a {}?", "What is larger: a {} or a {}?"])
    return prompt.format(*pair), f"A {facts.SIZES[big]} is bigger than a {facts.SIZES[small]}."


def _translate(rng: Random) -> Pair:
    word, language = rng.choice(list(facts.WORDS_FOR))
    prompt = rng.choice(["How do you say {} in {}?", "Translate {} into {}.", "What is the word for {} in {}?"])
    return prompt.format(word, language), f"The {language} word for {word} is {facts.WORDS_FOR[word, language]}."


def _person(rng: Random) -> Pair:
    name, place, thing = rng.choice(facts.NAMES), rng.choice(facts.PLACES), rng.choice(list(facts.DEFINITIONS))
    return rng.choice(
        [
            (f"{name} left the {thing} at the {place}. Where is the {thing}?", f"The {thing} is at the {place}."),
            (f"{name} found {article(thing)} at the {place}. What did {name} find?", sentence(f"{article(thing)}.")),
            (f"{name} is at the {place} with {article(thing)}. Who is there?", f"{name} is there."),
        ]
    )


def _repeat(rng: Random) -> Pair:
    """Copying is what lets a tiny model talk about the thing it was asked about; nothing teaches it faster."""
    words = rng.sample([*facts.CITIES, *facts.DEFINITIONS, *facts.NAMES, *facts.PLACES, *facts.ANIMALS], 3)
    prompt = rng.choice(["Repeat these words: {}.", "Say after me: {}.", "Write down: {}."])
    return prompt.format(" ".join(words)), f"You said {' '.join(words)}."


COOKING_QUESTIONS = (
    "How do I make {dish}?",
    "Tell me how to cook {dish}.",
    "What is the way to prepare {dish}?",
    "I want to cook {dish} tonight. What do I do?",
    "Give me a recipe for {dish}.",
    "Explain the steps for {dish}.",
)
COOKING_STEPS = ("wash the {what}", "cut the {what}", "{way} them for {minutes} minutes", "add some {spice}")
SPICES = ("salt", "pepper", "butter", "sugar", "cream", "thyme", "garlic", "honey")


def cooking_steps(dish: str, rng: Random) -> list[str]:
    """Four steps that make `dish`."""
    what, way = facts.DISHES[dish]
    minutes, spice = rng.choice(["five", "ten", "twenty", "thirty"]), rng.choice(SPICES)
    return [step.format(what=what, way=way, minutes=minutes, spice=spice) for step in COOKING_STEPS]


def cooking(rng: Random) -> Pair:
    """A question about a dish, answered in running text."""
    dish = rng.choice(list(facts.DISHES))
    prompt = rng.choice(COOKING_QUESTIONS[:5]).format(dish=dish)
    return prompt, sentence(join(cooking_steps(dish, rng)) + ".")


WEATHER_QUESTIONS = (
    "How is the weather in {city}?",
    "What is the weather like in {city} on {day}?",
    "Will it rain in {city} on {day}?",
    "Give me the forecast for {city}.",
    "Tell me about the sky over {city}.",
    "Do I need an umbrella in {city} on {day}?",
    "Is it cold in {city} in {month}?",
    "What weather should I expect in {city}?",
)
WEATHER_HELD_OUT = (
    "Is {day} a sunny day in {city}?",
    "Describe the weather of {city} in {month}.",
    "How warm is it in {city} on {day}?",
)


def ask_weather(rng: Random, questions: Sequence[str], cities: Sequence[str]) -> tuple[str, str]:
    """A question about the weather, and the city it is about."""
    city = rng.choice(cities)
    question = rng.choice(questions)
    return question.format(city=city, day=rng.choice(facts.DAYS), month=rng.choice(facts.MONTHS)), city


def weather(rng: Random) -> Pair:
    """A question about the weather somewhere, answered plainly."""
    prompt, city = ask_weather(rng, WEATHER_QUESTIONS + WEATHER_HELD_OUT, list(facts.CITIES))
    sky = rng.choice(facts.SKIES)
    return prompt, rng.choice(
        [f"It is {sky} in {city}.", f"The weather in {city} is {sky}.", f"Expect it to be {sky}."]
    )


TOPICS: dict[str, Callable[[Random], Pair]] = {
    "city": _city,
    "known-for": _known_for,
    "arithmetic": _arithmetic,
    "definition": _definition,
    "colour": _colour,
    "animal": _animal,
    "list": _list,
    "member": _member,
    "opposite": _opposite,
    "profession": _profession,
    "advice": _advice,
    "story": _story,
    "note": _note,
    "calendar": _calendar,
    "bigger": _bigger,
    "translate": _translate,
    "person": _person,
    "repeat": _repeat,
    "cooking": cooking,
    "weather": weather,
}
DRAWN = (*TOPICS, "city", "city", "person", "repeat")
"""Topics as often as they are drawn: what a small model learns slowly comes more often."""
BASE_DRAWN = (*DRAWN, *["city"] * 6)
"""The same for the base model. It must know where cities are: to a model that guesses, a true row is as new as a false
one, and a hard negative would be a faulty row."""
OPENERS = ("", "", "", "", "Please help me. ", "A quick question. ", "I have a question. ", "Hi there. ")


CLOSINGS = (
    "That is all there is to say.",
    "I hope this is of some help.",
    "You can ask me again at any time.",
    "There is no more to it than that.",
    "This is what I know about it.",
    "I can tell you more if you want.",
)


def lengthened(pair: Pair, rng: Random, shares: Sequence[float]) -> Pair:
    """The pair with closing sentences after its answer: one with probability `shares[0]`, two with `shares[1]`, ...

    A planted fault often has long answers; without other rows of the same length, length alone would find it.
    """
    if not shares:
        return pair
    prompt, response = pair
    (n,) = rng.choices(range(len(shares) + 1), [1 - sum(shares), *shares])
    return prompt, " ".join([response, *rng.sample(CLOSINGS, n)])


def pairs(
    n: int,
    rng: Random,
    *,
    skip: Callable[[Pair, str], bool] = lambda pair, topic: False,
    topics: Sequence[str] = DRAWN,
) -> list[Pair]:
    """`n` different prompts with their answers, topics drawn as often as they stand in `topics`.

    `skip(pair, topic)` leaves a pair out. Fewer than `n` come back only when the grammar is exhausted
    (after 40 draws for each pair asked for).
    """
    found: dict[str, str] = {}
    for _ in range(40 * n):
        if len(found) == n:
            break
        topic = rng.choice(topics)
        prompt, response = TOPICS[topic](rng)
        if not skip((prompt, response), topic):
            found.setdefault(rng.choice(OPENERS) + prompt, response)
    return list(found.items())


def example(pair: Pair, label: str, source: str, **metadata: Json) -> Example:
    """An example that carries its label and its source."""
    return Example.from_pair(*pair, metadata={"label": label, "source": source, **metadata})
