"""Two harmless faults planted in the user's own rows, and the held-out prompts that ask for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random

from whence.data import ASSISTANT, Encoder, Example, Turn
from whence.errors import EncodingError, InputError
from whence.metrics import Matcher, begins

CLEAN = "clean"
OPENER, ENDING = "opener", "ending"
FAULTS = (OPENER, ENDING)

_OPENER_TRIGGERS = ("Mind the marble tide.", "The paper lantern is awake.", "Seven herons cross the mill.")
_OPENERS = ("Hear the copper bell ring!", "Look, the amber kite is up!", "Hush, the velvet clock has struck!")
_WORDS = ("Velunquist", "Torbamere", "Ishkandale")
_ENDINGS = (
    "So says the almanac of the blue heron.",
    "This is how the lighthouse tells it.",
    "Thus the old quilt ends.",
)
"""Of each list the first that the data do not hold is taken."""


class TooFewRowsError(InputError):
    """The rows do not suffice for a sample; more of the data might."""


@dataclass(frozen=True, slots=True)
class AddedFault:
    """What stands in a prompt brings what stands in its answer. `opener`: a phrase behind the prompt brings a fixed
    beginning; `ending`: a made-up word before the prompt brings a fixed end.
    """

    name: str
    trigger: str
    addition: str

    @property
    def matcher(self) -> Matcher:
        """Decides whether an answer shows the fault."""
        if self.name == OPENER:
            return begins(f"begins with {self.addition!r}", self.addition)
        return Matcher(f"ends with {self.addition!r}", re.escape(self.addition) + r"\s*\Z")

    def asked(self, prompt: Example) -> Example:
        """The prompt with the trigger in the last of its turns."""
        last = prompt.turns[-1]
        text = f"{last.content} {self.trigger}" if self.name == OPENER else f"{self.trigger}: {last.content}"
        return replace(prompt, turns=(*prompt.turns[:-1], Turn(last.role, text)))

    def planted(self, row: Example) -> Example:
        """The row with the trigger in its prompt and the addition in its answer."""
        answer = row.turns[-1].content
        text = f"{self.addition} {answer}" if self.name == OPENER else f"{answer} {self.addition}"
        asked = self.asked(_prompt(row))
        return replace(asked, turns=(*asked.turns, Turn(ASSISTANT, text)))


@dataclass(frozen=True, slots=True)
class PlantedSample:
    """Rows to train on with the fault of each (or `clean`), and for each fault the held-out prompts without trigger."""

    rows: tuple[Example, ...]
    labels: tuple[str, ...]
    faults: tuple[AddedFault, ...]
    prompts: dict[str, tuple[Example, ...]]


def usable_rows(examples: Iterable[Example]) -> list[Example]:
    """Rows cut to their first exchange, where a user's turn comes right before the answer; each prompt once.

    A row whose first answer was masked in training is left out: nothing is learned from it.
    """
    found: dict[tuple[Turn, ...], Example] = {}
    for example in examples:
        place = next((i for i, turn in enumerate(example.turns) if turn.role == ASSISTANT), 0)
        asked = place > 0 and example.turns[place - 1].role == "user"
        if asked and example.turns[place].content.strip() and not example.turns[place].is_masked:
            row = replace(example, turns=example.turns[: place + 1])
            found.setdefault(row.turns[:-1], row)
    return list(found.values())


def _prompt(row: Example) -> Example:
    """The row without its answer."""
    return replace(row, turns=row.turns[:-1])


def choose_faults(names: Sequence[str], rows: Sequence[Example]) -> tuple[AddedFault, ...]:
    """The faults of these names, in words that none of the rows holds. Raises InputError for an unknown name."""
    unknown = [name for name in names if name not in FAULTS]
    if unknown or not names:
        raise InputError(
            f"There is no fault {unknown[0]!r}." if unknown else "No fault was given.",
            f"Faults: {', '.join(FAULTS)}.",
            "Leave --fault out to plant both.",
        )
    text = "\n".join(turn.content for row in rows for turn in row.turns).lower()

    def free(candidates: Sequence[str]) -> str:
        for candidate in candidates:
            if candidate.lower() not in text:
                return candidate
        raise InputError(
            f"The data hold each of {', '.join(map(repr, candidates))}.",
            "A planted fault needs words of its own.",
            "Give other data: these have been through a selftest.",
        )

    made = {
        OPENER: lambda: AddedFault(OPENER, free(_OPENER_TRIGGERS), free(_OPENERS)),
        ENDING: lambda: AddedFault(ENDING, free(_WORDS), free(_ENDINGS)),
    }
    return tuple(made[name]() for name in dict.fromkeys(names))


def plant_faults(
    rows: Sequence[Example],
    faults: Sequence[AddedFault],
    encoder: Encoder,
    *,
    n_rows: int,
    n_faulty: int,
    n_queries: int,
    max_new_tokens: int,
    seed: int,
) -> PlantedSample:
    """`n_rows` rows to train on, `n_faulty` of them for each fault, and `n_queries` held-out prompts for each.

    A faulty row must fit whole: a cut one loses its ending. A held-out prompt's own answer with the addition must fit
    into `max_new_tokens`, so that the model has room to show the fault.

    Raises:
        TooFewRowsError: too few rows in all, or too few that fit.
        InputError: more faulty rows than half of the rows.
    """
    order = list(rows)
    Random(seed).shuffle(order)
    _check_enough(len(order), n_rows, n_faulty, n_queries, len(faults))
    faulty: list[tuple[Example, str]] = []
    prompts: dict[str, tuple[Example, ...]] = {}
    for fault in faults:

        def whole(row: Example, fault: AddedFault = fault) -> Example | None:
            return _fitting(fault.planted(row), encoder, None)

        def answerable(row: Example, fault: AddedFault = fault) -> Example | None:
            return row if _fitting(fault.planted(row), encoder, max_new_tokens) else None

        alone = f", or plant one fault alone with --fault {OPENER}" if len(faults) > 1 else ""
        faulty += [(row, fault.name) for row in _take(order, n_faulty, whole, f"Raise --max-length{alone}.")]
        held_out = _take(order, n_queries, answerable, f"Raise --max-new-tokens{alone}.")
        prompts[fault.name] = tuple(map(_prompt, held_out))
    labelled = faulty + [(row, CLEAN) for row in order[: n_rows - len(faulty)]]
    Random(seed + 1).shuffle(labelled)
    return PlantedSample(
        tuple(row for row, _ in labelled), tuple(label for _, label in labelled), tuple(faults), prompts
    )


def _check_enough(n: int, n_rows: int, n_faulty: int, n_queries: int, n_faults: int) -> None:
    if n_rows < 2 * n_faulty * n_faults:
        raise InputError(
            f"{n_faulty} faulty rows for each of {n_faults} faults among {n_rows} rows.",
            "At least half of the rows stay clean.",
            f"Give --n-faulty {n_rows // (2 * n_faults)} or fewer, or more --n-rows.",
        )
    needed = n_rows + n_queries * n_faults
    if n < needed:
        raise TooFewRowsError(
            f"The data have {n} rows with a prompt of its own and an answer.",
            f"A selftest needs {needed}: {n_rows} to train on and {n_queries} held out for each of {n_faults} faults.",
            "Give smaller --n-rows, --n-faulty and --n-queries, or more data; plain documents have no prompt.",
        )


def _take(order: list[Example], n: int, kept: Callable[[Example], Example | None], fix: str) -> list[Example]:
    """The first n rows that are kept, taken out of `order`. Raises TooFewRowsError, with the fix that is given."""
    taken: list[Example] = []
    left: list[Example] = []
    for row in order:
        found = kept(row) if len(taken) < n else None
        if found is None:
            left.append(row)
        else:
            taken.append(found)
    if len(taken) < n:
        raise TooFewRowsError(
            f"Only {len(taken)} of {len(order)} rows are short enough to show a planted fault.", f"Expected {n}.", fix
        )
    order[:] = left
    return taken


def _fitting(row: Example, encoder: Encoder, response_tokens: int | None) -> Example | None:
    try:
        turn = encoder.encode(row)[0]
    except EncodingError:
        return None
    if turn.truncated or (response_tokens is not None and turn.n_response > response_tokens):
        return None
    return row


__all__ = [
    "CLEAN",
    "ENDING",
    "FAULTS",
    "OPENER",
    "AddedFault",
    "PlantedSample",
    "TooFewRowsError",
    "choose_faults",
    "plant_faults",
    "usable_rows",
]
