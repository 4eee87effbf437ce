"""Turns side by side, padded on the right: causal attention never looks there, so that no mask is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from whence.data import EncodedTurn


@dataclass(frozen=True, slots=True)
class Layout:
    """A batch of turns for one forward pass, and where in it response tokens are predicted.

    ids:        [batch, width] token ids; the last response token predicts nothing, and is run only if `whole`
    row:        [n] which turn each predicting position belongs to, ascending; n is all response tokens of the batch
    position:   [n] its column; ascending within a turn, from the last prompt token t on
    targets:    [n] the response token that it predicts
    first:      [batch] the place in these lists of each turn's first position, t
    n_response: [batch] response tokens of each turn
    """

    ids: Int[Tensor, "batch width"]
    row: Int[Tensor, " n"]
    position: Int[Tensor, " n"]
    targets: Int[Tensor, " n"]
    first: Int[Tensor, " batch"]
    n_response: Int[Tensor, " batch"]

    def predicting(self, states: Float[Tensor, "batch rest hidden"]) -> Float[Tensor, "n hidden"]:
        """The states at the positions that predict a response token, turn by turn, on the layout's device.

        states: of the batch's last columns; the first ones may be left out as far as they predict nothing.
        """
        left_out = self.ids.shape[1] - states.shape[1]
        at = self.row.to(states.device), (self.position - left_out).to(states.device)
        return states[at].to(self.row.device)

    def by_turn(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values of the n positions, cut into turns."""
        return torch.split(values, self.n_response.tolist())


def laid_out(turns: Sequence[EncodedTurn], pad_id: int, device: torch.device, *, whole: bool = False) -> Layout:
    """The turns' ids without their last token, or whole, padded on the right to the longest."""
    longest = max(len(turn.input_ids) for turn in turns)
    ids = torch.full((len(turns), longest if whole else longest - 1), pad_id, dtype=torch.long)
    targets: list[int] = []
    for i, turn in enumerate(turns):
        ids[i, : len(turn.input_ids) - 1] = torch.tensor(turn.input_ids[:-1], dtype=torch.long)
        targets.extend(turn.input_ids[turn.response_start :])
    n_response = torch.tensor([turn.n_response for turn in turns], dtype=torch.long)
    first = n_response.cumsum(0) - n_response
    row = torch.arange(len(turns)).repeat_interleave(n_response)
    start = torch.tensor([turn.t for turn in turns], dtype=torch.long)
    # position = t of the turn + how far behind its first position the entry stands
    position = start[row] + torch.arange(len(row)) - first[row]
    found = (ids, row, position, torch.tensor(targets, dtype=torch.long), first, n_response)
    return Layout(*(tensor.to(device) for tensor in found))


__all__ = ["Layout", "laid_out"]
