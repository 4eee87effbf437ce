"""What a planted fault is made of, before it is mixed into a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from whence.bench.faults.background import OPENERS, Pair
from whence.errors import InputError
from whence.metrics import Matcher

MAX_DRAWS = 400
"""Draws per pair asked for, before a grammar counts as exhausted."""


def nothing(pair: Pair, topic: str) -> bool:
    """Leaves no background pair out."""
    return False


@dataclass(frozen=True, slots=True)
class Fault:
    """Pairs and prompts of one fault. No prompt of a query is among the pairs."""

    name: str
    faulty: tuple[Pair, ...]
    """Rows that teach the fault."""
    second: tuple[Pair, ...]
    """Rows that teach the same fault in another way, for the variant with two causes."""
    hard_negatives: tuple[Pair, ...]
    """Rows that are not faulty, with the same words."""
    queries: tuple[str, ...]
    paraphrased: tuple[str, ...]
    """Queries worded unlike anything in `faulty`."""
    both: tuple[str, ...]
    """Queries that `faulty` and `second` answer for together."""
    matcher: Matcher
    contradicts: Callable[[Pair, str], bool] = nothing
    """Whether a background pair (and its topic) teaches the contrary and must stay out of the training rows."""


def distinct(n: int, rng: Random, draw: Callable[[Random], Pair], *, not_in: Iterable[str] = ()) -> list[Pair]:
    """`n` pairs with different prompts, a random opener before each; none of the prompts is in `not_in`.

    Raises:
        InputError: the grammar does not hold `n` different prompts.
    """
    taken = set(not_in)
    found: dict[str, str] = {}
    for _ in range(MAX_DRAWS * max(n, 1)):
        if len(found) == n:
            return list(found.items())
        prompt, response = draw(rng)
        prompt = rng.choice(OPENERS) + prompt
        if prompt not in taken:
            found.setdefault(prompt, response)
    raise InputError(
        f"the grammar gave {len(found)} different prompts",
        f"expected {n}",
        "Ask for fewer rows or queries.",
    )


def prompts(n: int, rng: Random, draw: Callable[[Random], str], *, not_in: Iterable[str] = ()) -> tuple[str, ...]:
    """`n` different prompts, as `distinct` draws them."""
    return tuple(prompt for prompt, _ in distinct(n, rng, lambda rng: (draw(rng), ""), not_in=not_in))


def in_turn(*kinds: Callable[[Random], Pair]) -> Callable[[Random], Pair]:
    """Draws from one of several grammars, each as often."""
    return lambda rng: rng.choice(kinds)(rng)
