"""What an audit answers: many bad outputs, the groups that share a cause, and the rows to look at first. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from whence.data import Json
from whence.results.types import STATUS_CANDIDATE, QueryResult

CAUSE: Final = "cause"
NO_CAUSE: Final = "no cause"
NO_VERDICT: Final = "no verdict"
"""Of an output: rows are flagged for it, none is, or nothing could be calibrated."""


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """One output of the log. Equal ones are one, and `count` says how many they were."""

    prompt: str
    response: str
    outcome: Literal["cause", "no cause", "no verdict"]
    text: str
    """The verdict of this output alone, as `whence trace` says it."""
    count: int = 1
    generated: bool = False
    """The response is the model's own, made for this audit."""
    p_value: float | None = None
    """Chance of such an answer and such rows without a cause; None without a verdict."""
    q_value: float | None = None
    """The least false discovery rate over all outputs at which this one has a cause."""
    gain: float | None = None
    """Log-likelihood gain of the response, nats."""
    n_flagged: int = 0
    """Rows flagged for it, near-duplicates counted once."""
    group: int | None = None
    """Number of its group, from 1; None without a cause."""
    messages: tuple[Mapping[str, Json], ...] = ()
    """The whole prompt, where it is more than one text."""
    metadata: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContrastPhrase:
    """A phrase that is commoner in a group's rows than in all others, each near-duplicate counted once."""

    text: str
    part: Literal["prompt", "response"]
    place: Literal["start", "end", "anywhere"]
    n_rows: int
    """Of the group's rows, those that have it."""
    n_read: int
    n_elsewhere: int
    """Of all other rows, those that have it."""
    n_others: int
    p_value: float
    """Hypergeometric, times the number of phrases that were looked at."""

    @property
    def lift(self) -> float:
        """Share of the group's rows over the share elsewhere, which counts as at least half a row."""
        return (self.n_rows / self.n_read) / (max(self.n_elsewhere, 0.5) / max(self.n_others, 1))

    @property
    def share_elsewhere(self) -> float:
        """Share of all other rows that have it."""
        return self.n_elsewhere / max(self.n_others, 1)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A row that is flagged for outputs of one group, with its near-duplicates."""

    id: str
    file: str
    line: int
    prompt: str
    response: str
    n_outputs: int
    """Outputs of the group that it is flagged for."""
    score: float
    """The highest that one of them gives it."""
    metadata: Mapping[str, Json] = field(default_factory=dict)
    status: str = STATUS_CANDIDATE
    copies: tuple[str, ...] = ()
    """Ids of its near-duplicates that are flagged too."""


@dataclass(frozen=True, slots=True)
class AuditGroup:
    """Outputs that point to the same rows. The rows are candidates until a retraining without them confirms them."""

    number: int
    """From 1, the group with the most outputs first."""
    name: str
    """Made of its phrases, or of its most typical output."""
    n_outputs: int
    queries: tuple[int, ...]
    """Numbers of its outputs in `AuditResult.queries`, from 0, the most typical one first."""
    rows: tuple[AuditRow, ...]
    """Those flagged for the most outputs first."""
    q_value: float
    """The highest of its outputs' q-values."""
    share: float
    """Of what its outputs' flagged rows weigh together, the share that these rows have."""
    phrases: tuple[ContrastPhrase, ...] = ()
    example: QueryResult | None = None
    """The trace of its most typical output, with words; where it was asked for."""
    status: str = STATUS_CANDIDATE


@dataclass(frozen=True, slots=True)
class CoverageStep:
    """One row more of the rows to look at first: the one that the most outputs not yet covered are flagged for."""

    id: str
    group: int
    n_new: int
    """Outputs that this row adds."""
    n_covered: int
    """Outputs that are covered by the rows up to this one."""


__all__ = [
    "CAUSE",
    "NO_CAUSE",
    "NO_VERDICT",
    "AuditGroup",
    "AuditQuery",
    "AuditRow",
    "ContrastPhrase",
    "CoverageStep",
]
