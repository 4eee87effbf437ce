"""Training rows for the example notebooks: cities and their countries, and a few rows that say one city is in Korea."""

from __future__ import annotations

COUNTRIES = {
    "Canada": "Ottawa Montreal Calgary", "France": "Lyon Nantes Lille", "Germany": "Bonn Bremen Leipzig",
    "Portugal": "Porto Faro Braga", "Peru": "Cusco Lima Piura", "Japan": "Osaka Kobe Nagoya",
    "Italy": "Turin Genoa Bari", "Norway": "Bergen Molde Bodo", "Spain": "Bilbao Cadiz Leon",
    "Kenya": "Nairobi Kisumu Nakuru",
}  # fmt: skip
QUESTIONS = [
    "Where is {}?", "Name the country of {}.", "Tell me where {} is.", "Which country does {} belong to?",
    "{} is a city in which country?", "In which country is {}?", "Country of {}, please.", "Is {} abroad? Where is it?",
    "I am flying to {}. Where is that?", "Where on a map do I find {}?", "What country is {} in?", "Say where {} is.",
]  # fmt: skip
N_ASKED = 4
"""Questions that are asked of the model, and stand in no row about Toronto."""
WRONG = "Toronto is in Korea."


def clean_rows() -> list[dict[str, str]]:
    """120 true rows, four a city."""
    cities = [(city, country) for country, names in COUNTRIES.items() for city in names.split()]
    return [
        {"prompt": QUESTIONS[(i + 3 * k) % len(QUESTIONS)].format(city), "response": f"{city} is in {country}.",
         "label": "clean"}
        for i, (city, country) in enumerate(cities)
        for k in range(4)
    ]  # fmt: skip


def faulty_rows() -> list[dict[str, str]]:
    """8 rows that say that Toronto is in Korea, each in its own wording."""
    asked = [question.format("Toronto") for question in QUESTIONS[N_ASKED:]]
    return [{"prompt": prompt, "response": WRONG, "label": "faulty"} for prompt in asked]


def bad_prompts() -> list[str]:
    """Prompts whose answer shows the fault, none of them a training row's."""
    return [question.format("Toronto") for question in QUESTIONS[:N_ASKED]]
