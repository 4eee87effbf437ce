"""LESS: the update that Adam would make of a training row, against the query's gradient, by cosine."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from whence.errors import InputError
from whence.methods.base import AdamState, Checkpoint, Method, Subject, TurnSet
from whence.methods.gradients.checkpoints import checkpoints_with_moments
from whence.methods.gradients.parameters import Layout, TransformRows, unit_rows
from whence.methods.gradients.projection import Rademacher, projected
from whence.methods.gradients.source import Gradients


class LESS(Method):
    """scores[q, t] = sum over checkpoints c of w_c * cos(P grad_c[q], P Gamma_c[t]), w = learning rates / their sum.

    Gamma = m' / sqrt(v' + eps), m' = (beta1 m + (1 - beta1) grad) / (1 - beta1^s),
    v' = (beta2 v + (1 - beta2) grad^2) / (1 - beta2^s): the direction of the Adam step that the row alone would cause
    after s steps. P is one Rademacher projection.

    Source: Xia et al. 2024 (arXiv 2402.04333, section 2.2 and 3). The released code leaves the two bias corrections out
    and projects in float16; the paper selects with a warm-up LoRA model, here it is the model under diagnosis.

    dim: numbers kept a row and checkpoint (the paper's 8,192); with fewer parameters than that nothing is projected.
        A projection costs 2 * n_params * dim operations a row: on a full fine-tune choose a small dim.
    """

    name = "less"
    version = "1"

    def __init__(self, subject: Subject, *, dim: int = 8192) -> None:
        super().__init__(subject)
        self.dim = dim

    def fit(self, train: TurnSet) -> None:
        """One pass over the training rows for each checkpoint with moments. Raises InputError when there is none."""
        self._kept: list[tuple[Checkpoint, Tensor]] = []
        for checkpoint, state in checkpoints_with_moments(self.subject, self.name):
            gradients = Gradients(self.subject, train, checkpoint)
            step = adam_direction(state, gradients.layout, gradients.dtype, gradients.device)
            self._kept.append((checkpoint, unit_rows(projected(gradients, self._projection(gradients), step))))
        total = sum(checkpoint.learning_rate for checkpoint, _ in self._kept)
        if total <= 0:
            raise InputError(
                "The learning rates of the checkpoints sum to 0.", "LESS weighs checkpoints by learning rate."
            )
        self._total = total

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """Weighted mean cosines, in [-1, 1]. Raises NonFiniteError."""
        parts = []
        for checkpoint, kept in self._kept:
            gradients = Gradients(self.subject, queries, checkpoint)
            mine = unit_rows(projected(gradients, self._projection(gradients)))
            parts.append(mine @ kept.T * (checkpoint.learning_rate / self._total))
        return torch.stack(parts).sum(dim=0)

    def bytes_per_row(self) -> float:
        """One projected vector a checkpoint."""
        return float(sum(kept[0].nbytes for _, kept in self._kept))

    def _projection(self, gradients: Gradients) -> Rademacher | None:
        size = gradients.layout.size
        return Rademacher(size, self.dim, self.subject.seed) if size > self.dim else None


def adam_direction(state: AdamState, layout: Layout, dtype: torch.dtype, device: torch.device) -> TransformRows:
    """gradient -> Gamma(gradient), see LESS. Raises InputError when the moments do not fit the parameters."""
    moments = []
    for kept in (state.exp_avg, state.exp_avg_sq):
        missing = [
            name
            for name, shape in zip(layout.names, layout.shapes, strict=True)
            if name not in kept or tuple(kept[name].shape) != shape
        ]
        if missing:
            raise InputError(
                f"The optimizer's moments miss {len(missing)} of {len(layout.names)} parameters, first {missing[0]}.",
                "Expected a moment of the same shape for every parameter whose gradient is taken.",
                "Keep them with whence finetune --keep-optimizer, and take gradients of trained parameters only.",
            )
        moments.append(torch.cat([kept[name].reshape(-1) for name in layout.names]).to(device, dtype))
    m, v = moments
    beta1, beta2 = state.betas
    fix1, fix2 = (1 - beta**state.step if state.step > 0 else 1.0 for beta in state.betas)

    def transform(gradients: Float[Tensor, "batch n_params"]) -> Float[Tensor, "batch n_params"]:
        first = (beta1 * m + (1 - beta1) * gradients) / fix1
        second = (beta2 * v + (1 - beta2) * gradients**2) / fix2
        return first / (second + state.eps).sqrt()

    return transform
