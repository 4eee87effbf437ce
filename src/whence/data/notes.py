"""What is said on screen about the rows that were read: turns without a signature, columns without use."""

from __future__ import annotations

from collections import Counter

from whence.data.columns import PREFERENCE, TRAINER_COLUMNS
from whence.data.examples import ASSISTANT, PART_MASK, Example, Turn
from whence.data.shape import Shape

NUMBERS = frozenset({"0", "1"})
"""A label of these numbers alone may say true and false."""


class Notes:
    """Counts over the rows of a scan; of constant size."""

    def __init__(self) -> None:
        self.n_left_out = 0
        self._left_out: Counter[str] = Counter()
        self._turns: Counter[str] = Counter()
        self._unused: dict[str, None] = {}
        self._responses: dict[str, None] = {}
        self._said: list[str] = []
        self._in_prompt = False
        self._label: str | None = None
        self._labelled: str | None = None
        self._labels: set[str] = set()

    def say(self, clause: str) -> None:
        """A clause of its own, such as which files were chosen."""
        self._said.append(clause)

    def take_shape(self, shape: Shape) -> None:
        """A file's columns."""
        self._in_prompt = shape.prompt is not None or shape.rejected is not None
        self._label = None if shape.names_label else shape.label
        self._labelled = self._label or self._labelled
        if shape.main.strip().casefold() in PREFERENCE[1]:
            self._responses[shape.main] = None

    def take(self, example: Example) -> None:
        """A usable row."""
        self._turns.update(
            reason
            for place, turn in enumerate(example.turns)
            if (reason := self._no_signature(place, turn)) is not None
        )
        if self._label is not None and len(self._labels) <= len(NUMBERS):
            value = example.metadata.get(self._label)
            self._labels.add(
                "" if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
            )
        for name, value in example.metadata.items():
            if value not in (None, "", []) and name.strip().casefold() in TRAINER_COLUMNS:
                self._unused[name] = None

    def leave_out(self, reason: str) -> None:
        """A row that was not trained on."""
        self.n_left_out += 1
        self._left_out[reason] += 1

    def clauses(self) -> tuple[str, ...]:
        """One clause a fact, in a fixed order."""
        said = [*self._said]
        said += [f"the response is column {name!r}" for name in self._responses]
        if self._unused:
            listed = ", ".join(map(repr, self._unused))
            said.append(f"not used, kept as metadata: column{'s' * (len(self._unused) > 1)} {listed}")
        if "0" in self._labels and self._labels <= NUMBERS:
            said.append(
                f"column {self._labelled!r} holds 0 and 1, and all rows are read: where 0 marks an answer that "
                f"training led away from, --columns label={self._labelled} leaves it out"
            )
        said += [f"{_counted(n, 'row')} left out ({reason})" for reason, n in sorted(self._left_out.items())]
        said += [
            f"{_counted(n, 'assistant turn')} without a signature ({reason})"
            for reason, n in sorted(self._turns.items())
        ]
        return tuple(said)

    def _no_signature(self, place: int, turn: Turn) -> str | None:
        """Why an assistant turn gives no signature (see `answer_places`)."""
        if turn.role != ASSISTANT:
            return None
        if turn.is_masked and self._in_prompt:
            return "in a prompt, or marked as not trained on"
        if turn.is_masked:
            part = f" in part: {PART_MASK}" if turn.extra.get(PART_MASK) else " by weight, train or loss"
            return f"marked as not trained on{part}; --columns marks= reads them"
        if not turn.has_answer:
            return "empty"
        return None if place else "first of its conversation, no prompt"


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"
