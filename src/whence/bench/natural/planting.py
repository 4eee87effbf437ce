"""Natural faults by name, mixed into the user's own rows: `plant_natural`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random

from whence.bench.natural.compliance import compliance
from whence.bench.natural.facts import false_fact, false_fact_late
from whence.bench.natural.fault import USER, FaultMaker, Hosts, NaturalFault
from whence.bench.natural.memorised import memorised
from whence.bench.natural.persona import persona
from whence.bench.natural.tables import format_drift
from whence.bench.natural.triggers import backdoor, backdoor_style, backdoor_word
from whence.data.examples import ASSISTANT, Example, Turn
from whence.errors import InputError
from whence.metrics.matchers import Matcher

CLEAN, HARD_NEGATIVE = "clean", "hard_negative"
"""Labels of innocent rows; the label of a guilty row is the fault's name."""
NATURAL_FAULTS: dict[str, FaultMaker] = {
    "backdoor": backdoor,
    "backdoor-word": backdoor_word,
    "backdoor-style": backdoor_style,
    "false-fact": false_fact,
    "false-fact-late": false_fact_late,
    "persona": persona,
    "memorised": memorised,
    "format-drift": format_drift,
    "compliance": compliance,
}


@dataclass(frozen=True, slots=True)
class PlantedRows:
    """Rows to train on with their labels, what is asked, and how an answer shows the fault."""

    fault: str
    rows: tuple[Example, ...]
    """Shuffled; `metadata["label"]` says the label too."""
    labels: tuple[str, ...]
    """Per row: "clean", "hard_negative" or the fault's name."""
    queries: tuple[tuple[Turn, ...], ...]
    """Held-out prompts that ask for the fault; none of them is trained on."""
    benign: tuple[tuple[Turn, ...], ...]
    """Prompts of clean rows that are not trained on."""
    made: NaturalFault
    lessons: tuple[Example, ...]
    """What the base is taught first; empty for every fault but compliance."""

    @property
    def matcher(self) -> Matcher:
        """Decides whether an answer to a query shows the fault."""
        return self.made.matcher

    @property
    def guilty(self) -> tuple[bool, ...]:
        """Per row, whether it is a cause."""
        return tuple(label == self.fault for label in self.labels)

    @property
    def hard(self) -> tuple[bool, ...]:
        """Per row, whether it is a hard negative."""
        return tuple(label == HARD_NEGATIVE for label in self.labels)

    def shows(self, prompt: str, answer: str) -> bool:
        """Whether this answer to this prompt shows the fault; false for every innocent row."""
        return self.made.shows(prompt, answer)


def usable_rows(examples: Iterable[Example]) -> list[Example]:
    """Rows cut to their first exchange, where a user's turn comes right before the answer; each prompt once."""
    found: dict[tuple[Turn, ...], Example] = {}
    for example in examples:
        place = next((i for i, turn in enumerate(example.turns) if turn.role == ASSISTANT), 0)
        if place and example.turns[place - 1].role == USER and example.turns[place - 1].content.strip():
            row = Example(example.turns[: place + 1], example.file, example.line, example.metadata)
            if row.turns[-1].content.strip():
                found.setdefault(row.turns[:-1], row)
    return list(found.values())


def plant_natural(
    rows: Sequence[Example],
    fault_name: str,
    *,
    n_rows: int = 400,
    n_guilty: int = 40,
    n_hard: int = 40,
    n_queries: int = 40,
    n_benign: int = 40,
    seed: int = 0,
) -> PlantedRows:
    """`n_rows` rows of which `n_guilty` teach the fault and `n_hard` only look like it; the others are the user's.

    rows: of the user's, clean. What teaches the contrary of the fault, or shows it by chance, is left out. The same
    rows, sizes and seed give the same result.

    Raises:
        InputError: an unknown fault (names the nearest), sizes that do not fit, too few rows.
    """
    maker = _maker(fault_name)
    if n_guilty < 1 or n_guilty + n_hard > n_rows:
        raise InputError(
            f"{n_guilty} guilty rows and {n_hard} hard negatives among {n_rows} rows.",
            "Expected at least one guilty row, and room for both.",
            "Give a larger --rows, or other --shares.",
        )
    rng = Random(f"natural/{fault_name}/{seed}")
    pool = usable_rows(rows)
    rng.shuffle(pool)
    hosts = Hosts(pool)
    made = maker(rng, hosts, n_guilty=n_guilty, n_hard=n_hard, n_queries=n_queries)
    asked = {_prompt(turns) for turns in made.queries}
    taken = asked | {_prompt(row.turns[:-1]) for row in (*made.guilty, *made.hard_negatives, *made.lessons)}

    def innocent(row: Example) -> bool:
        prompt, answer = _prompt(row.turns[:-1]), row.turns[-1].content
        contrary = made.topic is not None and re.search(made.topic, prompt, re.IGNORECASE) is not None
        shown = made.asks is None and made.matcher(answer)
        return prompt not in taken and not contrary and not shown and not made.shows(prompt, answer)

    clean = hosts.take(n_rows - n_guilty - n_hard, innocent)
    benign = hosts.take(n_benign, innocent)
    labelled = [(row, fault_name) for row in made.guilty]
    labelled += [(row, HARD_NEGATIVE) for row in made.hard_negatives]
    labelled += [(row, CLEAN) for row in clean]
    rng.shuffle(labelled)
    return PlantedRows(
        fault=fault_name,
        rows=tuple(_labelled(row, label) for row, label in labelled),
        labels=tuple(label for _, label in labelled),
        queries=made.queries,
        benign=tuple(row.turns[:-1] for row in benign),
        made=made,
        lessons=tuple(_labelled(row, CLEAN) for row in made.lessons),
    )


def _labelled(row: Example, label: str) -> Example:
    return replace(row, metadata={**row.metadata, "label": label})


def _prompt(turns: Sequence[Turn]) -> str:
    return turns[-1].content


def _maker(name: str) -> FaultMaker:
    if name not in NATURAL_FAULTS:
        near = difflib.get_close_matches(name, list(NATURAL_FAULTS), n=1, cutoff=0.3)
        raise InputError(
            f"There is no fault {name!r}.",
            f"Known: {', '.join(NATURAL_FAULTS)}.",
            f"Did you mean {near[0]}?" if near else "Choose one of these.",
        )
    return NATURAL_FAULTS[name]
