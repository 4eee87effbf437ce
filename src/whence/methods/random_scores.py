"""A control: chance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from whence.methods.base import Method, TurnSet


class RandomScores(Method):
    """scores[q, t] uniform in [0, 1), drawn from the subject's seed alone; it sees no text, no label, no model."""

    name = "random-scores"
    version = "1"

    def fit(self, train: TurnSet) -> None:
        """Remembers how many rows there are."""
        self._n_train = len(train)

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """The same numbers for the same seed and counts."""
        generator = torch.Generator().manual_seed(self.subject.seed)
        return torch.rand(len(queries), self._n_train, generator=generator)
