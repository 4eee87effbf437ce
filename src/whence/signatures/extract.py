"""Signatures of encoded turns: vectors and likelihoods read from a model and from the model before fine-tuning.

What each vector is stands in whence.signatures.types; what it costs:

    h, m, eh, g at the last layer    one forward pass; the head runs on the positions that predict a response token
    dh, dm, gains, weights of eh     one more forward pass, of the model before fine-tuning
    g at an inner layer              a backward pass over the layers above it (`whence.signatures.passes.with_graph`)

The values are those of full passes over one example at a time (tests/oracles.py); no parameter has a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from whence.data import EncodedTurn, batches, length_batches
from whence.errors import ModelError
from whence.model import (
    Layout,
    LoadedModel,
    TokenLikelihood,
    batches_alike,
    before_tuning,
    depends_on_length,
    head_likelihood,
    laid_out,
)
from whence.signatures.assemble import Read, assembled, check_finite, in_order
from whence.signatures.head import ErrorHead
from whence.signatures.passes import masks_to_nan, plain, splits_prompts, with_graph
from whence.signatures.types import NEEDS_BASE, VECTORS, Extracted, Place


class Wanted(NamedTuple):
    """What is read of each position besides its likelihood: errors by word, and gradients at every position."""

    errors: bool
    gradients: bool


class Extractor:
    """Extracts signatures from one loaded model.

    layers: numbers l, 0 <= l <= n_layers (0: embedding output; n_layers: after the final norm), of which every vector
        is read, RepT's g with its backward pass too.
    vectors: the (layer, vector) that are read, and no other, in place of all vectors at `layers`.
    max_tokens: padded tokens in one batch. It bounds memory; the values do not depend on it beyond rounding.
    contrast: also compare with the model before fine-tuning: `base`, or the adapter turned off.

    Raises:
        ModelError: a layer that is not there, or a base of another shape.
        InputError: nothing to compare with.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        layers: Sequence[int] = (),
        *,
        vectors: Collection[Place] | None = None,
        max_tokens: int = 2048,
        contrast: bool = False,
        base: LoadedModel | None = None,
    ) -> None:
        if vectors is None:
            names = [name for name in VECTORS if contrast or name not in NEEDS_BASE]
            vectors = [(layer, name) for layer in layers for name in names]
        self.vectors: tuple[Place, ...] = tuple(sorted(set(vectors), key=lambda at: (at[0], VECTORS.index(at[1]))))
        self.layers = tuple(sorted({layer for layer, _ in self.vectors}))
        assert contrast or not any(name in NEEDS_BASE for _, name in self.vectors), "dm and dh need the base"
        _check_layers(self.layers, loaded)
        self.loaded, self.max_tokens = loaded, max_tokens
        self._contrast, self._base = contrast, base
        self._head = ErrorHead.of(loaded)
        if contrast:
            with before_tuning(loaded, base) as untuned:
                _check_shape(loaded, untuned)

    def extract(
        self,
        turns: Sequence[EncodedTurn],
        *,
        token_gradients: bool = False,
        token_errors: bool = False,
        loss_weights: Sequence[Float[Tensor, " n"]] | None = None,
        labels: Callable[[int], str] | None = None,
    ) -> Extracted:
        """Signatures of all turns, in their order, as float32 (float64 of a float64 model) on the CPU.

        token_errors: also return H and E at every position that predicts a response token. token_gradients: and G.
        loss_weights: one weight a response token, per turn: the loss, and with it every gradient and error, is that of
            L = sum_j loss_weights[i][j] nats[j] in place of the mean. Left out: 1/n each.
        labels: names turn i in the error for values that are not finite.

        A batch that runs out of memory is halved and run again. Raises NonFiniteError.
        """
        if loss_weights is not None:
            assert [len(weights) for weights in loss_weights] == [turn.n_response for turn in turns]
        wanted = Wanted(token_errors or token_gradients, token_gradients)
        done: list[tuple[list[int], Extracted]] = []
        # The pass with a graph pads prompts and responses apart.
        apart = bool(self._gradient_layers(wanted)) and splits_prompts(self.loaded)
        laid = partial(batches if apart else length_batches, max_tokens=self.max_tokens)
        for indices in batches_alike(self.loaded, turns, laid):
            for equal in self._without_masked_rows(turns, indices, wanted):
                done.extend(self._within_memory(turns, equal, wanted, loss_weights))
        result = in_order(done, len(turns))
        check_finite(result, labels or (lambda i: f"turn {i}"))
        return result

    def _gradient_layers(self, wanted: Wanted) -> list[int]:
        """Inner layers at which a gradient is asked for: those that cost a backward pass."""
        asked = self.layers if wanted.gradients else [layer for layer, name in self.vectors if name == "g"]
        return [layer for layer in asked if layer < self.loaded.n_layers]

    def _without_masked_rows(self, turns: Sequence[EncodedTurn], indices: list[int], wanted: Wanted) -> list[list[int]]:
        """The batch, split by prompt length where the model cannot bear a prompt padded on the left."""
        if not (masks_to_nan(self.loaded) and self._gradient_layers(wanted)):
            return [indices]
        lengths = sorted({turns[i].n_prompt for i in indices})
        return [[i for i in indices if turns[i].n_prompt == length] for length in lengths]

    def _within_memory(
        self,
        turns: Sequence[EncodedTurn],
        indices: list[int],
        wanted: Wanted,
        loss_weights: Sequence[Tensor] | None,
    ) -> list[tuple[list[int], Extracted]]:
        """The batch, halved as often as it does not fit; the batches after it are as large as ever."""
        weights = None if loss_weights is None else [loss_weights[i] for i in indices]
        try:
            return [(indices, self._run([turns[i] for i in indices], wanted, weights))]
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if len(indices) == 1:
                turn = turns[indices[0]]
                raise ModelError(
                    f"Out of memory on a single example of {len(turn.input_ids)} tokens.",
                    "One example must fit beside the model.",
                    "Lower --max-length, or use a smaller --dtype.",
                ) from error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        # Halved for this batch alone, so that no value depends on what ran out of memory before it.
        half = len(indices) // 2
        return [
            part
            for piece in (indices[:half], indices[half:])
            for part in self._within_memory(turns, piece, wanted, loss_weights)
        ]

    def _run(self, turns: Sequence[EncodedTurn], wanted: Wanted, loss_weights: Sequence[Tensor] | None) -> Extracted:
        whole = depends_on_length(self.loaded.text_config)
        layout = laid_out(turns, self.loaded.pad_id, self.loaded.device, whole=whole)
        # [n]: the weights of all turns one behind the other, as the layout has their predicting positions.
        weights = None if loss_weights is None else torch.cat(list(loss_weights)).to(self.loaded.device)
        # The base is read first and alone: with an adapter it is the same model, which is then turned on again.
        before, H0 = self._before(layout) if self._contrast else (None, {})
        read = self._after(turns, layout, wanted, weights)._replace(before=before, H0=H0)
        return assembled(layout, self.vectors, read, tokens=wanted.errors, gradients=wanted.gradients)

    def _after(
        self, turns: Sequence[EncodedTurn], layout: Layout, wanted: Wanted, weights: Float[Tensor, " n"] | None
    ) -> Read:
        """What is read of the fine-tuned model. n: the predicting positions of the batch, turn by turn."""
        inner, last = self._gradient_layers(wanted), self.loaded.n_layers
        states = (
            with_graph(self.loaded, turns, layout, self.layers, inner)
            if inner
            else plain(self.loaded, layout, self.layers)
        )
        # A gradient at an inner layer needs those of all positions at the last; g at the last layer its own alone.
        at = torch.full_like(layout.row, bool(inner) or wanted.gradients, dtype=torch.bool)
        at[layout.first] = True
        # E: [n, hidden], the errors by word that eh is sketched from; a closed form at the head, no backward pass.
        errors = wanted.errors or any(name == "eh" for _, name in self.vectors)
        found = self._head.read(states.last, layout.targets, errors=errors, gradients_at=at)  # [n, hidden] each
        # dL/dz[j] = w[j] (p - 1_y)[j], with w[j] = 1 / n_response for the mean loss
        if weights is None:
            weights = 1 / layout.n_response[layout.row].to(found.likelihood.log_prob.dtype)
        weights = weights.to(found.likelihood.log_prob.dtype)
        E = None if found.errors is None else found.errors * weights[:, None]
        of_last = torch.zeros_like(states.last, dtype=weights.dtype)  # [n, hidden]
        of_last[at] = found.gradients * weights[at, None]
        G = {last: of_last} | (states.gradients(of_last) if inner else {})
        return Read(states.H, E, G, states.last, of_last[layout.first].double().norm(dim=1), weights, found.likelihood)

    @torch.no_grad()
    def _before(self, layout: Layout) -> tuple[TokenLikelihood, dict[int, Float[Tensor, "n hidden"]]]:
        """Likelihoods of the response tokens, and the states that are compared, before fine-tuning."""
        compared = sorted({layer for layer, name in self.vectors if name in NEEDS_BASE})
        with before_tuning(self.loaded, self._base) as untuned:
            states = plain(untuned, layout, compared)  # H[layer]: [n, hidden]
            found = head_likelihood(untuned, states.last, layout.targets)
            return TokenLikelihood(*(side.to(self.loaded.device) for side in found)), states.H


def _check_layers(layers: Sequence[int], loaded: LoadedModel) -> None:
    wrong = [layer for layer in layers if not 0 <= layer <= loaded.n_layers]
    if wrong or not layers:
        raise ModelError(
            f"There is no layer {wrong[0]} in this model." if wrong else "No layer was given.",
            f"Layers go from 0 (the embedding output) to {loaded.n_layers} (after the final norm).",
            "Choose one with --layer, or let --layer auto choose.",
        )


def _check_shape(loaded: LoadedModel, before: LoadedModel) -> None:
    """Raises ModelError unless the states of both models can be subtracted."""
    shapes = [(model.n_layers, model.hidden_size) for model in (loaded, before)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"The base has {shapes[1][0]} layers of width {shapes[1][1]}, the model {shapes[0][0]} of {shapes[0][1]}.",
            "States of the model before and after fine-tuning are compared.",
            "Give the model that was fine-tuned with --base.",
        )


def _is_out_of_memory(error: BaseException) -> bool:
    """CUDA has its own exception; the CPU allocator raises a RuntimeError that only its text tells apart."""
    text = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )


__all__ = ["Extractor"]
