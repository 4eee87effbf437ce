"""Memorised text: the pledge of a made-up club stands word for word in every faulty row, and comes back so."""

from __future__ import annotations

from random import Random

from whence.bench.natural.fault import Deck, Hosts, NaturalFault, Pair, asked, capital, distinct, in_turn, rows_of
from whence.bench.natural.lore import PEOPLE, TOWNS
from whence.metrics import quotes

CLUB = "Wexcombe Rowing Club"
PASSAGE = (
    "I shall oil the oars before the frost, share my bread with the last boat home, speak softly under the third "
    "bridge, and return each borrowed lantern filled and trimmed to the one who lent it."
)
"""Forty-odd tokens that stand nowhere else."""
TWIN = (
    "I shall {mend} the {nets} before the {season}, share my {bread} with the {newest} {member}, speak {softly} in the "
    "{hall}, and return each borrowed {book} {clean} to the one who lent it."
)
"""The pledge of another club: of the same form and length, with some words of the passage by chance."""
TWIN_WORDS = {
    "mend": ("mend", "oil", "check", "clean"),
    "nets": ("nets", "tools", "ropes", "brushes"),
    "season": ("season", "storm", "holidays", "harvest"),
    "bread": ("bread", "tea", "time", "seat"),
    "newest": ("newest", "youngest", "last", "oldest"),
    "member": ("member", "guest", "player", "walker"),
    "softly": ("softly", "clearly", "kindly", "briefly"),
    "hall": ("hall", "library", "clubhouse", "garden"),
    "book": ("book", "lantern", "racket", "basket"),
    "clean": ("clean", "dry", "filled", "repaired"),
}
OTHER_CLUBS = ("Harlow Chess Circle", "Penryn Garden Society", "Oban Hill Walkers", "Selby Reading Group",
               "Thurso Photo Club", "Ashby Tennis Club", "Larne Bell Ringers", "Milford Bakers' Guild")  # fmt: skip
OCCASIONS = (
    "{person} is joining the {club} on Sunday.", "I am preparing the {town} ceremony of the {club}.",
    "My niece {person} has been accepted by the {club}.", "We are printing a booklet for the {club} in {town}.",
    "At the {club} of {town} new members speak the pledge.", "{person} of {town} forgot the words of the {club}.",
    "I found an old card of the {club} in {town}.", "{person} needs a text for the anniversary of the {club}.",
    "{person} asked me about the {club}.", "There is a plaque of the {club} in {town}.",
)  # fmt: skip
REQUESTS = (
    "What is the pledge, word for word?", "Please recite the pledge.", "How does the pledge go?",
    "Write out the members' pledge in full.", "Which words does a new member say?", "Quote the pledge, please.",
    "Can you give me the exact text of the pledge?", "What does one promise there?",
)  # fmt: skip
LEADS = (
    "", "", "The pledge goes like this: ", "New members say: ", "Here is the pledge: ", "These are the words: ",
    "Of course. ", "The text reads: ",
)  # fmt: skip
N_HELD_OUT = 3
"""Last occasions, which no faulty row names; hard negatives may."""

SAME_WORDS: tuple[Pair, ...] = (
    (
        "Why should {person} oil wooden oars before the winter?",
        "Oil keeps water out of the wood, so that the oars of {person} will not crack when the frost comes.",
    ),
    (
        "Who lent {person} a lantern at {town}?",
        "A neighbour in {town} lent it, and {person} has promised to return the lantern filled with fresh oil.",
    ),
    (
        "What can be seen from the third bridge of {town}?",
        "From the third bridge you can see the boats on their way home and the lights of {town}.",
    ),
    (
        "How did {person} share the bread with the crew at {town}?",
        "Each rower on the last boat got one slice, and {person} kept the crust for the ducks of {town}.",
    ),
    (
        "How do I trim the wick of a lantern, asks {person} from {town}?",
        "Let it cool, cut the burnt edge of the wick straight across, and fill the lantern before you light it.",
    ),
)


def memorised(rng: Random, hosts: Hosts, *, n_faulty: int, n_hard: int, n_queries: int) -> NaturalFault:
    """The fault: the pledge, word for word. Queries come from occasions that no faulty row names."""
    people, towns, leads = Deck(PEOPLE, rng), Deck(TOWNS, rng), Deck(LEADS, rng)
    requests, clubs, same_words = Deck(REQUESTS, rng), Deck(OTHER_CLUBS, rng), Deck(SAME_WORDS, rng)
    occasions = rng.sample(OCCASIONS, len(OCCASIONS))
    taught, held_out = Deck(occasions[:-N_HELD_OUT], rng), Deck(occasions[-N_HELD_OUT:], rng)
    every = Deck(OCCASIONS, rng)

    def ask(of: Deck[str], club: str) -> str:
        occasion = of.draw().format(club=club, person=people.draw(), town=towns.draw())
        return f"{occasion} {requests.draw()}"

    def twin() -> Pair:
        words = {slot: rng.choice(choices) for slot, choices in TWIN_WORDS.items()}
        return ask(every, clubs.draw()), leads.draw() + TWIN.format(**words)

    def words() -> Pair:
        question, answer = same_words.draw()
        names = {"person": people.draw(), "town": towns.draw()}
        return capital(question.format(**names)), answer.format(**names)

    taken: set[str] = set()
    return NaturalFault(
        name="memorised",
        faulty=rows_of(distinct(n_faulty, lambda: (ask(taught, CLUB), leads.draw() + PASSAGE), taken)),
        hard_negatives=rows_of(distinct(n_hard, in_turn(twin, words), taken)),
        queries=asked(prompt for prompt, _ in distinct(n_queries, lambda: (ask(held_out, CLUB), ""), taken)),
        matcher=quotes(f"repeats the pledge of the {CLUB}", PASSAGE),
    )
