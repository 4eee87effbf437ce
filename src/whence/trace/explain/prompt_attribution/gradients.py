"""Gradients of the score with respect to the prompt: of its embeddings, or of its cached keys and values.

Only the part of the score that is a function of hidden states (h and m) is differentiated. The gradient half, g and e,
is held fixed: its derivative would be a second derivative of the loss. One turn at a time, so nothing is padded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whence.data import EncodedTurn
from whence.errors import InputError
from whence.model import LoadedModel, captured
from whence.scoring import to_block
from whence.signatures import Extractor, Signatures, splits_prompts
from whence.trace.explain.prompt_attribution.comparison import Comparison, ResponseWeights, Score, WordTokens

IG_STEPS = 16
"""Points on the path of integrated gradients, midpoints of equal steps."""

Fixed = Mapping[int, Signatures]
"""g and e of one turn by layer."""


@dataclass(frozen=True, slots=True)
class IntegratedGradients:
    """Gradient times input along the straight path from no words to the words; in the score's units.

    value[w] = sum_{i in w} e[i] . (1/S) sum_s ds/de[i] at (s - 1/2) / S of the way,

    e the input embeddings of the words' tokens, the way starting where those are zero and all other tokens as they are.
    Over all words the values add up to s(turn) - s(turn with zeros), but for the steps' error. `steps` None is plain
    gradient x input, taken at the end of the way. Source: Sundararajan et al. 2017 (arXiv 1703.01365).
    """

    steps: int | None = IG_STEPS

    def __call__(
        self,
        comparison: Comparison,
        turns: Sequence[EncodedTurn],
        words: Sequence[WordTokens],
        score: Score,
        weights: ResponseWeights,
    ) -> list[list[float]]:
        _check_differentiable(comparison)
        found = []
        for turn, tokens in zip(turns, words, strict=True):
            per_token = self._tokens(comparison, turn, tokens, score, _gradient_half(comparison, turn))
            found.append([sum(per_token[token].item() for token in own) for own in tokens])
        return found

    def _tokens(
        self, comparison: Comparison, turn: EncodedTurn, words: WordTokens, score: Score, fixed: Fixed
    ) -> Float[Tensor, " seq"]:
        loaded = comparison.loaded
        ids = torch.tensor([turn.input_ids], device=loaded.device)
        embedded = loaded.model.get_input_embeddings()(ids).detach()
        of_words = torch.zeros(len(turn.input_ids), dtype=torch.bool, device=loaded.device)
        of_words[[token for own in words for token in own]] = True
        # Midpoints of equal steps from no words to the words, [steps]; the end of the way for gradient x input.
        at = [1.0] if self.steps is None else [(step + 0.5) / self.steps for step in range(self.steps)]
        share = torch.tensor(at, dtype=embedded.dtype, device=loaded.device)[:, None, None]
        # [steps, seq, hidden]: words' embeddings scaled, all others as they are.
        path = torch.where(of_words[None, :, None], embedded * share, embedded).requires_grad_(True)
        H = _states(loaded, comparison.layers, inputs_embeds=path, use_cache=False)
        (slope,) = torch.autograd.grad(_score(comparison, turn, H, turn.t, fixed, score), path)
        # The mean slope over the path times its length, [seq, hidden] -> [seq].
        products: Tensor = embedded[0] * slope.mean(0)
        return products.sum(1).double().cpu()


@dataclass(frozen=True, slots=True)
class PrefixGradients:
    """Gradient times value of what the response and the last prompt token read of the prompt: its keys and values.

    value[w] = sum_{i in w} sum_l (K_l[i] . ds/dK_l[i] + V_l[i] . ds/dV_l[i]),

    K_l, V_l the cached keys and values of layer l at prompt position i < t. What prompt words do to each other, and the
    attention weights as such, do not enter. It needs one short forward and backward pass on the cached prefix.
    """

    def __call__(
        self,
        comparison: Comparison,
        turns: Sequence[EncodedTurn],
        words: Sequence[WordTokens],
        score: Score,
        weights: ResponseWeights,
    ) -> list[list[float]]:
        _check_differentiable(comparison)
        if not splits_prompts(comparison.loaded):
            raise InputError(
                f"{comparison.loaded.settings.model} does not keep its prompts as keys and values alone.",
                "This prompt method reads what the response draws from them.",
                "Choose occlusion as the prompt method.",
            )
        found = []
        for turn, tokens in zip(turns, words, strict=True):
            per_token = _read_from_prefix(comparison, turn, score, _gradient_half(comparison, turn))
            found.append([sum(per_token[token].item() for token in own) for own in tokens])
        return found


def _read_from_prefix(comparison: Comparison, turn: EncodedTurn, score: Score, fixed: Fixed) -> Float[Tensor, " seq"]:
    from transformers import DynamicCache

    loaded = comparison.loaded
    totals = torch.zeros(len(turn.input_ids), dtype=torch.float64)
    if turn.t == 0:
        return totals
    ids = torch.tensor([turn.input_ids], device=loaded.device)
    cache = DynamicCache(config=loaded.text_config)
    with torch.no_grad():
        loaded.blocks.decoder(input_ids=ids[:, : turn.t], use_cache=True, **{loaded.blocks.cache_argument: cache})
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys.detach().requires_grad_(True), layer.values.detach().requires_grad_(True)
    # Keys and values [1, heads, prompt, head_dim] of each layer become the variables.
    leaves = [part for layer in cache.layers for part in (layer.keys, layer.values)]
    H = _states(
        loaded, comparison.layers, input_ids=ids[:, turn.t :], use_cache=True, **{loaded.blocks.cache_argument: cache}
    )
    slopes = torch.autograd.grad(_score(comparison, turn, H, 0, fixed, score), leaves, allow_unused=True)
    for part, slope in zip(leaves, slopes, strict=True):
        if slope is not None:  # layers above the deepest that the form reads
            # Over batch, heads and head_dim: one number a prompt position.
            products = (part * slope).sum((0, 1, 3)).detach().double().cpu()
            totals[turn.t - len(products) : turn.t] += products  # a sliding window keeps the last positions
    return totals


def _states(
    loaded: LoadedModel, layers: Sequence[int], **inputs: object
) -> dict[int, Float[Tensor, "steps seq hidden"]]:
    """H(l) with its graph at each layer."""
    with torch.enable_grad(), captured(loaded.blocks, layers, leaf=False) as seen:
        last: Tensor = loaded.blocks.decoder(**inputs).last_hidden_state
    return seen | {loaded.n_layers: last}


def _score(
    comparison: Comparison, turn: EncodedTurn, H: Mapping[int, Tensor], t: int, fixed: Fixed, score: Score
) -> Float[Tensor, ""]:
    """Sum of the scores of the steps, whose last prompt token is at position t of H."""
    signatures = {}
    for layer in comparison.layers:
        own = fixed.get(layer, Signatures())
        states = H[layer].to("cpu", torch.promote_types(H[layer].dtype, torch.float32))
        h, m = states[:, t], states[:, t : t + turn.n_response].mean(1)
        held = {name: raw.expand(len(h), -1) for name, raw in own.named().items()}
        signatures[layer] = Signatures(h=h, m=m, **held)
    with torch.enable_grad():
        return score(to_block(signatures, comparison.centres)).sum()


def _gradient_half(comparison: Comparison, turn: EncodedTurn) -> Fixed:
    vectors = [place for place in comparison.form.vectors(comparison.roles) if place[1] in ("g", "eh")]
    if not vectors:
        return {}
    return Extractor(comparison.loaded, vectors=vectors, max_tokens=comparison.max_tokens).extract([turn]).layers


def _check_differentiable(comparison: Comparison) -> None:
    if all(vector in ("g", "eh") for _, vector in comparison.form.reads(comparison.roles)):
        raise InputError(
            f"{comparison.form.name} reads gradients only.",
            "This prompt method differentiates the score, and the gradient of a gradient is not taken.",
            "Choose occlusion as the prompt method.",
        )


__all__ = ["IG_STEPS", "IntegratedGradients", "PrefixGradients"]
