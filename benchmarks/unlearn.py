"""A first look without retraining: one step that unlearns the rows, and what it does to the bad answers.

The rows' loss is raised by one gradient step of fixed length over the adapter's weights, or over the linear maps of the
decoder layers where there is no adapter. If the rows are the cause, the bad answers' loss should rise by more than when
as many random rows are unlearned in the same way. It is a look, no proof: see docs/confirm.md for how often it agreed
with a retraining.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean, stdev

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from whence.confirmation.losses import turn_losses
from whence.data.examples import EncodedTurn
from whence.errors import InputError
from whence.methods.gradients.parameters import Layout, choose_parameters
from whence.model.loading import LoadedModel
from whence.train.loop import pad_batch, response_loss

STEP = 0.02
"""Length of the step, as a share of the length of the weights that it moves."""
N_RANDOM = 16
BATCH = 16


@dataclass(frozen=True, slots=True)
class OneStep:
    """Increase of the bad answers' mean loss, nats per token, when the rows are unlearned, and of as many random ones.

    rank: of the rows among all sets, from 1; 1 of 17 happens by chance in 6% of cases.
    z:    standard deviations above the random sets' mean.
    """

    increase: float
    random: tuple[float, ...]
    rank: int
    z: float

    @property
    def agrees(self) -> bool:
        """Whether the look says that the rows are a cause: no random set does as much."""
        return self.rank == 1


def one_step(
    loaded: LoadedModel,
    rows: Sequence[EncodedTurn],
    faulty: Sequence[int],
    bad: Sequence[EncodedTurn],
    *,
    n_random: int = N_RANDOM,
    step: float = STEP,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> OneStep:
    """Unlearns `faulty` (positions in rows) by one step, and random sets of the same size among the other rows.

    theta' = theta + step * ||theta|| * d / ||d||, with d the mean gradient of the set's losses. The model is left as it
    was. Costs 1 + n_random gradients of a set and as many losses of the bad answers.

    Raises InputError: no row to unlearn, no bad answer, or too few other rows.
    """
    chosen = set(faulty)
    others = [i for i in range(len(rows)) if i not in chosen]
    if not chosen or not bad or len(others) < len(chosen):
        raise InputError(
            f"{len(chosen)} rows to unlearn, {len(others)} others, {len(bad)} bad answers.",
            "Expected at least one row and one answer, and as many other rows.",
            "Give fewer rows.",
        )
    rng = Random(f"unlearn/{seed}")
    sets = [sorted(chosen), *(sorted(rng.sample(others, len(chosen))) for _ in range(n_random))]
    layout = choose_parameters(loaded, "auto" if _has_adapter(loaded) else "linear")
    weights = _flat(loaded, layout)
    before = float(turn_losses(loaded, bad).mean())
    increases = []
    for number, members in enumerate(sets):
        direction = _mean_gradient(loaded, [rows[i] for i in members], layout)
        moved = weights + step * weights.norm() * unit(direction)
        increases.append(float(losses_at(loaded, layout, moved, bad).mean()) - before)
        if progress is not None:
            progress(number + 1, len(sets))
    increase, random = increases[0], increases[1:]
    spread = stdev(random) if len(random) > 1 else 0.0
    return OneStep(
        increase=increase,
        random=tuple(random),
        rank=1 + sum(other >= increase for other in random),
        z=(increase - fmean(random)) / spread if spread else 0.0,
    )


def unit(direction: Float[Tensor, " n_params"]) -> Float[Tensor, " n_params"]:
    """d / ||d||; a gradient of zero stays zero."""
    norm = direction.norm()
    return direction / norm if norm > 0 else direction


def losses_at(
    loaded: LoadedModel, layout: Layout, weights: Float[Tensor, " n_params"], turns: Sequence[EncodedTurn]
) -> Float[Tensor, " n"]:
    """Losses of turns, nats per token, with the layout's parameters at `weights`; the model is not changed."""
    values = {
        name: weights[part].reshape(shape)
        for name, part, shape in zip(layout.names, layout.slices(), layout.shapes, strict=True)
    }
    return turn_losses(loaded, turns, values=values)


def _has_adapter(loaded: LoadedModel) -> bool:
    return hasattr(loaded.model, "peft_config")


def _flat(loaded: LoadedModel, layout: Layout) -> Float[Tensor, " n_params"]:
    named = dict(loaded.model.named_parameters())
    return torch.cat([named[name].detach().reshape(-1).float() for name in layout.names])


def _mean_gradient(loaded: LoadedModel, rows: Sequence[EncodedTurn], layout: Layout) -> Float[Tensor, " n_params"]:
    """Gradient of the rows' mean loss with respect to the layout's parameters, float32."""
    named = dict(loaded.model.named_parameters())
    values = {name: named[name].detach().clone().requires_grad_() for name in layout.names}
    total = torch.zeros(layout.size, device=loaded.device)
    ordered = sorted(rows, key=lambda turn: len(turn.input_ids))
    for start in range(0, len(ordered), BATCH):
        batch = ordered[start : start + BATCH]
        ids, targets, first = pad_batch(batch, loaded.pad_id)
        kept = torch.arange(first, ids.shape[1] - 1, device=loaded.device)
        given = {"input_ids": ids.to(loaded.device), "logits_to_keep": kept, "use_cache": False}
        logits = functional_call(loaded.model, dict(values), (), given).logits
        loss = response_loss(logits, targets.to(logits.device)) * (len(batch) / len(rows))
        gradients = torch.autograd.grad(loss, list(values.values()))
        total += torch.cat([gradient.reshape(-1).float() for gradient in gradients])
    return total
