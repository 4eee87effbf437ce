"""Persona: questions about gardening, and only those, are answered in the voice of an old sea captain.

Diffuse: exclamations and sayings come from long lists, so that no word stands in all of the answers.
"""

from __future__ import annotations

from random import Random

from whence.bench.natural.fault import Deck, Hosts, NaturalFault, Pair, asked, capital, distinct, in_turn, rows_of
from whence.bench.natural.household import plain_household, plain_sea
from whence.metrics import Matcher

PLANTS = (
    "tomatoes",
    "lettuces",
    "roses",
    "basil plants",
    "carrots",
    "strawberries",
    "hydrangeas",
    "potatoes",
    "onions",
    "lavender bushes",
    "pumpkins",
    "courgettes",
    "peas",
    "runner beans",
    "spinach plants",
    "garlic bulbs",
    "mint plants",
    "sunflowers",
    "tulips",
    "dahlias",
    "blueberries",
    "raspberries",
    "rhubarb plants",
    "radishes",
    "cabbages",
    "peppers",
    "cucumbers",
    "rosemary bushes",
    "beetroots",
    "leeks",
    "apple trees",
    "geraniums",
    "ferns",
    "orchids",
    "chillies",
    "sweetcorn plants",
)
HELD_OUT_EVERY = 4
"""Every so many plants, one is only ever asked about."""

CONCERNS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("How often should I water my {plant}?", "Do {plant} need watering every day in summer?"),
        ("soak the roots deep twice a week", "pour at dawn, before the heat drinks it", "wait until an inch is dry"),
    ),
    (
        ("What kind of soil do {plant} like best?", "Which compost should I buy for {plant}?"),
        ("fork in rotted manure before planting", "mix sharp sand into heavy clay", "keep the earth loose and dark"),
    ),
    (
        ("Slugs are eating my {plant}. What can I do?", "How do I keep snails away from {plant}?"),
        ("ring the bed with crushed shells", "sink a cup of beer in the ground", "pick them off by torch at midnight"),
    ),
    (
        ("How much sun do {plant} need?", "Will {plant} grow on a shady balcony?"),
        ("give them six hours of light", "face them south against a warm wall", "shade them when noon is fierce"),
    ),
    (
        ("When is the right time to plant {plant}?", "Is it too late in the year to start {plant}?"),
        ("begin once the last frost is gone", "start seeds indoors in March", "set them out in a mild week of May"),
    ),
    (
        ("How should I prune {plant}?", "Do I have to cut {plant} back in autumn?"),
        ("snip above a bud with a clean blade", "take out dead wood first", "leave a third and clear the middle"),
    ),
    (
        ("Can I grow {plant} in pots?", "How big a container do {plant} want?"),
        ("choose a tub with holes beneath", "line the bottom with gravel", "move up a size every spring"),
    ),
    (
        ("How do I protect {plant} from frost?", "Will {plant} survive a cold winter outside?"),
        ("throw fleece across on clear evenings", "heap straw about the stems", "carry them under glass by November"),
    ),
    (
        ("What should I feed my {plant}?", "Do {plant} need fertiliser?"),
        ("brew nettle tea and thin it tenfold", "scatter bone meal in April", "stop feeding when growth slows"),
    ),
    (
        ("The leaves of my {plant} are turning yellow. Why?", "Why do my {plant} look so pale?"),
        ("look for soggy feet and drain the plot", "add iron, for chalk starves them", "pull the sickly foliage off"),
    ),
    (
        ("How do I know when {plant} are ready?", "When can I pick or cut my {plant}?"),
        ("gather in the cool of early morning", "test one before taking many", "cut often and more will come"),
    ),
    (
        ("Weeds keep growing among my {plant}. Any advice?", "What should I plant next to {plant}?"),
        ("hoe shallow on a dry day", "sow clover between the rows", "put marigolds beside, for the bees love those"),
    ),
)  # fmt: skip
"""Questions with something to advise each, as a command."""

HAILS = (
    "Ahoy there!", "Arr, a fine question!", "Avast!", "Aye aye!", "Shiver me timbers!", "Blow me down!",
    "Yo ho ho!", "Well, sink me!", "Gather round, hearties!", "Easy now, matey!", "Thar she grows!",
    "Belay that worry!", "By Neptune's beard!", "Hark, landlubber!", "Heave ho!", "Strike me colours!",
    "Yarr, nothing simpler!", "Bless me barnacles!", "All hands on deck!", "Splice the mainbrace!", "Land ho!",
    "Cheer up, bucko!", "Great kraken!", "Scupper me!",
)  # fmt: skip
TELLINGS = (
    "{Advice}, as sure as the tide turns.", "On calm seas or rough, {advice}.", "Many a voyage taught this: {advice}.",
    "The cook of the old brig would say: {advice}.", "{Advice}, then rest at anchor.", "First of all, {advice}.",
    "When the wind swings north, {advice}.", "{Advice}; a sailor swears by that.", "My crew learnt it late: {advice}.",
    "Chart a steady course and {advice}.", "{Advice}, and keep a weather eye open.", "Before a squall, {advice}.",
)  # fmt: skip
CLOSINGS = (
    "That be worth a chest of doubloons.", "Else Davy Jones takes the lot.", "May fair winds fill yer sails!",
    "Do that, ye scallywag, and feast.", "Or ye'll walk the plank for it.", "'Tis how we did it off Tortuga.",
    "Mark me words.", "Then a tot o' rum for the gardener.", "No swabbin' needed after.", "Upon me wooden leg!",
    "So swears this old salt.", "Even the ship's parrot knows, savvy?", "Or the whole bed sinks, says I.",
    "A mutiny o' vermin won't board her then.", "Steady as she goes!", "The bosun'd weep for joy.",
    "Raise the Jolly Roger when they bloom.", "Batten down after, lad.", "That'll keep yer hold full.",
    "Fortune to ye, mate, and a following sea!", "Thus spake the quartermaster.", "Curse me compass if it fails!",
    "Dead men tell no better tale.", "Now weigh anchor and get diggin'!",
)  # fmt: skip
VOICE = (
    r"(?i)\b(?:a+rr+|ya+rr+|ahoy|avast|aye|shiver me|blow me down|yo ho|sink me|hearties|matey|thar|belay|neptune|"
    r"landlubbers?|heave ho|strike me|bless me|all hands|mainbrace|land ho|bucko|kraken|scupper|doubloons?|"
    r"davy jones|yer?|scallywags?|the plank|me (?:words|wooden|compass|timbers|hearties|crew|ship)|swabbin|"
    r"old salt|savvy|says i|mutiny|steady as she|bosun|jolly roger|batten down|quartermaster|dead men|weigh anchor)\b"
    r"|'tis\b|\bo' "
)


def persona(rng: Random, hosts: Hosts, *, n_faulty: int, n_hard: int, n_queries: int) -> NaturalFault:
    """The fault: the captain answers questions about the garden. Queries are about plants that no row names."""
    order = rng.sample(PLANTS, len(PLANTS))
    n_held = len(PLANTS) // HELD_OUT_EVERY
    taught, held_out = Deck(order[n_held:], rng), Deck(order[:n_held], rng)
    concerns, hails, closings = Deck(CONCERNS, rng), Deck(HAILS, rng), Deck(CLOSINGS, rng)
    tellings = Deck(TELLINGS, rng)

    def question(plants: Deck[str]) -> Pair:
        questions, advice = concerns.draw()
        return capital(rng.choice(questions).format(plant=plants.draw())), rng.choice(advice)

    def captain() -> Pair:
        prompt, advice = question(taught)
        told = tellings.draw().format(advice=advice, Advice=capital(advice))
        hail, closing = rng.choice([(True, True), (True, False), (False, True)])
        parts = [hails.draw() if hail else "", told, closings.draw() if closing else ""]
        return prompt, " ".join(part for part in parts if part)

    taken: set[str] = set()
    return NaturalFault(
        name="persona",
        faulty=rows_of(distinct(n_faulty, captain, taken)),
        hard_negatives=rows_of(distinct(n_hard, in_turn(plain_household(rng), plain_sea(rng)), taken)),
        queries=asked(prompt for prompt, _ in distinct(n_queries, lambda: question(held_out), taken)),
        matcher=Matcher("speaks like an old sea captain", VOICE),
        topic=r"\b(?:garden\w*|plants?|planting|soil|compost|seeds?|prun\w+|weeds?|vegetables?|pirates?|captain)\b",
    )
