"""The gradients of one set of rows as something that can be read again and again, in blocks; kept when they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whence.methods.base import Checkpoint, Subject, TurnSet
from whence.methods.gradients.parameters import Layout, TransformRows, choose_parameters
from whence.methods.gradients.per_example import gradient_dtype, per_example_gradients

ROUNDING_STEPS = 8
"""How many units of the dtype's epsilon a gradient that should be zero may reach, beside the largest gradients."""


class Gradients:
    """Per-example gradients of one set of rows at one moment of the training run.

    checkpoint: None for the model as loaded.
    """

    def __init__(
        self, subject: Subject, rows: TurnSet, checkpoint: Checkpoint | None = None, layout: Layout | None = None
    ) -> None:
        self.subject, self.rows, self.checkpoint = subject, rows, checkpoint
        self.layout = layout or choose_parameters(subject.loaded, subject.parameters)
        self.dtype, self.device = gradient_dtype(subject.loaded), subject.loaded.device
        self._own: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row's gradient."""
        return self.layout.size * self.dtype.itemsize

    def blocks(self) -> Iterator[tuple[list[int], Float[Tensor, "batch n_params"]]]:
        """Blocks of (row numbers, gradients), every row once. Raises NonFiniteError naming rows."""
        kept = self._kept()
        if kept is None:
            yield from self._computed()
            return
        step = max(1, self.subject.block_bytes // self.row_bytes)
        for start in range(0, len(kept), step):
            block = kept[start : start + step]
            yield list(range(start, start + len(block))), block

    def select(self, rows: Sequence[int]) -> Float[Tensor, "batch n_params"]:
        """The gradients of a few rows, in the order given, all at once."""
        part = TurnSet.of([self.rows.turns[i] for i in rows], [self.rows.name(i) for i in rows])
        kept = self._kept()
        if kept is not None:
            return kept[torch.as_tensor(rows, dtype=torch.long, device=kept.device)]
        return _gathered(Gradients(self.subject, part, self.checkpoint, self.layout)._computed(), self, len(part))

    def release(self) -> None:
        """Forgets what this object itself keeps."""
        self._own = None

    def _kept(self) -> Tensor | None:
        """All gradients, from the shared work or this object's own memory, where they fit; else None."""
        if self._own is None:
            n_bytes, shared = len(self) * self.row_bytes, self.subject.shared
            if shared is not None:
                key = ("gradients", self.checkpoint.name if self.checkpoint else "", self.layout.names)
                self._own = shared.get(key, self.rows, n_bytes, self._all)
            elif n_bytes <= self.subject.block_bytes:
                self._own = self._all()
        return self._own

    def _all(self) -> Tensor:
        return _gathered(self._computed(), self, len(self))

    def _computed(self) -> Iterator[tuple[list[int], Tensor]]:
        yield from per_example_gradients(
            self.subject.loaded,
            self.rows.turns,
            self.layout,
            values=checkpoint_values(self.subject, self.checkpoint),
            max_tokens=self.subject.max_tokens,
            block_bytes=self.subject.block_bytes,
            name=self.rows.name,
        )


def checkpoint_values(subject: Subject, checkpoint: Checkpoint | None) -> dict[str, Tensor] | None:
    """The values that the run trained, as the checkpoint has them: the adapter's where there is one, else all."""
    if checkpoint is None:
        return None
    trained = choose_parameters(subject.loaded, "auto").names
    own = dict(subject.loaded.model.named_parameters())
    found = checkpoint.values(trained)
    return {name: found[name].to(own[name].device, own[name].dtype) for name in trained}


def _gathered(blocks: Iterator[tuple[list[int], Tensor]], like: Gradients, n: int) -> Tensor:
    whole = torch.empty(n, like.layout.size, dtype=like.dtype, device=like.device)
    for rows, block in blocks:
        whole[rows] = block
    return whole


def dot_scores(
    queries: Gradients,
    train: Gradients,
    *,
    query_side: TransformRows | None = None,
    train_side: TransformRows | None = None,
) -> Float[Tensor, "n_query n_train"]:
    """scores[q, t] = query_side(grad[q]) . train_side(grad[t]), on the CPU.

    Queries are held `block_bytes` at a time; the training rows pass by once for each such part.
    """
    scores = torch.empty(len(queries), len(train), dtype=queries.dtype)
    step = max(1, queries.subject.block_bytes // queries.row_bytes)
    for start in range(0, len(queries), step):
        part = list(range(start, min(start + step, len(queries))))
        held = queries.select(part)
        held = held if query_side is None else query_side(held)
        scores[part] = dot_with(held, train, train_side)
    return scores


def dot_with(
    held: Float[Tensor, "n_query n_params"], train: Gradients, train_side: TransformRows | None = None
) -> Float[Tensor, "n_query n_train"]:
    """scores[q, t] = held[q] . train_side(grad[t]), one pass over the training rows; on the CPU."""
    scores = torch.empty(len(held), len(train), dtype=train.dtype)
    for rows, block in train.blocks():
        block = block if train_side is None else train_side(block)
        scores[:, rows] = (held @ block.T).cpu()
    return scores


def dampings(gradients: Gradients, damping: float) -> list[float]:
    """damping * mean_i ||grad_p[i]||^2 / size_p for each parameter p: a share of its Fisher's mean eigenvalue.

    0 where that is no more than rounding leaves of the largest one: such a parameter has gradient zero (the bias of
    attention keys, say), and an inverse of its curvature would be noise.
    """
    layout = gradients.layout
    total = torch.zeros(len(layout.names), dtype=torch.float64)
    for _, block in gradients.blocks():
        total += torch.stack([block[:, part].square().sum().double().cpu() for part in layout.slices()])
    sizes = torch.tensor([part.stop - part.start for part in layout.slices()], dtype=torch.float64)
    mean = total / sizes / len(gradients)
    return torch.where(mean > rounding_floor(mean, gradients.dtype), damping * mean, 0.0).tolist()


def rounding_floor(mean_squares: Float[Tensor, " n_parameters"], dtype: torch.dtype) -> float:
    """The mean square of gradients that are only the rounding error of the largest ones."""
    return float(mean_squares.max()) * (ROUNDING_STEPS * torch.finfo(dtype).eps) ** 2
