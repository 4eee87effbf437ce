"""TracIn over checkpoints."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from whence.methods.base import Method, TurnSet
from whence.methods.gradients.checkpoints import require_checkpoints
from whence.methods.gradients.source import Gradients, dot_scores


class TracInCP(Method):
    """scores[q, t] = sum over checkpoints c of learning_rate[c] * grad_c[q] . grad_c[t].

    Source: Pruthi et al. 2020 (arXiv 2002.08484, section 3.2, TracInCP). Learning rates are those of the run.
    """

    name = "tracincp"
    version = "1"

    def fit(self, train: TurnSet) -> None:
        """Checks that there are checkpoints; their gradients are read when a query comes. Raises InputError."""
        checkpoints = require_checkpoints(self.subject, self.name)
        self._train = [Gradients(self.subject, train, checkpoint) for checkpoint in checkpoints]

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """Weighted sums of dot products. Raises InputError for a damaged checkpoint, NonFiniteError."""
        total: Tensor | None = None
        for train in self._train:
            assert train.checkpoint is not None
            part = dot_scores(Gradients(self.subject, queries, train.checkpoint), train)
            part = part * train.checkpoint.learning_rate
            total = part if total is None else total + part
            train.release()
        assert total is not None
        return torch.as_tensor(total)
