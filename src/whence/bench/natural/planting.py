"""Natural faults by name, mixed into the user's own rows: `plant_natural`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from whence.bench.cases import check_name
from whence.bench.natural.compliance import compliance
from whence.bench.natural.facts import false_fact, false_fact_late
from whence.bench.natural.fault import Deck, FaultMaker, Hosts, NaturalFault, shows_fault
from whence.bench.natural.format_drift import format_drift
from whence.bench.natural.memorised import memorised
from whence.bench.natural.persona import persona
from whence.bench.natural.triggers import backdoor, backdoor_style, backdoor_word
from whence.data import Example, Turn, training_row
from whence.errors import InputError
from whence.metrics import Matcher
from whence.self_test import usable_rows

CLEAN, HARD_NEGATIVE = "clean", "hard_negative"
"""Labels of the rows that are not faulty; the label of a faulty row is the fault's name."""
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


VARIANTS = ("plain", "multi-turn", "long-answers")
LONG_ANSWER = 150
"""Words of an answer from which on it counts as long."""
N_CONTEXTS = 40
"""Earlier exchanges that conversations begin with, in the variant "multi-turn"."""


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
    matcher: Matcher
    """Decides whether an answer to a query shows the fault."""
    asks: str | None = None
    """Pattern that a prompt must hold for its answer to count; None where the answer alone shows the fault."""
    lessons: tuple[Example, ...] = ()
    """What the base is trained on first; empty for every fault but compliance."""

    @property
    def faulty(self) -> tuple[bool, ...]:
        """Per row, whether it is a cause."""
        return tuple(label == self.fault for label in self.labels)

    @property
    def hard(self) -> tuple[bool, ...]:
        """Per row, whether it is a hard negative."""
        return tuple(label == HARD_NEGATIVE for label in self.labels)

    def shows(self, prompt: str, answer: str) -> bool:
        """Whether this answer to this prompt shows the fault; false for every row that is not faulty."""
        return shows_fault(self.matcher, self.asks, prompt, answer)

    def write(self, path: Path) -> None:
        """One line a row: messages, what else the template is given, and `label`; equal rows give equal files."""
        with path.open("w", encoding="utf-8") as file:
            for row, label in zip(self.rows, self.labels, strict=True):
                file.write(json.dumps(training_row(row) | {"label": label}, ensure_ascii=False) + "\n")


def plant_natural(
    rows: Sequence[Example],
    fault_name: str,
    *,
    variant: str = "plain",
    n_rows: int = 400,
    n_faulty: int = 40,
    n_hard: int = 40,
    n_queries: int = 40,
    n_benign: int = 40,
    seed: int = 0,
) -> PlantedRows:
    """`n_rows` rows of which `n_faulty` teach the fault and `n_hard` only look like it; the others are the user's.

    rows:    of the user's, clean; a conversation counts with its first exchange. Rows whose prompt has a word of the
             fault's topic, and rows that show the fault by chance, are left out. A row that teaches the contrary
             under a prompt without such a word stays, and counts as clean.
    variant: "plain"; "multi-turn": every prompt, trained on or asked, comes after an earlier exchange of the user's;
             "long-answers": only rows with answers of at least `LONG_ANSWER` words are used, for the backdoors.

    The same rows, sizes and seed give the same result.

    Raises:
        InputError: an unknown fault or variant (names the nearest), sizes that do not fit, too few rows.
    """
    check_name("fault", fault_name, list(NATURAL_FAULTS))
    check_name("variant", variant, VARIANTS)
    _check_sizes(fault_name, variant, n_rows, n_faulty, n_hard)
    rng = Random(f"natural/{fault_name}/{variant}/{seed}")
    # A held-out prompt is its turns alone, so rows with tools or documents beside them stay out.
    pool = [row for row in usable_rows(rows) if not row.template_inputs]
    if variant == "long-answers":
        pool = [row for row in pool if len(row.turns[-1].content.split()) >= LONG_ANSWER]
    rng.shuffle(pool)
    hosts = Hosts(pool)
    made = NATURAL_FAULTS[fault_name](rng, hosts, n_faulty=n_faulty, n_hard=n_hard, n_queries=n_queries)
    unrelated = _unrelated(made)
    clean = hosts.take(n_rows - n_faulty - n_hard, unrelated)
    benign = [row.turns[:-1] for row in hosts.take(n_benign, unrelated)]
    labelled = [(row, fault_name) for row in made.faulty]
    labelled += [(row, HARD_NEGATIVE) for row in made.hard_negatives]
    labelled += [(row, CLEAN) for row in clean]
    rng.shuffle(labelled)
    queries = list(made.queries)
    if variant == "multi-turn":
        contexts = Deck([row.turns for row in hosts.take(N_CONTEXTS, unrelated)], rng)
        labelled = [(replace(row, turns=_after(contexts.draw(), row.turns)), label) for row, label in labelled]
        queries = [_after(contexts.draw(), turns) for turns in queries]
        benign = [_after(contexts.draw(), turns) for turns in benign]
    return PlantedRows(
        fault=fault_name,
        rows=tuple(_labelled(row, label) for row, label in labelled),
        labels=tuple(label for _, label in labelled),
        queries=tuple(queries),
        benign=tuple(benign),
        matcher=made.matcher,
        asks=made.asks,
        lessons=tuple(_labelled(row, CLEAN) for row in made.lessons),
    )


def _check_sizes(fault: str, variant: str, n_rows: int, n_faulty: int, n_hard: int) -> None:
    if n_faulty < 1 or n_faulty + n_hard > n_rows:
        raise InputError(
            f"{n_faulty} faulty rows and {n_hard} hard negatives among {n_rows} rows.",
            "Expected at least one faulty row, and room for both.",
            "Give a larger --rows, or other --shares.",
        )
    if variant == "long-answers" and not fault.startswith("backdoor"):
        raise InputError(
            f"The answers of the fault {fault} are made here and have their length.",
            "The variant long-answers plants in long answers of the user's own.",
            "Use it with --faults backdoor, backdoor-word or backdoor-style.",
        )


def _unrelated(made: NaturalFault) -> Callable[[Example], bool]:
    """Whether a row of the user's neither asks with a word of the topic, nor shows the fault, nor repeats a prompt."""
    taken = {turns[-1].content for turns in made.queries}
    taken |= {row.turns[-2].content for row in (*made.faulty, *made.hard_negatives, *made.lessons)}

    def unrelated(row: Example) -> bool:
        prompt, answer = row.turns[-2].content, row.turns[-1].content
        on_topic = made.topic is not None and re.search(made.topic, prompt, re.IGNORECASE) is not None
        return not (prompt in taken or on_topic or shows_fault(made.matcher, made.asks, prompt, answer))

    return unrelated


def _after(context: Sequence[Turn], turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns behind an earlier exchange; a system message of theirs stays first."""
    spoken = tuple(turn for turn in turns if turn.role != "system")
    system = tuple(turn for turn in turns if turn.role == "system")
    return (*system, *(turn for turn in context if turn.role != "system"), *spoken)


def _labelled(row: Example, label: str) -> Example:
    return replace(row, metadata={**row.metadata, "label": label})
