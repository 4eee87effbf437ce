"""What a trace answers, query by query: plain data that the reports render."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from whence.data import Json, Span

STATUS_CANDIDATE = "candidate"
"""A row that ranks high. Nothing but a retraining without it shows that it is a cause."""
STATUS_CONFIRMED, STATUS_NOT_CONFIRMED = "confirmed", "not confirmed"
"""What a retraining showed."""


@dataclass(frozen=True, slots=True)
class DeletionCurve:
    """Score without these words: words are deleted in turn, and the share of the score that is left is measured.

    words[k] are the words, by number, that went at step k: one, or a few adjoining ones of a long text. left[k] is the
    score without them and all before them, over the whole score. See `whence.trace.explain.deletion`.
    """

    words: tuple[tuple[int, ...], ...]
    left: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one text and how much each drove the match; `spans[i]` of the text has `scores[i]`.

    Higher drove it more; a negative score worked against it. `word_method` names how the scores were made.
    `deletion` is of a hit's words, None where it was not measured.
    """

    spans: tuple[Span, ...]
    scores: tuple[float, ...]
    word_method: str
    deletion: DeletionCurve | None = None


@dataclass(frozen=True, slots=True)
class HitWords:
    """A hit down to its words. `map[i][j]` links word i of the query's response to word j of the row's response."""

    prompt: Words
    response: Words
    map: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase whose words score high in several of the first rows."""

    text: str
    part: Literal["prompt", "response"]
    place: Literal["start", "end", "anywhere"]
    n_rows: int
    """Of the rows that were read, those where it scores high."""
    n_read: int
    share_elsewhere: float
    """Share of the data set's other rows that have the phrase, anywhere in that part."""
    lift: float
    """Share of the rows read over share elsewhere, which counts as at least half a row."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which rows are flagged as candidate causes, at a stated false discovery rate; or none."""

    flagged: tuple[str, ...]
    """Ids of the flagged rows, best first. Each is a candidate until a retraining confirms it."""
    fdr: float
    text: str
    null_model: str
    """What calibrated it, of `whence.trace.verdict.null_models`; empty without calibration, and `text` says why."""
    n_rows: int | None = None
    """Rows that are flagged: more than ids where a text stands several times in the data. None in older files."""

    @property
    def n_flagged(self) -> int:
        """Rows that are flagged, every copy of a text counted."""
        return len(self.flagged) if self.n_rows is None else self.n_rows


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a verdict compared, in numbers of four digits, for pictures: rows with rows, and answers with answers.

    An answer's peak gain is the log-likelihood gain of its few most changed tokens, in nats; its best score is the mean
    score of its twenty best rows. The references are those that the answer was compared with.
    """

    scores: tuple[float, ...]
    """Of the first rows, best first, as the verdict saw them."""
    flagged_ranks: tuple[int, ...]
    """Places in `scores`, from 1, of the rows that are flagged."""
    peak_gain: float
    best_score: float
    reference_peak_gains: tuple[float, ...]
    reference_best_scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """What the flagged rows account for of an answer's log-likelihood gain, estimated without training.

    A retraining without the rows can check it: share = (gain - gain after it) / gain.
    """

    gain: float
    """log p(answer | prompt) - log p_base(answer | prompt), nats."""
    share: float
    """Of that gain; in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One training row of a ranking, shown by the turn that scored best."""

    rank: int
    score: float
    id: str
    file: str
    line: int
    turn: int
    prompt: str
    response: str
    metadata: Mapping[str, Json] = field(default_factory=dict)
    status: str = STATUS_CANDIDATE
    words: HitWords | None = None
    p_value: float | None = None
    """Chance of such a score for a row that is not a cause."""
    q_value: float | None = None
    """The least false discovery rate at which the row is flagged."""
    confounds: Mapping[str, Json] = field(default_factory=dict)
    """What else could explain the rank, by name: length, norm, format, rank in BM25 and RepSim."""


@dataclass(frozen=True, slots=True)
class Truncated:
    """How many tokens of a query were cut away because at most `max_length` of them are read."""

    prompt: int
    """Lost at the prompt's start."""
    response: int
    """Lost at the response's end, the marker that ends its turn among them."""
    max_length: int
    wanted: int = 0
    """Lost at the wanted answer's end."""


@dataclass(frozen=True, slots=True)
class Departure:
    """Where the model as it is now leaves a response that was given: greedy decoding goes on with another token."""

    text: str
    """The response from there on, shortened."""
    probability: float
    """Of the token that stands there, by the fine-tuned model; in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Approximate:
    """What an approximate search scored for a ranking, and how well it finds rows (`whence ann build`)."""

    n_candidates: int
    """Rows that were scored; no other row can be in the ranking or be flagged."""
    target: float
    """The recall that was asked for."""
    recall: float
    """Mean share of the ten best rows that are found, as it was measured when the search was built."""
    n_measured: int
    """Rows of the index that were asked to measure it."""
    n_probes: int
    """Partitions that were read."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The ranking of one query. `generated` says that the response is the model's own, made for this trace."""

    prompt: str
    response: str
    method: str
    method_version: str
    layer: str
    hits: tuple[Hit, ...]
    n_rows: int
    """Training rows that were scored, after any filter."""
    generated: bool = False
    span: Span | None = None
    """The part of the response that was asked about; None: all of it."""
    wanted: str | None = None
    """The answer that should have been given; rows are ranked by what pushes away from it."""
    prompt_words: Words | None = None
    response_words: Words | None = None
    phrases: tuple[Phrase, ...] = ()
    verdict: Verdict | None = None
    comparison: Comparison | None = None
    """What the verdict compared; None where nothing was calibrated."""
    explained: Explained | None = None
    """What the flagged rows account for of what fine-tuning added to this answer; None without flagged rows, and where
    it cannot be estimated."""
    confound: str = ""
    """A sentence, where something simple explains the ranking as well."""
    confirmation: str = ""
    """What a retraining without rows of this ranking showed, of all of them together; "" where none was made."""
    truncated: Truncated | None = None
    """What of the query was cut away to fit; None where all of it was read."""
    complete: bool = True
    """False: the response was cut off at a limit of new tokens, by its log or, where it is `generated`, now."""
    departure: Departure | None = None
    """Where the model would not give this response; None where it would, nearly would, or that was not measured."""
    approximate: Approximate | None = None
    """What was scored, where it was not all `n_rows` rows."""
    exact_because: str = ""
    """Why all rows were scored although an approximate search was asked for."""
