"""The one interface of every method, and what a method is given.

A method has a `name`, a `version`, `fit(train)` and `score(queries) -> [n_query, n_train]`. Higher always means more
responsible for the behaviour that the query shows. The registry finds a method by the name of its file, so a new method
is one new file (docs/methods.md shows one of 30 lines).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from whence.data import EncodedTurn
from whence.errors import InputError, NonFiniteError

if TYPE_CHECKING:
    from whence.model import LoadedModel

T = TypeVar("T")

ParameterChoice = Literal["auto", "adapter", "linear", "all"]


@dataclass(frozen=True, slots=True)
class TurnSet:
    """Rows to be scored, or to be asked about: one encoded turn a row, in a fixed order.

    `names[i]` names row i in messages (file and line); left out, rows are called by their number.
    """

    turns: tuple[EncodedTurn, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.turns:
            raise InputError("The set of rows is empty.", "A method needs at least one row.", "Give some rows.")
        if self.names and len(self.names) != len(self.turns):
            raise InputError(
                f"There are {len(self.names)} names for {len(self.turns)} rows.", "Expected one name a row."
            )

    @classmethod
    def of(cls, turns: Sequence[EncodedTurn], names: Sequence[str] = ()) -> TurnSet:
        """A set of any sequence of encoded turns."""
        return cls(tuple(turns), tuple(names))

    def __len__(self) -> int:
        return len(self.turns)

    def name(self, row: int) -> str:
        """How messages call a row."""
        return self.names[row] if self.names else f"row {row}"

    @property
    def prompts(self) -> list[str]:
        """Prompts as a person reads them."""
        return [turn.prompt for turn in self.turns]

    @property
    def responses(self) -> list[str]:
        """Responses as a person reads them."""
        return [turn.response for turn in self.turns]


@dataclass(frozen=True, slots=True)
class AdamState:
    """Adam's moments by parameter name, as they stood at a checkpoint, after `step` updates."""

    exp_avg: Mapping[str, Tensor]
    exp_avg_sq: Mapping[str, Tensor]
    step: int
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


class Checkpoint(Protocol):
    """A moment of the training run. `whence.methods.gradients.checkpoints.FolderCheckpoint` reads one from a folder."""

    @property
    def name(self) -> str:
        """How messages and caches call it."""

    @property
    def learning_rate(self) -> float:
        """The learning rate with which its gradients were applied; a weight in TracInCP and LESS."""

    def values(self, names: Sequence[str]) -> Mapping[str, Tensor]:
        """The values of the named parameters of the model. Raises InputError when one is missing."""

    def adam(self) -> AdamState | None:
        """The optimizer's moments, or None where the run did not keep them."""


@dataclass(slots=True)
class SharedWork:
    """Work on a set of rows kept for every method that asks for it again, up to max_bytes.

    `seconds_spared` grows by the time that the work took whenever it is spared, so that a comparison of costs can
    charge each method the whole price of what it used.
    """

    max_bytes: int = 1 << 30
    seconds_spared: float = 0.0
    _kept: dict[tuple[Hashable, ...], tuple[TurnSet, object, int, float]] = field(default_factory=dict)

    def get(self, key: tuple[Hashable, ...], rows: TurnSet, n_bytes: int, work: Callable[[], T]) -> T | None:
        """The result of work(), done at most once for a key and this very set of rows; None if n_bytes have no room."""
        key = (id(rows), *key)
        if key in self._kept:
            _, result, _, seconds = self._kept[key]
            self.seconds_spared += seconds
            return cast(T, result)
        if n_bytes + sum(kept for _, _, kept, _ in self._kept.values()) > self.max_bytes:
            return None
        started = time.perf_counter()
        done = work()
        self._kept[key] = (rows, done, n_bytes, time.perf_counter() - started)
        return done

    def clear(self) -> None:
        """Forgets everything but the count of seconds."""
        self._kept.clear()


@dataclass(frozen=True, slots=True)
class Subject:
    """The model under diagnosis and what its training run left: all that a method may use besides the rows.

    parameters: whose gradients the parameter-gradient methods take. "auto": the adapter's weights where there is an
        adapter, else all; "adapter"; "linear": weights of the linear maps inside the decoder layers; "all".
    layer: the layer of the representation methods; None: the last (after the final norm).
    checkpoints: in the order of training; the last is the model as loaded, or earlier.
    text_encoder: a local folder with a sentence encoder, for `text-embedding`.
    shared: keeps gradients and signatures for all methods of this one subject; None: each method computes its own.
    max_tokens: padded tokens in one batch; more is faster on an accelerator and takes more memory.
    block_bytes: bound on the per-example gradients held at once in one block of rows.
    """

    loaded: LoadedModel
    layer: int | None = None
    checkpoints: tuple[Checkpoint, ...] = ()
    parameters: ParameterChoice = "auto"
    text_encoder: str | None = None
    base: LoadedModel | None = None
    seed: int = 0
    max_tokens: int = 1024
    block_bytes: int = 1 << 28
    shared: SharedWork | None = field(default=None, compare=False)

    @property
    def rep_layer(self) -> int:
        """The layer of the representation methods as a number."""
        return self.loaded.n_layers if self.layer is None else self.layer


class Method(ABC):
    """One way to say which training rows made the model answer as it did.

    Options are keyword arguments of the constructor with defaults from the method's paper.
    """

    name: ClassVar[str]
    """The file's name with hyphens for underscores."""
    version: ClassVar[str]
    """Changes whenever the scores of the same input change."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @abstractmethod
    def fit(self, train: TurnSet) -> None:
        """Reads the training rows; whatever can be done before a query is known."""

    @abstractmethod
    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """scores[q, t]: how responsible training row t is for query q. Only the order within a row of scores counts."""

    def bytes_per_row(self) -> float:
        """Bytes of a training row that fit keeps for the queries; 0 where the rows are read again."""
        return 0.0


def checked_scores(
    scores: Float[Tensor, "n_query n_train"], method: Method, queries: TurnSet, train: TurnSet
) -> Float[Tensor, "n_query n_train"]:
    """The scores, if they have the promised shape and are all finite.

    Raises InputError for a wrong shape (a method's own fault) and NonFiniteError naming a query and a row.
    """
    if scores.shape != (len(queries), len(train)):
        raise InputError(
            f"{method.name} returned scores of shape {tuple(scores.shape)}.",
            f"Expected [n_query, n_train] = ({len(queries)}, {len(train)}).",
            "Its score() must have one row a query and one column a training row.",
        )
    bad = (~torch.isfinite(scores)).nonzero()
    if len(bad):
        q, t = bad[0].tolist()
        raise NonFiniteError(
            f"{method.name} gave {scores[q, t].item()} to {train.name(t)} for query {queries.name(q)} "
            f"({len(bad)} such scores).",
            "Every score must be finite.",
            "Look at that row; a larger damping or dtype float32 may help.",
        )
    return scores
