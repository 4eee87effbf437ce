"""What an adapter is given and what it gives back; what all adapters need to hand a whence model to a peer."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from whence.data.examples import EncodedTurn
from whence.methods.base import Subject, TurnSet
from whence.methods.gradients.parameters import adapter_parameters

T = TypeVar("T")

IGNORED = -100
"""Label of a position whose token counts for no loss, as torch and transformers have it."""


MAX_LOGITS = 1 << 27
"""Logits of a batch, where the vocabulary is large: half a gigabyte in float32, of which a loss keeps a few copies."""


@dataclass(frozen=True, slots=True)
class PeerCase:
    """What an adapter is given: a fine-tuned model, its rows, and the bad answers that are asked about."""

    subject: Subject
    train: TurnSet
    queries: TurnSet


@dataclass(frozen=True, slots=True)
class Answer:
    """One method of a peer on one case. scores: [n_query, n_train], higher means more responsible."""

    method: str
    """As in a row of the bench: `peer:kronfluence-ekfac`."""
    scores: Float[Tensor, "n_query n_train"]
    seconds_fit: float
    seconds_score: float
    options: dict[str, Any]
    """Every setting that was chosen for the peer."""
    same_as: str | None = None
    """The method of whence that computes the same thing, or its nearest."""
    same_options: dict[str, Any] = field(default_factory=dict)


Adapter = Callable[[PeerCase, Path, Sequence[str]], Iterator[Answer]]
"""Called with a case, an empty folder for whatever the peer writes, and the names of the methods, none for all."""


def own_model(planted: PeerCase) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """A copy of the model, for the peer to wrap and hook, and its adapter's weights, which alone want a gradient."""
    model = copy.deepcopy(planted.subject.loaded.model).eval()
    model.requires_grad_(False)
    names = set(adapter_parameters(model))
    weights = {name: p for name, p in model.named_parameters() if name in names}
    for weight in weights.values():
        weight.requires_grad_(True)
    if not weights:
        raise SystemExit("The adapters run on the weights of a LoRA adapter; this case's model has none.")
    return model, weights


def vocabulary(model: nn.Module) -> int:
    """Rows of the model's embedding."""
    return int(model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]


def padded(turns: Sequence[EncodedTurn], pad_id: int) -> dict[str, Int[Tensor, "rows seq"]]:
    """input_ids, labels (IGNORED outside the response) and attention_mask, padded on the right to one width."""
    width = max(len(turn.input_ids) for turn in turns)
    ids = torch.full((len(turns), width), pad_id, dtype=torch.long)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for row, turn in enumerate(turns):
        n = len(turn.input_ids)
        ids[row, :n] = torch.tensor(turn.input_ids)
        labels[row, turn.response_start : n] = ids[row, turn.response_start : n]
        mask[row, :n] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What work() returns, and the seconds it took."""
    started = time.perf_counter()
    return work(), time.perf_counter() - started
