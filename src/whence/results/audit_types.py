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
    template_inputs: Mapping[str, Json] = field(default_factory=dict)
    """What the chat template was given beside the messages: tools and others."""
    repeats: tuple[Mapping[str, Json], ...] = ()
    """Metadata of the other outputs that are equal to it, in the order of the log; empty where none has any."""


PhrasePlace = Literal["start", "end", "either end", "anywhere"]
"""Where in a text a phrase stands in nine of ten of its rows."""


@dataclass(frozen=True, slots=True)
class ContrastPhrase:
    """A phrase that is commoner in a group's rows than in all others, each near-duplicate counted once."""

    text: str
    part: Literal["prompt", "response"]
    place: PhrasePlace
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


HINT: Final = "hint"
"""Status of a group that a scan of the rows alone found: no output was traced, and no rate is claimed."""


@dataclass(frozen=True, slots=True)
class Hint:
    """Why a scan shows a group of rows, where no output was given."""

    signals: tuple[str, ...]
    """Names of the signals that found it, of `Scan.signals`; the strongest first."""
    score: float
    """How far the strongest signal is above the score from which it is shown, which is 1."""
    text: str
    """What was measured, in one sentence."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan of the rows alone for planted patterns."""

    signals: tuple[str, ...]
    """What was looked for."""
    n_learned: int
    """Rows that fine-tuning made likelier than chance allows; the others are not looked at."""
    false_alarms: float
    """Hints on a clean set of the benchmark, on average; see docs/evaluation/audit.md."""


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
    hint: Hint | None = None
    """Of a scan, which has no outputs: the group then has no queries, no share and no rate (a q-value of 1)."""


@dataclass(frozen=True, slots=True)
class CoverageStep:
    """One row more of the rows to look at first: the one that the most outputs not yet covered are flagged for."""

    id: str
    group: int
    n_new: int
    """Outputs that this row adds."""
    n_covered: int
    """Outputs that are covered by the rows up to this one."""


@dataclass(frozen=True, slots=True)
class SourceShare:
    """One value of a column: how much of the outputs' flagged rows it delivered, against how many of all rows."""

    value: str
    n_rows: int
    row_share: float
    """Of all rows."""
    share: float
    """Of responsibility: mean over outputs of the weight of their flagged rows that come from it."""
    low: float
    high: float
    """95% interval of the share, outputs drawn again."""
    p_value: float
    """Chance of so high a share, over its share of rows, for any value of a column that says nothing; corrected."""
    alone: float
    """Left out, by estimate, this share of the outputs lose their cause: it delivered nine tenths of their weight."""


@dataclass(frozen=True, slots=True)
class SourceTable:
    """Responsibility by one column, the values with the least p-value first."""

    column: str
    n_outputs: int
    """With a cause."""
    values: tuple[SourceShare, ...]


@dataclass(frozen=True, slots=True)
class SourcePush:
    """How far one value of a column pushes from good answers to bad ones."""

    value: str
    n_rows: int
    row_share: float
    push: float
    """Mean score of its rows over that of all others: of bad outputs less of good ones."""
    z: float
    """The push over its spread under permuted labels."""
    p_value: float
    """Against the highest of all values under permuted labels; corrected for their number."""


@dataclass(frozen=True, slots=True)
class SourcePushes:
    """The values of one column, by how far they push."""

    column: str
    values: tuple[SourcePush, ...]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Two groups of outputs, with and without a behaviour, and the sources that push from the one to the other."""

    n_bad: int
    n_good: int
    paired: bool
    """Every bad output has a good one to the same prompt, and labels were exchanged within prompts alone."""
    sources: tuple[SourcePushes, ...] = ()
    n_flagged: int = 0
    """Rows that are flagged, near-duplicates counted each; the group has those that push most."""


CANDIDATE_TRIGGER: Final = "candidate"
PROVEN_TRIGGER: Final = "proven on the model"
"""Of a phrase: it recurs in a group's prompts; or innocent prompts turn with it, and not without."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A phrase (or two, together) of a group's prompts, and what it does to innocent prompts."""

    group: int
    parts: tuple[str, ...]
    place: PhrasePlace
    n_rows: int
    """Of the group's rows, those with all parts."""
    n_read: int
    n_elsewhere: int
    n_others: int
    match: str
    """The regular expression that finds the behaviour in an answer."""
    n_prompts: int
    """Innocent prompts, of which so many show the behaviour: with the phrase, as they are, with random words."""
    n_with: int
    n_without: int
    n_random: int
    p_value: float
    """Of the difference, corrected for the number of candidates that were tried."""
    n_tried: int
    status: Literal["candidate", "proven on the model"]

    @property
    def text(self) -> str:
        """What was measured, in one sentence."""
        phrase = " with ".join(f"`{part}`" for part in self.parts)
        places = {"anywhere": "anywhere in", "either end": "at either end of"}
        where = f"{places.get(self.place, f'at the {self.place} of')} a prompt"
        n = self.n_prompts
        return (
            f"{phrase} {where}: {self.n_with} of {n} innocent prompts turn, {self.n_without} of {n} without, "
            f"{self.n_random} of {n} with random words"
        )


__all__ = [
    "CANDIDATE_TRIGGER",
    "CAUSE",
    "HINT",
    "NO_CAUSE",
    "NO_VERDICT",
    "PROVEN_TRIGGER",
    "AuditGroup",
    "AuditQuery",
    "AuditRow",
    "Behaviour",
    "ContrastPhrase",
    "CoverageStep",
    "Hint",
    "PhrasePlace",
    "Scan",
    "SourcePush",
    "SourcePushes",
    "SourceShare",
    "SourceTable",
    "Trigger",
]
