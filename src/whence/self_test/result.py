"""What a selftest says: plain data and the rule of its verdict, schema `whence.selftest/2` (docs/selftest.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whence.metrics import Rate
from whence.results import encode, json_text

SCHEMA = "whence.selftest/2"
WORKS, WORKS_WITH, FAILS = "works", "works with", "does not work"
MIN_RATE = 0.5
"""Share of the held-out prompts with the trigger whose answers must show the fault."""
MIN_AP = 0.8
"""Average precision from which on tracing works: of the first rows about four in five are faulty ones."""
LEAKS = 0.5
"""Share of the rate with the trigger from which on the rate without it means that the fault is everywhere."""
MANY_TRUNCATED = 0.1


@dataclass(frozen=True, slots=True)
class MethodResult:
    """How well a method at a layer finds a fault's rows; means over the queries, 95% bootstrap intervals over them."""

    method: str
    layer: str
    """The layer read, "dm:5,h:8,eh:8" for several; empty for a method of text."""
    flag: str
    """What makes `whence trace` do so; empty for the default, and for a comparison that an index does not serve."""
    ap: float
    ap_low: float
    ap_high: float
    precision: float
    """At k."""


@dataclass(frozen=True, slots=True)
class FlaggedShares:
    """Means over the default method's verdicts that could be calibrated."""

    recall: float
    """Share of the faulty rows that are flagged."""
    false_discovery_rate: float | None
    """Share of the flagged rows that are not faulty, over the verdicts that flag some; None where none does."""


@dataclass(frozen=True, slots=True)
class FaultResult:
    """One planted fault: was it learned, and are its rows found?"""

    name: str
    trigger: str
    addition: str
    n_faulty: int
    with_trigger: Rate
    without_trigger: Rate
    methods: tuple[MethodResult, ...]
    """The default method first; empty where no answer shows the fault."""
    flagged: FlaggedShares | None
    """None where no answer shows the fault, or nothing could be calibrated."""

    @property
    def n_shown(self) -> int:
        """Held-out prompts with the trigger whose answers show the fault: the queries."""
        return round(self.with_trigger.mean * self.with_trigger.n)

    @property
    def learned(self) -> bool:
        """Whether the model shows the fault often enough to ask for its rows."""
        return self.with_trigger.mean >= MIN_RATE and bool(self.methods)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Whether tracing works with this model, template and layer, and what to change if not."""

    model: str
    base: str | None
    data: str
    n_rows: int
    n_queries: int
    k: int
    """Rows of precision at k: as many as a fault has faulty rows."""
    template: str
    """Where it came from: given, tokenizer or fallback."""
    truncated: float
    """Share of the rows that --max-length cuts."""
    layer: int
    """The layer rule's."""
    layer_reason: str
    first_loss: float
    last_loss: float
    """Of the fine-tune's first and last step, nats per token."""
    faults: tuple[FaultResult, ...]
    status: str
    text: str
    changes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def works(self) -> bool:
        """Whether it works, as it is or with what `text` names."""
        return self.status != FAILS

    def to_json(self, path: str | Path | None = None) -> str:
        """The JSON text; also written to `path` when one is given."""
        return json_text(SCHEMA, encode(self), path)


def judged(faults: Sequence[FaultResult], min_ap: float = MIN_AP) -> tuple[str, str, tuple[str, ...]]:
    """Status, verdict line, and what to change. It works where every planted fault was learned and its rows are found.

    Found: average precision of at least `min_ap`, by the default method; else by it at one layer alone, or by another
    method of the index, the same for every fault.
    """
    missed = [fault for fault in faults if not fault.learned]
    if missed:
        shares = ", ".join(f"{fault.name} in {fault.with_trigger.mean:.0%} of answers" for fault in missed)
        what = "the fault was" if len(missed) == 1 else "the faults were"
        return (
            FAILS,
            f"does not work: {what} not learned ({shares}; expected {MIN_RATE:.0%})",
            (
                "raise --epochs or --learning-rate",
                "plant more rows: --n-faulty",
                "a larger adapter: --lora-r",
            ),
        )
    least = min(fault.methods[0].ap for fault in faults)
    if least >= min_ap:
        return WORKS, f"works (average precision {least:.2f} at least)", ()
    tried = [(min(_ap(fault, other) for fault in faults), other.flag) for other in faults[0].methods if other.flag]
    best, flag = max(tried, key=lambda one: one[0], default=(0.0, ""))
    if best >= min_ap:
        text = f"works with {flag} (average precision {best:.2f}; {least:.2f} as it is by default)"
        return WORKS_WITH, text, (_advice(flag),)
    figures = f"average precision {least:.2f}, at best {max(least, best):.2f}"
    text = f"does not work: the fault was learned, but its rows are not found ({figures})"
    return (
        FAILS,
        text,
        (
            "try other layers: --layer",
            "check the chat template: --template",
            "see whether a less overfitted model is traced better: fewer --epochs",
        ),
    )


def warnings_of(faults: Sequence[FaultResult], template: str, truncated: float) -> tuple[str, ...]:
    """What may be wrong although it works, each with what to change."""
    found = []
    if template == "fallback":
        found.append(
            "the tokenizer has no chat template; a plain one is used: give the one of training with --template"
        )
    if truncated > MANY_TRUNCATED:
        found.append(f"{truncated:.0%} of the rows are cut: raise --max-length")
    for fault in faults:
        if fault.learned and fault.without_trigger.mean >= LEAKS * fault.with_trigger.mean:
            share = fault.without_trigger.mean
            found.append(f"{fault.name} shows without its trigger too ({share:.0%} of answers): lower --epochs")
    return tuple(found)


def _advice(flag: str) -> str:
    if flag.startswith("--span"):
        return 'name the wrong words: --span "..." to `whence trace`; the answer as a whole does not show its cause'
    built = f"; `whence index` needs {flag} too" if flag.startswith("--layer") else ""
    return f"give {flag} to `whence trace`{built}"


def _ap(fault: FaultResult, method: MethodResult) -> float:
    """The same method's average precision on this fault."""
    return next(m.ap for m in fault.methods if (m.method, m.flag) == (method.method, method.flag))


__all__ = [
    "FAILS",
    "MIN_AP",
    "WORKS",
    "WORKS_WITH",
    "FaultResult",
    "FlaggedShares",
    "MethodResult",
    "SelfTest",
    "judged",
    "warnings_of",
]
