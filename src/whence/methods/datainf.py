"""DataInf: influence with each layer's inverse curvature swapped for a mean of closed-form inverses."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from whence.methods.base import Method, Subject, TurnSet
from whence.methods.gradients.source import Gradients, dampings, dot_with


class DataInf(Method):
    """scores[q, t] = sum over parameters p of grad_p[q] . M_p grad_p[t], where

        M_p = (1/n) sum_i (grad_p[i] grad_p[i]^T + lambda_p I)^-1
            = (1/lambda_p) (I - (1/n) sum_i grad_p[i] grad_p[i]^T / (lambda_p + ||grad_p[i]||^2))
        lambda_p = damping * mean_i ||grad_p[i]||^2 / size_p

    Source: Kwon et al. 2024 (arXiv 2310.00902, equation 5 and section 3; damping 0.1 as there). Sign: theirs is the
    change of the query's loss when t is given more weight, negative for a helpful row; ours is its negative, so that
    higher means more responsible. A parameter whose gradient is zero in every row, up to rounding, contributes 0.
    """

    name = "datainf"
    version = "1"

    def __init__(self, subject: Subject, *, damping: float = 0.1) -> None:
        super().__init__(subject)
        self.damping = damping

    def fit(self, train: TurnSet) -> None:
        """One pass for the damping of each parameter. Raises NonFiniteError."""
        self._train = Gradients(self.subject, train)
        self._lambda = dampings(self._train, self.damping)

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """Two passes over the training rows for each part of the queries that fits. Raises NonFiniteError."""
        mine = Gradients(self.subject, queries)
        scores = torch.empty(len(queries), len(self._train), dtype=mine.dtype)
        step = max(1, self.subject.block_bytes // (2 * mine.row_bytes))
        for start in range(0, len(queries), step):
            part = list(range(start, min(start + step, len(queries))))
            scores[part] = dot_with(self._preconditioned(mine.select(part)), self._train)
        return scores

    def _preconditioned(self, held: Float[Tensor, "n_query n_params"]) -> Float[Tensor, "n_query n_params"]:
        drawn = torch.zeros_like(held)
        parts = list(zip(self._train.layout.slices(), self._lambda, strict=True))
        for _, block in self._train.blocks():
            for part, damping in parts:
                rows = block[:, part]
                weight = held[:, part] @ rows.T / (damping + rows.square().sum(dim=1)) if damping > 0 else None
                if weight is not None:
                    drawn[:, part] += weight @ rows
        for part, damping in parts:
            scale = 1 / damping if damping > 0 else 0.0
            drawn[:, part] = (held[:, part] - drawn[:, part] / len(self._train)) * scale
        return drawn
