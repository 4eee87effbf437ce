"""Which layer to read: the paper's rule, with its evidence.

The hidden states of adjacent layers at the last prompt token are alike, except where the model changes phase. The rule
(RepT, arXiv 2510.02334) takes the upper layer of the least similar adjacent pair, the last pair left out, because the
last layers always turn towards the output; without a clear minimum it takes the last layer. The step from the
embedding to the first layer is no pair of layers and is left out too: it is the largest turn in most models. The paper
reads a single prompt. Here the similarity is a mean over a probe set, and a bootstrap over the probes says how stable
the choice is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from whence.data import EncodedTurn
from whence.errors import ModelError
from whence.model.blocks import captured
from whence.model.loading import LoadedModel
from whence.progress import Count

LayerRequest = int | Literal["auto", "last"]
"""A layer as a person asks for it: a number, the last one, or the one that the rule chooses."""

CLEAR_SHARE = 0.5
"""The minimum is clear when at least half of the bootstrap resamples agree on it."""


@dataclass(frozen=True, slots=True)
class LayerChoice:
    """The chosen layer and why.

    similarity[i] is the mean cosine between H(i) and H(i + 1) at the last prompt token, i = 0 .. n_layers - 1;
    share[l] is the share of bootstrap resamples that choose layer l.
    """

    layer: int
    similarity: tuple[float, ...]
    share: dict[int, float]
    n_probes: int
    seed: int
    reason: str


def settle_layers(requests: Sequence[LayerRequest], n_layers: int, choose: Callable[[], int]) -> tuple[int, ...]:
    """The layers that were asked for, in that order and each once. choose: gives the rule's layer, called at most once.

    Raises ModelError for a layer that the model does not have, and for no layer at all.
    """
    rule = choose() if "auto" in requests else None
    found = [rule if request == "auto" else n_layers if request == "last" else request for request in requests]
    layers = [layer for layer in found if isinstance(layer, int)]
    if not layers or not all(0 <= layer <= n_layers for layer in layers):
        raise ModelError(
            f"Layers {list(requests)} were asked for.",
            f"Layers go from 0 (the embedding output) to {n_layers} (after the final norm); at least one.",
            "Choose one with --layer, or let --layer auto choose.",
        )
    return tuple(dict.fromkeys(layers))


EARLY = 0.2
"""The first fifth of the depth. On SmolLM2-135M the rule picks layer 2 of 30, where the published form ranked worst of
all layers that were tried: docs/method.md."""


def early_note(layer: int, n_layers: int) -> str:
    """What is said of a layer that the rule picked in the first fifth of the depth; "" for a later one.

    The rule is the paper's and stays as it is; the default method does not read its layer.
    """
    if layer > EARLY * n_layers:
        return ""
    return (
        f"The layer rule picks layer {layer} of {n_layers}, in the first fifth of the depth. On a real model methods "
        "that read such a layer found fewer of the causes than at the last one (--layer last, the default)."
    )


def choose_layer_from(
    similarities: Float[Tensor, "n_probes pairs"], *, n_bootstrap: int = 1000, seed: int = 0
) -> LayerChoice:
    """The rule applied to the similarities of each probe; pure arithmetic, see the module's docstring."""
    n_probes, pairs = similarities.shape
    mean = similarities.mean(0)
    if pairs < 3:
        reason = f"a model of {pairs} layers has no pair to choose from; the last layer is taken"
        return LayerChoice(pairs, tuple(mean.tolist()), {pairs: 1.0}, n_probes, seed, reason)
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(n_probes, (n_bootstrap, n_probes), generator=generator)
    chosen = similarities[draws].mean(1)[:, 1:-1].argmin(1) + 2
    counts = torch.bincount(chosen, minlength=pairs + 1).tolist()
    share = {layer: count / n_bootstrap for layer, count in enumerate(counts) if count}
    upper = int(mean[1:-1].argmin()) + 2
    if share.get(upper, 0.0) >= CLEAR_SHARE:
        reason = f"layers {upper - 1} and {upper} are the least similar adjacent pair ({mean[upper - 1]:.3f})"
        return LayerChoice(upper, tuple(mean.tolist()), share, n_probes, seed, reason)
    reason = f"no clear minimum: layer {upper} is chosen in only {share.get(upper, 0.0):.0%} of resamples"
    return LayerChoice(pairs, tuple(mean.tolist()), share, n_probes, seed, f"{reason}; the last layer is taken")


def probe_similarities(
    loaded: LoadedModel, probes: Sequence[EncodedTurn], *, progress: Count | None = None
) -> Float[Tensor, "n_probes pairs"]:
    """cos(H(i)[t], H(i + 1)[t]) for each probe and each adjacent pair of layers."""
    if not probes:
        raise ModelError(
            "There is no probe to choose a layer with.", "At least one usable row is needed.", "Give --layer."
        )
    rows = []
    layers = range(loaded.n_layers)
    for number, probe in enumerate(probes, 1):
        ids = torch.tensor([probe.input_ids[: probe.response_start]], device=loaded.device)
        with torch.no_grad(), captured(loaded.blocks, layers, leaf=False) as seen:
            last = loaded.blocks.decoder(input_ids=ids, use_cache=False).last_hidden_state
        states = [*(seen[layer] for layer in layers), last]
        stack = torch.stack([state[0, -1].to(last.device) for state in states]).double()
        rows.append(F.cosine_similarity(stack[:-1], stack[1:], dim=-1).cpu())
        if progress is not None:
            progress(number, len(probes))
    return torch.stack(rows)
