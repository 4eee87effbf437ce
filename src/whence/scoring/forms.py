"""What a score form is: a pure function from blocks of vectors to scores, and which vectors it reads at which depth.

A form names a depth by rule, not by number, so that one form fits models of any depth:

    "rule"        the layer that the layer rule chose, or the user (`whence.model.layer_choice`)
    "last"        the last layer, after the final norm
    a fraction    of the number of layers, in (0, 1]: layer round(fraction n_layers), at least 1
    a number      that layer

The forms themselves, with their formulas, are in whence.scoring.representation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from whence.model import learned_fraction
from whence.scoring.expansion import Expansion, expanded_block, expansion_weights
from whence.scoring.vectors import CENTRED, Block, RowBlock, Vectors
from whence.signatures import NEEDS_BASE, Place

Depth = Literal["rule", "last"] | float | int


class Depths(NamedTuple):
    """What rules of depth are resolved against: the layer of the rule, and how many layers the model has."""

    rule: int
    n_layers: int


def layer_at(depth: Depth, depths: Depths) -> int:
    """The layer that a depth means in this model; see the module's docstring. Halves are rounded up."""
    if depth == "rule":
        return depths.rule
    if depth == "last":
        return depths.n_layers
    if isinstance(depth, float):
        assert 0 < depth <= 1, f"a fraction of the depth lies in (0, 1], not {depth}"
        return max(1, math.floor(depth * depths.n_layers + 0.5))
    assert isinstance(depth, int)
    assert 0 <= depth <= depths.n_layers, f"layer {depth} of {depths.n_layers}"
    return depth


class Read(NamedTuple):
    """A vector that a form reads, and where: `centred` takes it less its mean over all records."""

    vector: str
    depth: Depth
    centred: bool = False

    @property
    def name(self) -> str:
        """Its name in a block."""
        return self.vector + CENTRED if self.centred else self.vector


FormLayers = tuple[int, ...]
"""The layer of each of a form's reads, in their order."""

Scores = Float[Tensor, "n_query n_train"]
ScoreFunction = Callable[[Block, RowBlock, FormLayers], Scores]


@dataclass(frozen=True, slots=True)
class ScoreForm:
    """A way to score training examples against queries from their stored vectors.

    function: (queries, training examples, layer of each read) -> scores [n_query, n_train], higher is closer
    needs:    the vectors it reads, each with the depth that it reads it at
    by_learned_fraction: each score is multiplied by the row's `learned_fraction`
    expand:   the first rows of a search are asked too, and the search is done again; see `Expansion`
    """

    name: str
    version: str
    function: ScoreFunction
    needs: tuple[Read, ...]
    by_learned_fraction: bool = False
    expand: Expansion | None = None

    @property
    def needs_base(self) -> bool:
        """Whether it reads vectors that need the model before fine-tuning."""
        return any(read.vector in NEEDS_BASE for read in self.needs)

    def layers(self, depths: Depths) -> FormLayers:
        """Where the form reads each of its vectors in a model of these depths."""
        return tuple(layer_at(read.depth, depths) for read in self.needs)

    def all_at(self, layer: int) -> FormLayers:
        """Every vector at one layer."""
        return (layer,) * len(self.needs)

    def reads(self, layers: FormLayers) -> list[tuple[int, str]]:
        """(layer, name in a block) of each vector that the form reads there."""
        return [(layer, read.name) for layer, read in zip(layers, self.needs, strict=True)]

    def vectors(self, layers: FormLayers) -> list[Place]:
        """(layer, vector) of what must be stored for it: `reads`, centred or not."""
        return [(layer, read.vector) for layer, read in zip(layers, self.needs, strict=True)]

    def described(self, layers: FormLayers) -> str:
        """The layers as a person writes them: "5", or "dm:5,h:8,eh:8"."""
        if len(set(layers)) == 1:
            return str(layers[0])
        return ",".join(f"{read.vector}:{layer}" for layer, read in zip(layers, self.needs, strict=True))


def form_scores(
    form: ScoreForm, query: Block, train: Block, layers: FormLayers, gain: Float[Tensor, " n_train"] | None = None
) -> Scores:
    """All scores of the form for blocks that are held whole, with its second pass where it has one.

    gain: log-likelihood gains of the training examples, nats; needed by a form that weighs by `learned_fraction`.
    """
    fraction = None
    if form.by_learned_fraction:
        assert gain is not None, f"{form.name} weights rows by their learned fraction"
        fraction = learned_fraction(gain)  # [n_train]

    def scored(asked: Block) -> Scores:
        scores = form.function(asked, train, layers)
        return scores if fraction is None else scores * fraction.to(scores.dtype)

    scores = scored(query)
    if form.expand is None:
        return scores
    best, which = scores.topk(min(form.expand.rows, scores.shape[1]), dim=1)  # [n_query, rows]
    weights = torch.zeros_like(scores).scatter(1, which, expansion_weights(best, scores.mean(1), form.expand))
    needed: dict[int, dict[str, Vectors]] = {}
    for layer, name in form.reads(layers):
        needed.setdefault(layer, {})[name] = train[layer][name]
    return scored(expanded_block(query, needed, weights, form.expand.weight))


__all__ = ["Depth", "Depths", "FormLayers", "Read", "ScoreForm", "ScoreFunction", "Scores", "form_scores", "layer_at"]
