"""The training loop: AdamW over length-bucketed batches in a recorded order, the same bits for the same seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whence.data import EncodedTurn
from whence.errors import InputError, NonFiniteError
from whence.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IGNORED = -100
"""Target of a position that predicts no response token (the convention of torch's cross-entropy)."""
BUCKET_BATCHES = 16
"""Batches drawn together and sorted by length: little padding, and still a new mixture every epoch."""


class TrainingSettings(BaseModel):
    """How a model is trained. Every field is in `run.yaml`; the same settings and data give the same weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=3, ge=1)
    """Passes over the rows, each in an order of its own."""
    batch_size: int = Field(default=16, ge=1)
    """Turns of one step."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """The highest, which the warm-up ends at."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate goes on behind the warm-up: down to 0 at the last step, or as it is."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of all steps over which the learning rate rises linearly from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of AdamW, on every trained parameter."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's decay of the mean gradient."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """AdamW's decay of the mean squared gradient."""
    epsilon: float = Field(default=1e-8, gt=0)
    """AdamW's addition to the root of the mean squared gradient."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Length that longer gradients of a step are scaled down to."""
    autocast: Literal["off", "bfloat16", "auto"] = "off"
    """Compute in bfloat16 while weights and their updates keep their own type; "auto": where that is faster here."""
    seed: int = 0
    """Of the order of the rows, of dropout and of an adapter's first weights."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What the loop leaves besides the weights."""

    order: tuple[tuple[int, ...], ...]
    """`order[s]` are the positions of the turns in step s."""
    steps_per_epoch: int
    losses: tuple[float, ...]
    """Loss of each step before its update, nats per token."""
    optimizer: torch.optim.AdamW


def data_order(lengths: Sequence[tuple[int, int]], settings: TrainingSettings) -> list[list[list[int]]]:
    """`order[epoch][step]`: positions of the turns of each batch; each turn once an epoch.

    Turns are shuffled, sorted by length within `BUCKET_BATCHES` batches, cut into batches, and those are shuffled. The
    sort is stable, so turns of equal length stay shuffled.
    """
    epochs = []
    for epoch in range(settings.epochs):
        rng = Random(f"{settings.seed}/{epoch}")
        positions = list(range(len(lengths)))
        rng.shuffle(positions)
        size, steps = settings.batch_size, []
        bucket = size * BUCKET_BATCHES
        for start in range(0, len(positions), bucket):
            block = sorted(positions[start : start + bucket], key=lambda i: lengths[i])
            steps += [block[i : i + size] for i in range(0, len(block), size)]
        rng.shuffle(steps)
        epochs.append(steps)
    return epochs


def learning_rate_at(step: int, n_steps: int, settings: TrainingSettings) -> float:
    """The learning rate of step `step`, counted from 0: a linear rise, then the schedule down to 0 at `n_steps`."""
    warm = math.ceil(settings.warmup * n_steps)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, n_steps - warm)
    shape = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}
    return settings.learning_rate * shape[settings.schedule]


def pad_batch(
    turns: Sequence[EncodedTurn], pad_id: int
) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch kept"], int]:
    """Token ids padded on the right, targets, and the first position whose logits are needed.

    `targets[b, p]` is the token that position `first + p` must predict, or `IGNORED`. Padding on the right needs no
    attention mask: a causal position never sees what follows it.
    """
    width = max(len(turn.input_ids) for turn in turns)
    first = min(turn.t for turn in turns)
    ids = torch.full((len(turns), width), pad_id, dtype=torch.long)
    targets = torch.full((len(turns), width - 1 - first), IGNORED, dtype=torch.long)
    for row, turn in enumerate(turns):
        tokens = torch.tensor(turn.input_ids)
        ids[row, : len(tokens)] = tokens
        targets[row, turn.t - first : len(tokens) - 1 - first] = tokens[turn.response_start :]
    return ids, targets, first


def response_loss(logits: Float[Tensor, "batch kept vocab"], targets: Int[Tensor, "batch kept"]) -> Float[Tensor, ""]:
    """Mean over the rows of each row's mean cross-entropy over its response tokens, nats per token.

    `loss = (1/B) sum_b (1/n_b) sum_j -log p[b, j, targets[b, j]]`: every example weighs the same whatever its length,
    so that a batch's gradient is the mean of its examples' gradients.
    """
    losses = cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(targets)
    return (losses.sum(1) / (targets != IGNORED).sum(1)).mean()


def train(
    model: PreTrainedModel,
    turns: Sequence[EncodedTurn],
    settings: TrainingSettings,
    *,
    pad_id: int,
    progress: Progress | None = None,
    stage: str = "fine-tuning",
    after_epoch: Callable[[int, Trained], None] | None = None,
) -> Trained:
    """Trains the parameters of `model` that require a gradient, in place, and leaves it in eval mode.

    `after_epoch` is called with the number of epochs done and what was trained so far.

    Raises:
        InputError: nothing to train on, or nothing to train.
        NonFiniteError: a loss or a gradient is not finite; names the step and its turns.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not turns or not parameters:
        raise InputError(
            f"{len(turns)} training turns and {len(parameters)} trainable parameter tensors",
            "expected at least one of each",
            "Check the data, and that the model is not frozen or quantised.",
        )
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    epochs = data_order([(turn.n_prompt, turn.n_response) for turn in turns], settings)
    n_steps = sum(len(epoch) for epoch in epochs)
    order = tuple(tuple(batch) for steps in epochs for batch in steps)
    losses: list[float] = []
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)  # dropout, where a model or an adapter has it
        for epoch, steps in enumerate(epochs):
            for batch in steps:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate_at(len(losses), n_steps, settings)
                loss = _step(model, optimizer, parameters, [turns[i] for i in batch], settings, pad_id)
                losses.append(loss)
                if not math.isfinite(loss):
                    raise _not_finite(loss, len(losses), batch)
                if progress:
                    progress(stage, len(losses), n_steps)
            if after_epoch:
                after_epoch(epoch + 1, Trained(order, len(epochs[0]), tuple(losses), optimizer))
    model.eval()
    return Trained(order, len(epochs[0]), tuple(losses), optimizer)


def _step(
    model: PreTrainedModel,
    optimizer: torch.optim.AdamW,
    parameters: list[nn.Parameter],
    turns: Sequence[EncodedTurn],
    settings: TrainingSettings,
    pad_id: int,
) -> float:
    """One update; returns the loss before it, or NaN (and no update) when the gradient is not finite."""
    ids, targets, first = pad_batch(turns, pad_id)
    kept = torch.arange(first, ids.shape[1] - 1, device=model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=settings.autocast == "bfloat16"):
        logits = model(input_ids=ids.to(model.device), logits_to_keep=kept, use_cache=False).logits
    loss = response_loss(logits, targets.to(model.device))
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    norm = nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
    if not torch.isfinite(norm):
        return math.nan
    optimizer.step()
    return float(loss.detach())


def _not_finite(loss: float, step: int, batch: Sequence[int]) -> NonFiniteError:
    return NonFiniteError(
        f"a loss of {loss} or a gradient that is not finite in step {step}, training turns {sorted(batch)}",
        "expected finite numbers throughout",
        "Lower the learning rate, or train in float32.",
    )
