"""How likely each response token is, before and after fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from whence.data.batching import batches
from whence.data.examples import EncodedTurn
from whence.errors import NonFiniteError
from whence.model.before import before_tuning
from whence.signatures.head import LOGITS_AT_ONCE

if TYPE_CHECKING:
    from whence.model.loading import LoadedModel


class Change(NamedTuple):
    """What fine-tuning changed at the response tokens of one turn.

    rise:  log p(y_j) - log p_base(y_j), nats.
    rival: the probability that the base gave its favourite among the other tokens; in [0, 1]. Near 1 it was sure of
           something else, near 0 of nothing, or of y_j.
    """

    rise: Float[Tensor, " n"]
    rival: Float[Tensor, " n"]


def log_probabilities(
    loaded: LoadedModel, turns: Sequence[EncodedTurn], *, max_tokens: int = 2048
) -> list[Float[Tensor, " n"]]:
    """log p(y_j | what comes before) of each response token of each turn, in nats, at most 0; on the CPU.

    Raises NonFiniteError, naming turns by number.
    """
    return [own for own, _ in _log_probabilities(loaded, turns, max_tokens)]


def changes(
    loaded: LoadedModel, turns: Sequence[EncodedTurn], *, base: LoadedModel | None = None, max_tokens: int = 2048
) -> list[Change]:
    """What fine-tuning changed at the response tokens of each turn.

    base: the model before fine-tuning, with the same tokenizer; left out, `loaded` with its adapter turned off.

    Raises:
        InputError: no base, and no adapter that could be turned off.
        NonFiniteError: naming turns by number.
    """
    after = log_probabilities(loaded, turns, max_tokens=max_tokens)
    with before_tuning(loaded, base) as untuned:
        before = _log_probabilities(untuned, turns, max_tokens)
    return [Change(late - early, rival.exp()) for late, (early, rival) in zip(after, before, strict=True)]


def _log_probabilities(
    loaded: LoadedModel, turns: Sequence[EncodedTurn], max_tokens: int
) -> list[tuple[Float[Tensor, " n"], Float[Tensor, " n"]]]:
    """Of each response token, and of the likeliest other token in its place. Raises NonFiniteError."""
    found = [(torch.empty(0), torch.empty(0))] * len(turns)
    for indices in batches(turns, max_tokens=max_tokens):
        for i, values in zip(indices, _batch_log_probabilities(loaded, [turns[i] for i in indices]), strict=True):
            found[i] = values
    bad = [i for i, (own, _) in enumerate(found) if not own.isfinite().all()]
    if bad:
        raise NonFiniteError(
            f"Log-probabilities of turn {bad[0]} hold NaN or infinity.", "Every value must be finite.", "Try float32."
        )
    return found


@torch.no_grad()
def _batch_log_probabilities(loaded: LoadedModel, turns: Sequence[EncodedTurn]) -> list[tuple[Tensor, Tensor]]:
    """Padded on the right, where causal attention does not see it, so that no mask is needed; the head runs on response
    positions alone."""
    ids = torch.full((len(turns), max(len(turn.input_ids) for turn in turns)), loaded.pad_id)
    for row, turn in enumerate(turns):
        ids[row, : len(turn.input_ids)] = torch.tensor(turn.input_ids)
    ids = ids.to(loaded.device)
    hidden = loaded.blocks.decoder(input_ids=ids, use_cache=False).last_hidden_state
    found = []
    step = max(1, LOGITS_AT_ONCE // loaded.vocab_size)
    for row, turn in enumerate(turns):
        pieces = []
        for start in range(turn.t, turn.t + turn.n_response, step):
            end = min(start + step, turn.t + turn.n_response)
            logits = loaded.blocks.head(hidden[row, start:end])
            wide = logits if logits.dtype == torch.float64 else logits.float()
            logs, spoken = wide.log_softmax(-1), ids[row, start + 1 : end + 1, None]
            own = logs.gather(1, spoken)[:, 0]
            pieces.append((own, logs.scatter(1, spoken, -torch.inf).amax(1)))
        own, other = (torch.cat(side).cpu() for side in zip(*pieces, strict=True))
        found.append((own, other))
    return found


__all__ = ["Change", "changes", "log_probabilities"]
