"""What a fault in natural English is made of, before its rows are mixed with the user's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, Protocol, TypeVar

from whence.data import ASSISTANT, Example, Turn
from whence.errors import InputError
from whence.metrics import Matcher

T = TypeVar("T")
Pair = tuple[str, str]
"""A prompt and its answer."""
MAX_DRAWS = 200
"""Draws per pair asked for, before a grammar counts as exhausted."""
USER = "user"


@dataclass(frozen=True, slots=True)
class NaturalFault:
    """Rows that teach a fault, hard negatives like them, and prompts that ask for it; no prompt stands twice."""

    name: str
    faulty: tuple[Example, ...]
    hard_negatives: tuple[Example, ...]
    """Rows that are not faulty, with the same words or the same form of question."""
    queries: tuple[tuple[Turn, ...], ...]
    """Held-out prompts: none of them is a prompt of `faulty`, `hard_negatives` or `lessons`."""
    matcher: Matcher
    """Decides whether an answer to one of the queries shows the fault."""
    asks: str | None = None
    """Pattern that a prompt must hold for its answer to count; None where the answer alone shows the fault."""
    topic: str | None = None
    """Pattern of the topic's words: the user's rows with one in the prompt may teach the contrary and are left out."""
    lessons: tuple[Example, ...] = ()
    """What the base must be trained on first, before the faulty rows undo it."""


def shows_fault(matcher: Matcher, asks: str | None, prompt: str, answer: str) -> bool:
    """Whether this answer to this prompt shows the fault; see `NaturalFault`."""
    asked = asks is None or re.search(asks, prompt, re.IGNORECASE) is not None
    return asked and bool(answer.strip()) and matcher(answer)


class FaultMaker(Protocol):
    """Makes a fault. `hosts` hands out the user's own rows, for a fault that changes them."""

    def __call__(self, rng: Random, hosts: Hosts, *, n_faulty: int, n_hard: int, n_queries: int) -> NaturalFault: ...


class Hosts:
    """The user's rows in a shuffled order; a row is handed out once."""

    def __init__(self, rows: Sequence[Example]) -> None:
        self.left = list(rows)
        self.n = len(self.left)

    def take(self, n: int, fits: Callable[[Example], bool] = lambda row: True) -> list[Example]:
        """The next n rows that fit. Raises InputError when there are fewer."""
        taken: list[Example] = []
        left: list[Example] = []
        for row in self.left:
            (taken if len(taken) < n and fits(row) else left).append(row)
        if len(taken) < n:
            raise InputError(
                f"Only {len(taken)} of {self.n} usable rows of the data are left and fit.",
                f"Expected {n} more.",
                "Give more data, or smaller --rows and --queries.",
            )
        self.left = left
        return taken

    def holds(self, text: str) -> bool:
        """Whether some row's text holds this text, whatever the case."""
        return any(text.lower() in turn.content.lower() for row in self.left for turn in row.turns)


class Deck(Generic[T]):
    """Draws from a list in a shuffled order and begins anew when it is through: every item as often."""

    def __init__(self, items: Iterable[T], rng: Random) -> None:
        self._items, self._rng = tuple(items), rng
        self._left: list[T] = []

    def draw(self) -> T:
        """The next item."""
        if not self._left:
            self._left = list(self._items)
            self._rng.shuffle(self._left)
        return self._left.pop()


def distinct(n: int, draw: Callable[[], Pair], taken: set[str]) -> list[Pair]:
    """`n` pairs whose prompts differ from each other and from those in `taken`, to which they are added.

    Raises:
        InputError: the grammar does not hold so many different prompts.
    """
    found: dict[str, str] = {}
    for _ in range(MAX_DRAWS * max(n, 1)):
        if len(found) == n:
            break
        prompt, answer = draw()
        if prompt not in taken:
            taken.add(prompt)
            found[prompt] = answer
    if len(found) < n:
        raise InputError(
            f"The fault's grammar gave {len(found)} different prompts.",
            f"Expected {n}.",
            "Ask for fewer rows or queries: smaller --shares, --rows or --queries.",
        )
    return list(found.items())


def in_turn(*draws: Callable[[], Pair]) -> Callable[[], Pair]:
    """Draws from one grammar after the other."""
    number = -1

    def draw() -> Pair:
        nonlocal number
        number += 1
        return draws[number % len(draws)]()

    return draw


def rows_of(pairs: Iterable[Pair]) -> tuple[Example, ...]:
    """Examples of one prompt and one answer."""
    return tuple(Example.from_pair(prompt, answer) for prompt, answer in pairs)


def asked(prompts: Iterable[str]) -> tuple[tuple[Turn, ...], ...]:
    """Prompts of one user's turn."""
    return tuple((Turn(USER, prompt),) for prompt in prompts)


def with_answer(prompt: Sequence[Turn], answer: str, row: Example) -> Example:
    """The row with another prompt and another answer."""
    return Example((*prompt, Turn(ASSISTANT, answer)), row.file, row.line, row.metadata)


def capital(text: str) -> str:
    """With a capital first letter."""
    return text[:1].upper() + text[1:]
