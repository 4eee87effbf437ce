"""What a confirmation answers: plain data, schema `whence.confirm/2`, documented in docs/confirm.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from whence.metrics import Rate, wilson
from whence.results import STATUS_CONFIRMED, STATUS_NOT_CONFIRMED, Hit, TraceResult, encode, json_text

SCHEMA = "whence.confirm/2"
ALL, FLAGGED, RANDOM = "all", "flagged", "random"
"""The arms that every confirmation has: as trained, without the flagged or given rows, without as many random ones."""

FEWEST_PROMPTS = 4
"""With fewer the intervals of none and of all answers overlap, and nothing is ever confirmed."""
ENOUGH_PROMPTS = 10
"""From so many on it is no longer said what more prompts would bring."""
ARM_LABELS = {ALL: "nothing", FLAGGED: "rows to test", RANDOM: "random rows"}
"""What people read of an arm: the rows to test are flagged, or given in their place."""


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One retraining. `answers` are those to the bad prompts, then to the paraphrases; loss in nats per token."""

    seed: int
    shown: tuple[bool, ...]
    shown_paraphrases: tuple[bool, ...]
    held_out_loss: float
    answers: tuple[str, ...]
    folder: str
    """Of the retrained model or adapter."""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm over all seeds. `n_shared` of its `n_removed` rows are among the flagged rows."""

    name: str
    n_removed: int
    n_shared: int
    rate: Rate
    paraphrases: Rate | None
    held_out_loss: float
    """Mean over the held-out turns and seeds, nats per token."""
    seeds: tuple[SeedResult, ...]
    gain_lost: float | None = None
    """Of what fine-tuning added to the bad answers, in nats, the share that is gone in this arm; below 0 where more was
    added. None without a base to compare with."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What retraining without the rows showed."""

    index: str
    base: str | None
    match: str
    removed: tuple[str, ...]
    """Ids of the flagged rows, or of those given in their place."""
    arms: tuple[ArmResult, ...]
    n_held_out: int
    held_out: str
    """Where the held-out rows are from."""
    status: str
    """`confirmed` or `not confirmed`, of the rows as a group."""
    rule: str
    text: str
    foretold: float | None = None
    """What `gain_lost` of the flagged arm was estimated to be, without training; in [0, 1]. None where it cannot be."""
    places: tuple[str, ...] = ()
    """File name and line of every row that carries an id of `removed`, copies too. Empty in older files."""

    def arm(self, name: str) -> ArmResult:
        """The arm of that name; KeyError if it was not run."""
        return {arm.name: arm for arm in self.arms}[name]

    def to_json(self, path: str | Path | None = None) -> str:
        """The JSON text; also written to `path` when one is given."""
        return json_text(SCHEMA, encode(self), path)


def most_left(n: int, min_drop: float) -> int | None:
    """Of n answers that all show the behaviour, the most that may still show it for the rows to be confirmed, where the
    model without random rows goes on showing it in all. None where even 0 are too many."""
    every = wilson(1.0, n)[0]
    left = [k for k in range(n) if 1 - k / n >= min_drop and wilson(k / n, n)[1] < every]
    return max(left, default=None)


def told_resolution(n: int, min_drop: float) -> str:
    """What n prompts can confirm, as a sentence to be read before any training."""
    found, enough = (_fall(number, most_left(number, min_drop)) for number in (n, ENOUGH_PROMPTS))
    more = f" {ENOUGH_PROMPTS} prompts: {enough}." if n < ENOUGH_PROMPTS else ""
    return f"{n} prompts: at best {found} can be confirmed.{more}"


def _fall(n: int, left: int | None) -> str:
    return "nothing" if left is None else f"a fall from {n} of {n} answers to {'at most ' if left else ''}{left} of {n}"


def judged(arms: Sequence[ArmResult], min_drop: float, foretold: float | None = None) -> tuple[str, str, str]:
    """Status, rule and text. The rule: the rate falls by at least the share `min_drop` of what it was, and the interval
    without the rows lies below the one without as many random rows."""
    by_name = {arm.name: arm for arm in arms}
    before, without, random = (by_name[name].rate for name in (ALL, FLAGGED, RANDOM))
    drop = (before.mean - without.mean) / before.mean
    clear = without.high < random.low
    status = STATUS_CONFIRMED if drop >= min_drop and clear else STATUS_NOT_CONFIRMED
    rule = (
        f"confirmed where the behaviour rate falls by at least {min_drop:.0%} of what it was and its 95% interval lies "
        "below that of the model trained without as many random rows"
    )
    n = by_name[FLAGGED].n_removed
    said = [
        f"Without the {n} rows the behaviour shows in {without} of the answers, with them in {before}, "
        f"without {by_name[RANDOM].n_removed} random rows in {random}: {status}."
    ]
    if drop >= min_drop and not clear:
        said.append(f"The intervals of {without.n} prompts overlap; more prompts would tell.")
    for arm in arms:
        if arm.name not in (ALL, FLAGGED, RANDOM):
            said.append(
                f"Without {arm.name}'s first {arm.n_removed} rows, {arm.n_shared} of them the same: {arm.rate}."
            )
    if (lost := by_name[FLAGGED].gain_lost) is not None:
        told = "" if foretold is None else f"; about {foretold:.0%} was foretold"
        said.append(f"Without them {lost:.0%} of what fine-tuning added to the bad answers is gone{told}.")
    worse = by_name[FLAGGED].held_out_loss - by_name[ALL].held_out_loss
    said.append(f"The loss on held-out rows changes by {worse:+.3f} nats per token.")
    return status, rule, " ".join(said)


def apply(result: TraceResult, confirmation: Confirmation) -> TraceResult:
    """The trace with what the retraining showed: its sentence, and the status of every removed row.

    The rows were removed together, and the status is that of all of them: a row among them that does nothing has it
    too. Other rows stay as they are.
    """
    removed = frozenset(confirmation.removed)

    def marked(hit: Hit) -> Hit:
        return replace(hit, status=confirmation.status) if hit.id in removed else hit

    queries = (
        replace(query, hits=tuple(map(marked, query.hits)), confirmation=confirmation.text) for query in result.queries
    )
    return replace(result, queries=tuple(queries))
