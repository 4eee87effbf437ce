"""A control: the length of the training row's gradient, whatever the query."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from whence.methods.base import Method, TurnSet
from whence.methods.gradients.source import Gradients


class GradientNorm(Method):
    """scores[q, t] = ||grad[t]||, the same for every query. A method that does no better has found nothing."""

    name = "gradient-norm"
    version = "1"

    def fit(self, train: TurnSet) -> None:
        """One pass over the training rows; keeps one number a row. Raises NonFiniteError."""
        gradients = Gradients(self.subject, train)
        self._norms = torch.empty(len(train), dtype=gradients.dtype)
        for rows, block in gradients.blocks():
            self._norms[rows] = block.norm(dim=1).cpu()

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """The norms, once for each query."""
        return self._norms.expand(len(queries), -1).clone()

    def bytes_per_row(self) -> float:
        """One number."""
        return float(self._norms.element_size())
