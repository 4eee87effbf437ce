"""A control: the length of the training row's response, whatever the query."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from whence.methods.base import Method, TurnSet


class Length(Method):
    """scores[q, t] = number of response tokens of t, the same for every query; longer ranks higher."""

    name = "length"
    version = "1"

    def fit(self, train: TurnSet) -> None:
        """Counts tokens."""
        self._lengths = torch.tensor([turn.n_response for turn in train.turns], dtype=torch.float32)

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """The counts, once for each query."""
        return self._lengths.expand(len(queries), -1).clone()

    def bytes_per_row(self) -> float:
        """One number."""
        return float(self._lengths.element_size())
