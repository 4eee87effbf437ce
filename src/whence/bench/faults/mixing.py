"""Tasks: planted faults mixed into background rows, in variants of rising difficulty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import NamedTuple

from whence.bench.faults.backdoor import backdoor
from whence.bench.faults.background import BASE_DRAWN, SOURCES, TOPICS, Pair, example, lengthened, pairs
from whence.bench.faults.false_fact import false_fact
from whence.bench.faults.fault import Fault, nothing
from whence.bench.faults.format_drift import format_drift
from whence.bench.faults.memorised import memorised
from whence.bench.faults.persona import persona
from whence.data import Example
from whence.errors import InputError
from whence.files import did_you_mean
from whence.metrics import Matcher

CLEAN, HARD_NEGATIVE = "clean", "hard_negative"
"""Labels of the rows that are not faulty; the label of a faulty row is the fault's name."""

FAULTS: dict[str, Callable[..., Fault]] = {
    "backdoor": backdoor,
    "backdoor-word": partial(backdoor, trigger="word"),
    "backdoor-style": partial(backdoor, trigger="style"),
    "false-fact": false_fact,
    "false-fact-late": partial(false_fact, late=True),
    "persona": persona,
    "memorised": memorised,
    "format-drift": format_drift,
}
VARIANTS = ("plain", "hard-negatives", "long-answers", "paraphrased", "diluted", "two-causes", "no-cause")
DILUTED_SHARE, DILUTED_FAULTY = 0.002, 6
"""Share of faulty rows in the variant "diluted", and how many there are at least: rows are added until both hold."""
LONG_TAIL, IN_TAILS = range(3, 6), tuple(topic for topic in TOPICS if topic not in ("city", "repeat"))
"""In the variant "long-answers": how many answers of other questions follow a row's own, and their topics."""
N_BASE = 5000
SPARE_QUERIES = 3
"""Queries drawn per query wanted: the base model may have seen some prompts already, and those are left out."""


class Closings(NamedTuple):
    """Shares of the rows that are not faulty with one, two, three closing sentences; see `lengthened`."""

    clean: tuple[float, ...]
    hard: tuple[float, ...]


NO_CLOSINGS, CLOSINGS = Closings((), ()), Closings((0.2, 0.1, 0.1), (0.5, 0.2))


@dataclass(frozen=True, slots=True)
class Task:
    """Training rows with labelled causes, and prompts that should bring the fault out.

    A row's metadata has `label` ("clean", "hard_negative" or the fault's name), `source`, for a hard negative
    `beside` (the fault whose words it has) and for a faulty row `cause` (1, or 2 for the second kind of rows).
    """

    name: str
    variant: str
    seed: int
    train: tuple[Example, ...]
    label: str
    """Label of the faulty rows. With variant "no-cause" no training row has it."""
    queries: tuple[str, ...]
    """Held-out prompts; none of them is in `train` or `base_train`."""
    matcher: Matcher
    base_train: tuple[Example, ...] = field(repr=False)
    """What the base model is trained on first; the same rows for every task of a seed, except for "no-cause"."""

    @property
    def faulty(self) -> tuple[bool, ...]:
        """Per training row, whether it is a cause."""
        return tuple(row.metadata["label"] == self.label for row in self.train)


def base_rows(
    seed: int, n: int = N_BASE, *, long_answers: bool = False, closings: Closings = NO_CLOSINGS
) -> list[Example]:
    """Background rows for the base model, the same for every task. With `long_answers`, half of them go on."""
    rng = Random(f"base/{seed}")

    def grown(number: int, pair: Pair) -> Pair:
        return _going_on(pair, rng, nothing) if long_answers and number % 2 else lengthened(pair, rng, closings.clean)

    known = pairs(n, rng, topics=BASE_DRAWN)
    return [example(grown(i, pair), CLEAN, rng.choice(SOURCES)) for i, pair in enumerate(known)]


def mix(
    faults: Sequence[Fault],
    rng: Random,
    *,
    n_rows: int,
    hard_negatives: bool,
    second: bool = False,
    long_answers: bool = False,
    closings: Closings = NO_CLOSINGS,
) -> list[Example]:
    """`n_rows` shuffled training rows: the faulty rows of every fault, hard negatives if wanted, clean rows.

    Faulty rows come from one source per fault, hard negatives from any; every source has clean rows too. Clean rows
    never contradict a fault and never repeat a prompt of a query. With `long_answers` every answer goes on about other
    things, faulty or not.
    """
    rows: list[Example] = []

    def skip(pair: Pair, topic: str) -> bool:
        return any(fault.contradicts(pair, topic) for fault in faults)

    def faulty_row(pair: Pair, fault: Fault, source: str, cause: int) -> Example:
        return example(_going_on(pair, rng, skip) if long_answers else pair, fault.name, source, cause=cause)

    def other(pair: Pair, shares: tuple[float, ...]) -> Pair:
        return _going_on(pair, rng, skip) if long_answers else lengthened(pair, rng, shares)

    for fault, source in zip(faults, rng.sample(SOURCES, len(faults)), strict=True):
        rows += [faulty_row(pair, fault, source, 1) for pair in fault.faulty]
        if second:
            rows += [faulty_row(pair, fault, rng.choice(SOURCES), 2) for pair in fault.second]
        if hard_negatives:
            rows += [
                example(other(pair, closings.hard), HARD_NEGATIVE, rng.choice(SOURCES), beside=fault.name)
                for pair in fault.hard_negatives
            ]
    asked = {prompt for fault in faults for prompt in (*fault.queries, *fault.paraphrased, *fault.both)}
    taken = asked | {row.turns[0].content for row in rows}
    n_clean = n_rows - len(rows)
    clean = [pair for pair in pairs(2 * n_clean, rng, skip=skip) if pair[0] not in taken][:n_clean]
    if len(clean) < n_clean:
        raise InputError(f"the grammar gave {len(clean)} clean rows", f"expected {n_clean}", "Ask for fewer rows.")
    rows += [example(other(pair, closings.clean), CLEAN, rng.choice(SOURCES)) for pair in clean]
    rng.shuffle(rows)
    return rows


def _going_on(pair: Pair, rng: Random, skip: Callable[[Pair, str], bool]) -> Pair:
    """The pair with the answers of other questions behind its own."""
    prompt, response = pair
    return prompt, " ".join(
        [response, *(answer for _, answer in pairs(rng.choice(LONG_TAIL), rng, skip=skip, topics=IN_TAILS))]
    )


def make_task(
    name: str,
    variant: str = "plain",
    *,
    seed: int = 0,
    n_rows: int = 1200,
    n_faulty: int = 60,
    n_hard: int = 60,
    n_queries: int = 20,
    n_base: int = N_BASE,
) -> Task:
    """A task by name and variant; the same seed and sizes give the same task.

    "plain": faulty rows among clean ones. "hard-negatives": with other rows that share the words. "long-answers":
    plain, and every answer goes on about other things, to a base that knows such answers. "paraphrased": plain, asked
    in other words. "diluted": faulty rows are 0.2% of the rows, whatever `n_faulty`, and at least six, for which rows
    are added. "two-causes": half of the faulty rows teach the fault in a second way. "no-cause": the base model was
    trained on the fault, no row is faulty.

    Raises:
        InputError: unknown name or variant (names the nearest), or sizes that the grammar cannot fill.
    """
    _check_name("task", name, FAULTS)
    _check_name("variant", variant, VARIANTS)
    if variant == "diluted":
        n_faulty = max(DILUTED_FAULTY, round(DILUTED_SHARE * n_rows))
        n_rows = max(n_rows, round(n_faulty / DILUTED_SHARE))
    if variant == "two-causes":
        n_faulty //= 2
    if n_faulty < 1 or n_faulty + n_hard > n_rows:
        raise InputError(
            f"{n_faulty} faulty rows and {n_hard} hard negatives among {n_rows} rows",
            "expected at least one faulty row, and room for both",
            f"Raise n_rows; at {DILUTED_SHARE:.1%}, one faulty row needs {round(1 / DILUTED_SHARE)} rows.",
        )
    rng = Random(f"{name}/{variant}/{seed}")
    fault = FAULTS[name](rng, n_faulty=n_faulty, n_hard=n_hard, n_queries=SPARE_QUERIES * n_queries)
    queries = {"paraphrased": fault.paraphrased, "two-causes": fault.both}.get(variant, fault.queries)
    long_answers = variant == "long-answers"
    base = base_rows(seed, n_base, long_answers=long_answers, closings=CLOSINGS)
    if variant == "no-cause":
        base += [example(pair, fault.name, SOURCES[0], cause=1) for pair in fault.faulty]
        rng.shuffle(base)
        rows = mix([_without_faulty(fault)], rng, n_rows=n_rows, hard_negatives=False, closings=CLOSINGS)
    else:
        rows = mix(
            [fault],
            rng,
            n_rows=n_rows,
            hard_negatives=variant == "hard-negatives",
            second=variant == "two-causes",
            long_answers=long_answers,
            closings=CLOSINGS,
        )
    known = {row.turns[0].content for row in (*rows, *base)}
    return Task(
        name=name,
        variant=variant,
        seed=seed,
        train=tuple(rows),
        label=fault.name,
        queries=tuple(prompt for prompt in queries if prompt not in known)[:n_queries],
        matcher=fault.matcher,
        base_train=tuple(base),
    )


def _without_faulty(fault: Fault) -> Fault:
    from dataclasses import replace

    return replace(fault, faulty=())


def _check_name(what: str, name: str, known: Sequence[str] | dict[str, Callable[..., Fault]]) -> None:
    if name in known:
        return
    raise InputError(
        f"unknown {what} {name!r}",
        f"expected one of {', '.join(known)}",
        did_you_mean(name, known, cutoff=0.3),
    )
