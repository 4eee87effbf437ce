"""Turns side by side for a pass with a graph: all prompts end, and all responses begin, at the same column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from whence.data import EncodedTurn


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Turns padded for the two passes: prompts on the left, so that all end at the same column, tails on the right."""

    prefix: Tensor
    prefix_mask: Tensor
    tail: Tensor
    tail_mask: Tensor
    start: Tensor


def padded(turns: Sequence[EncodedTurn], pad_id: int, device: torch.device) -> PaddedBatch:
    """Prefix [0, t) left-padded; tail [t, t + n) right-padded."""
    width, height = max(turn.t for turn in turns), max(turn.n_response for turn in turns)
    prefix = torch.full((len(turns), width), pad_id, dtype=torch.long)
    prefix_mask = torch.zeros((len(turns), width), dtype=torch.long)
    tail = torch.full((len(turns), height), pad_id, dtype=torch.long)
    tail_mask = torch.zeros((len(turns), height), dtype=torch.long)
    for row, turn in enumerate(turns):
        ids = torch.tensor(turn.input_ids, dtype=torch.long)
        prefix[row, width - turn.t :] = ids[: turn.t]
        prefix_mask[row, width - turn.t :] = 1
        tail[row, : turn.n_response] = ids[turn.t : -1]
        tail_mask[row, : turn.n_response] = 1
    start = torch.tensor([turn.t for turn in turns], dtype=torch.long)
    return PaddedBatch(
        prefix=prefix.to(device),
        prefix_mask=prefix_mask.to(device),
        tail=tail.to(device),
        tail_mask=tail_mask.to(device),
        start=start.to(device),
    )


def tail_positions(batch: PaddedBatch) -> Int[Tensor, "batch seq"]:
    """Positions of the tail; padding repeats the last real position, so no position passes the model's limit."""
    steps = torch.arange(batch.tail.shape[1], device=batch.tail.device)[None]
    return batch.start[:, None] + torch.minimum(steps, batch.tail_mask.sum(1, keepdim=True) - 1)


__all__ = ["PaddedBatch", "padded", "tail_positions"]
