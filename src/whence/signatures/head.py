"""At the model's head: the loss of each response token, its gradient, and its error by word."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from whence.model.loading import LoadedModel
from whence.model.same_words import SameWords
from whence.signatures.padding import PaddedBatch

LOGITS_AT_ONCE = 1 << 25
"""Logits held at once (positions x vocabulary): 128 MiB in float32."""

FLOAT16_SCALE = 1024.0
"""Gradients of a mean loss are small; scaled by a power of two they stay clear of float16's subnormal range."""


def loss_and_gradients(
    loaded: LoadedModel, words: SameWords, last_hidden: Float[Tensor, "batch seq hidden"], batch: PaddedBatch
) -> tuple[
    Float[Tensor, " batch"],
    Float[Tensor, "batch seq hidden"],
    Float[Tensor, "batch seq hidden"],
    Float[Tensor, "batch seq"],
]:
    """The mean (or weighted) loss of each turn, its gradient with respect to the last hidden state and the errors
    of `TokenGradients.E` (both scaled for float16), and the nats of each response token (0 in the padding).

    Only real positions pass the head, so padding costs nothing here; at most LOGITS_AT_ONCE logits exist at a time.
    """
    real, n_response = batch.tail_mask.bool(), batch.tail_mask.sum(1)
    owner = real.nonzero()[:, 0]
    hidden, targets, counts = last_hidden[real], batch.targets[real], n_response[owner]
    weights = None if batch.weights is None else batch.weights[real]
    step = max(1, LOGITS_AT_ONCE // loaded.vocab_size)
    plain, losses, gradients, errors = [], [], [], []
    for start in range(0, len(hidden), step):
        piece = slice(start, start + step)
        with torch.enable_grad():
            leaf = hidden[piece].detach().requires_grad_(True)
            logits = wide(loaded.blocks.head(leaf))
            nats = F.cross_entropy(logits, targets[piece], reduction="none")
            plain.append(nats.detach())
            own = 1 / counts[piece].to(logits.dtype) if weights is None else weights[piece].to(logits.dtype)
            nats = nats * own
            scale = gradient_scale(loaded.dtype)
            (gradient,) = torch.autograd.grad(nats.sum() * scale, leaf, retain_graph=True)
            wrong = words.averaged(_errors(logits.detach(), targets[piece]) * (own * scale)[:, None])
            (error,) = torch.autograd.grad(logits, leaf, wrong)
        losses.append(nats.detach())
        gradients.append(gradient)
        errors.append(error)
    nats = torch.cat(losses)
    loss = torch.zeros(len(real), dtype=nats.dtype, device=nats.device).index_add_(0, owner, nats)
    gradient, error = torch.zeros_like(last_hidden), torch.zeros_like(last_hidden)
    gradient[real], error[real] = torch.cat(gradients), torch.cat(errors)
    per_token = torch.zeros(real.shape, dtype=nats.dtype, device=nats.device)
    per_token[real] = torch.cat(plain)
    return loss, gradient, error, per_token


def gradient_scale(dtype: torch.dtype) -> float:
    """What losses are multiplied by before gradients are taken."""
    return FLOAT16_SCALE if dtype == torch.float16 else 1.0


def wide(logits: Tensor) -> Tensor:
    """In float32, or float64 as they are."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _errors(logits: Float[Tensor, "n vocab"], targets: Int[Tensor, " n"]) -> Float[Tensor, "n vocab"]:
    """p - 1_y, the gradient of each token's nats with respect to its logits."""
    found = logits.softmax(-1)
    found[torch.arange(len(targets), device=targets.device), targets] -= 1
    return found


__all__ = ["FLOAT16_SCALE", "LOGITS_AT_ONCE", "gradient_scale", "loss_and_gradients", "wide"]
