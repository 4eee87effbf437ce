"""Log-probabilities of turns and of many changed versions of each, every one read from where it differs on."""

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

WIDTH_OF_KEPT = 4
"""Most keys and values in a batch of changed turns, as a multiple of `max_tokens`; those it begins with count too."""

LogProbabilities = list[Float[Tensor, " n"]]
"""Of each turn, one a response token; nats."""


@dataclass(frozen=True, slots=True)
class _Changed:
    """A changed turn: its number, the place of its turn among those kept, and for how many tokens it begins as that."""

    number: int
    place: int
    common: int
    turn: EncodedTurn

    @property
    def rest(self) -> tuple[int, ...]:
        """The tokens to be run; the last response token predicts nothing."""
        return self.turn.input_ids[self.common : -1]


def changed_log_probabilities(
    loaded: LoadedModel,
    turns: Sequence[EncodedTurn],
    changed: Sequence[tuple[int, EncodedTurn]],
    *,
    max_tokens: int = 2048,
) -> tuple[LogProbabilities, LogProbabilities]:
    """log p of each response token of all turns, and of all changed ones, on the CPU; as `log_probabilities`.

    changed: (i, a version of turns[i]). What a version has in common with its turn at the beginning is not run again
    where the model allows it (`shares_prefixes`). Turns that do not fit `max_tokens` together follow one another, so
    that no more keys and values are kept at once.

    Raises NonFiniteError, naming turns by number, changed ones counted behind the others.
    """
    if not shares_prefixes(loaded):
        found = log_probabilities(loaded, [*turns, *(turn for _, turn in changed)], max_tokens=max_tokens)
        return found[: len(turns)], found[len(turns) :]
    of_turns: LogProbabilities = [torch.empty(0)] * len(turns)
    of_changed: LogProbabilities = [torch.empty(0)] * len(changed)
    for indices in length_batches(turns, max_tokens=max_tokens):
        layout = laid_out([turns[i] for i in indices], loaded.pad_id, loaded.device)
        hidden, kept = last_states_kept(loaded, layout)
        log_prob = head_likelihood(loaded, layout.predicting(hidden), layout.targets).log_prob
        for i, own in zip(indices, layout.by_turn(log_prob.cpu()), strict=True):
            of_turns[i] = own
        for batch in _batches(_versions(turns, changed, indices), max_tokens):
            for one, own in zip(batch, _read(loaded, kept, batch), strict=True):
                of_changed[one.number] = own
    check_log_probabilities([*of_turns, *of_changed])
    return of_turns, of_changed


def _versions(
    turns: Sequence[EncodedTurn], changed: Sequence[tuple[int, EncodedTurn]], indices: Sequence[int]
) -> list[_Changed]:
    places = {i: place for place, i in enumerate(indices)}
    found = []
    for number, (i, turn) in enumerate(changed):
        if i in places:
            # The state at t predicts the first response token, so it is run in any case.
            common = min(common_length(turn.input_ids, turns[i].input_ids), turn.t)
            found.append(_Changed(number, places[i], common, turn))
    return found


def _batches(versions: Sequence[_Changed], max_tokens: int) -> Iterator[list[_Changed]]:
    """Versions of which equally much is to be run; those that begin with nothing apart from the others."""
    batch: list[_Changed] = []
    widest = 0
    for one in sorted(versions, key=lambda one: (one.common > 0, len(one.rest), one.common, one.number)):
        size, rest = len(batch) + 1, len(one.rest)  # ascending: this one's is the longest
        common = max(widest, one.common)
        too_wide = size * rest > max_tokens or size * (common + rest) > WIDTH_OF_KEPT * max_tokens
        if batch and (too_wide or (batch[-1].common > 0) != (one.common > 0)):
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


__all__ = ["changed_log_probabilities"]
