"""Turns side by side: padded so that all prompts end, and all responses begin, at the same column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from whence.data.examples import EncodedTurn


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Turns padded for the two passes: prompts on the left, so that all end at the same column, tails on the right."""

    prefix: Tensor
    prefix_mask: Tensor
    tail: Tensor
    tail_mask: Tensor
    targets: Tensor
    weights: Tensor | None
    start: Tensor


def padded(
    turns: Sequence[EncodedTurn], pad_id: int, device: torch.device, loss_weights: Sequence[Tensor] | None = None
) -> PaddedBatch:
    """Prefix [0, t) left-padded; tail [t, t + n) right-padded, with the response tokens it predicts as targets."""
    width, height = max(turn.t for turn in turns), max(turn.n_response for turn in turns)
    prefix = torch.full((len(turns), width), pad_id, dtype=torch.long)
    prefix_mask = torch.zeros((len(turns), width), dtype=torch.long)
    tail = torch.full((len(turns), height), pad_id, dtype=torch.long)
    tail_mask = torch.zeros((len(turns), height), dtype=torch.long)
    targets = torch.full((len(turns), height), pad_id, dtype=torch.long)
    weights = None if loss_weights is None else torch.nn.utils.rnn.pad_sequence(list(loss_weights), batch_first=True)
    for row, turn in enumerate(turns):
        ids = torch.tensor(turn.input_ids, dtype=torch.long)
        prefix[row, width - turn.t :] = ids[: turn.t]
        prefix_mask[row, width - turn.t :] = 1
        tail[row, : turn.n_response] = ids[turn.t : -1]
        tail_mask[row, : turn.n_response] = 1
        targets[row, : turn.n_response] = ids[turn.response_start :]
    start = torch.tensor([turn.t for turn in turns], dtype=torch.long)
    return PaddedBatch(
        prefix=prefix.to(device),
        prefix_mask=prefix_mask.to(device),
        tail=tail.to(device),
        tail_mask=tail_mask.to(device),
        targets=targets.to(device),
        weights=None if weights is None else weights.to(device),
        start=start.to(device),
    )


def tail_positions(batch: PaddedBatch) -> Int[Tensor, "batch seq"]:
    """Positions of the tail; padding repeats the last real position, so no position passes the model's limit."""
    steps = torch.arange(batch.tail.shape[1], device=batch.tail.device)[None]
    return batch.start[:, None] + torch.minimum(steps, batch.tail_mask.sum(1, keepdim=True) - 1)


__all__ = ["PaddedBatch", "padded", "tail_positions"]
