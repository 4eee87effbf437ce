"""Log-probabilities of turns and of many versions of each, every version read from where it differs on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from whence.data import EncodedTurn, length_batches
from whence.model.likelihood import check_log_probabilities, head_likelihood, log_probabilities
from whence.model.padding import laid_out
from whence.model.prefixes import Kept, common_length, last_states_kept, run_after, shares_prefixes

if TYPE_CHECKING:
    from whence.model.loading import LoadedModel

PADDED = 1.25
"""A batch of versions pads none to more than this multiple of its length, once it has ENOUGH tokens."""
ENOUGH = 256
"""Tokens of a batch from which on its pass costs as its tokens do."""
WIDTH_OF_KEPT = 4
"""Most keys and values in a batch of versions, as a multiple of `max_tokens`; those it begins with count too."""

LogProbabilities = list[Float[Tensor, " n"]]
"""Of each turn, one a response token; nats."""


@dataclass(frozen=True, slots=True)
class _Changed:
    """A changed turn: its number, the place of its turn in the group, and for how many tokens it begins as that."""

    number: int
    place: int
    common: int
    turn: EncodedTurn

    @property
    def rest(self) -> tuple[int, ...]:
        """The tokens to be run; the last response token predicts nothing."""
        return self.turn.input_ids[self.common : -1]


@dataclass(frozen=True, slots=True)
class TurnGroup:
    """Turns that were run together, and what is needed to read versions of them.

    indices: which of all turns these are. log_probs: of each of them, log p of its response tokens.
    """

    loaded: LoadedModel
    indices: list[int]
    turns: list[EncodedTurn]
    log_probs: LogProbabilities
    max_tokens: int
    kept: Kept | None

    def read(self, changed: Sequence[tuple[int, EncodedTurn]]) -> LogProbabilities:
        """log p of each response token of each (i, a version of the i-th turn of the group), nats, on the CPU.

        Raises NonFiniteError, naming versions by number.
        """
        if self.kept is None:
            return log_probabilities(self.loaded, [turn for _, turn in changed], max_tokens=self.max_tokens)
        versions = []
        for number, (place, turn) in enumerate(changed):
            # The state at t predicts the first response token, so it is run in any case.
            common = min(common_length(turn.input_ids, self.turns[place].input_ids), turn.t)
            versions.append(_Changed(number, place, common, turn))
        found: LogProbabilities = [torch.empty(0)] * len(changed)
        for batch in _batches(versions, self.max_tokens):
            for one, own in zip(batch, _read(self.loaded, self.kept, batch), strict=True):
                found[one.number] = own
        check_log_probabilities(found)
        return found


def turn_groups(loaded: LoadedModel, turns: Sequence[EncodedTurn], *, max_tokens: int = 2048) -> Iterator[TurnGroup]:
    """The turns in groups of at most `max_tokens` tokens, run: no more keys and values are kept at once.

    What a version has in common with its turn at the beginning is not run again where the model allows it
    (`shares_prefixes`); of another model all turns are one group. Raises NonFiniteError, naming turns by number.
    """
    if not shares_prefixes(loaded):
        found = log_probabilities(loaded, turns, max_tokens=max_tokens)
        yield TurnGroup(loaded, list(range(len(turns))), list(turns), found, max_tokens, None)
        return
    for indices in length_batches(turns, max_tokens=max_tokens):
        group = [turns[i] for i in indices]
        layout = laid_out(group, loaded.pad_id, loaded.device)
        hidden, kept = last_states_kept(loaded, layout)
        log_prob = head_likelihood(loaded, layout.predicting(hidden), layout.targets).log_prob
        own = list(layout.by_turn(log_prob.cpu()))
        check_log_probabilities(own, indices)
        yield TurnGroup(loaded, indices, group, own, max_tokens, kept)


def _batches(versions: Sequence[_Changed], max_tokens: int) -> Iterator[list[_Changed]]:
    """Versions of which equally much is to be run; those that begin with nothing apart from the others."""
    batch: list[_Changed] = []
    widest = 0
    for one in sorted(versions, key=lambda one: (one.common > 0, len(one.rest), one.common, one.number)):
        size, rest = len(batch) + 1, len(one.rest)  # ascending: this one's is the longest
        common = max(widest, one.common)
        too_wide = size * rest > max_tokens or size * (common + rest) > WIDTH_OF_KEPT * max_tokens
        padded = batch and rest > PADDED * len(batch[0].rest) and len(batch) * len(batch[-1].rest) >= ENOUGH
        if batch and (too_wide or padded or (batch[-1].common > 0) != (one.common > 0)):
            yield batch
            batch, common = [], one.common
        batch.append(one)
        widest = common
    if batch:
        yield batch


def _read(loaded: LoadedModel, kept: Kept, batch: Sequence[_Changed]) -> tuple[Float[Tensor, " n"], ...]:
    if batch[0].common == 0:
        return tuple(log_probabilities(loaded, [one.turn for one in batch], max_tokens=1 << 30))
    lengths = [len(one.rest) for one in batch]
    ids = torch.full((len(batch), max(lengths)), loaded.pad_id, dtype=torch.long)
    for row, one in enumerate(batch):
        ids[row, : lengths[row]] = torch.tensor(one.rest, dtype=torch.long)
    begun = [(one.place, one.common) for one in batch]
    hidden, _ = run_after(loaded, kept, begun, ids.to(loaded.device), lengths)  # [n, width, hidden]
    # Behind the beginning the first response token is predicted at t - common.
    at = [(row, one.turn.t - one.common + j) for row, one in enumerate(batch) for j in range(one.turn.n_response)]
    rows, columns = (torch.tensor(side, device=loaded.device) for side in zip(*at, strict=True))
    targets = [token for one in batch for token in one.turn.input_ids[one.turn.response_start :]]
    log_prob = head_likelihood(loaded, hidden[rows, columns], torch.tensor(targets, device=loaded.device)).log_prob
    return torch.split(log_prob.cpu(), [one.turn.n_response for one in batch])


__all__ = ["LogProbabilities", "TurnGroup", "turn_groups"]
