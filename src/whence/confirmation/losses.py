"""The loss of turns under a model, without gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from whence.data import EncodedTurn
from whence.errors import NonFiniteError
from whence.model import LoadedModel
from whence.train import IGNORED, pad_batch


@torch.no_grad()
def turn_losses(
    loaded: LoadedModel,
    turns: Sequence[EncodedTurn],
    *,
    values: Mapping[str, Tensor] | None = None,
    batch_size: int = 16,
) -> Float[Tensor, " n"]:
    """Mean cross-entropy over each turn's response tokens, nats per token, float64 on the CPU.

    values: parameters to use in place of the model's own, by name; the model is not changed.

    loss[i] = -(1/n_i) sum_j log p(y_ij | x_i, y_i<j)

    Raises NonFiniteError naming the turns.
    """
    losses = torch.empty(len(turns), dtype=torch.float64)
    order = sorted(range(len(turns)), key=lambda i: len(turns[i].input_ids))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        ids, targets, first = pad_batch([turns[i] for i in batch], loaded.pad_id)
        kept = torch.arange(first, ids.shape[1] - 1, device=loaded.device)
        given = {"input_ids": ids.to(loaded.device), "logits_to_keep": kept, "use_cache": False}
        logits = functional_call(loaded.model, dict(values or {}), (), given).logits
        each = cross_entropy(
            logits.flatten(0, 1).float(), targets.to(logits.device).flatten(), ignore_index=IGNORED, reduction="none"
        )
        n_tokens = (targets != IGNORED).sum(1)
        losses[torch.tensor(batch)] = each.view(targets.shape).double().cpu().sum(1) / n_tokens
    bad = (~losses.isfinite()).nonzero()[:, 0].tolist()
    if bad:
        raise NonFiniteError(
            f"The loss of turns {bad[:5]} is not finite ({len(bad)} of {len(turns)}).",
            "Every loss must be a number.",
            "The training may have diverged: lower the learning rate, or use float32.",
        )
    return losses
