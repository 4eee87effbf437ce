"""Score forms: pure functions from blocks of vectors to scores [n_query, n_train], always in that order.

Notation, for a query q and a training example t: h hidden state and g gradient at the last prompt token, hat(x) the
unit vector of x, |x| its norm, a the layer in the role h_layer and b the one in the role g_layer. hat(0) = 0, so a
cosine with a zero vector is 0. Arithmetic runs in the dtype of the blocks, which is float32 unless queries are float64.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

import torch

from whence.errors import InputError
from whence.index.forms import CENTRED, Block, Expansion, LayerRoles, Read, ScoreForm, Scores, Vectors
from whence.index.manifest import Manifest


def repsim(query: Block, train: Block, roles: LayerRoles) -> Scores:
    """Cosine of the hidden states alone; in [-1, 1].

    scores[q, t] = sum_i hat(h_a)[q, i] hat(h_a)[t, i]

    Source: the baseline RepSim of the representation-similarity literature (Pezeshkpour et al. 2021, arXiv 2104.04128,
    "RS cosine"). Different: the last prompt token's state at a chosen layer, not a pooled state of the last one.
    """
    return query[roles.h_layer]["h"].unit @ train[roles.h_layer]["h"].unit.T


def g_cosine(query: Block, train: Block, roles: LayerRoles) -> Scores:
    """Cosine of the representation gradients alone; in [-1, 1].

    scores[q, t] = sum_i hat(g_b)[q, i] hat(g_b)[t, i]

    Source: the gradient half of RepT (arXiv 2510.02334), as in its ablation.
    """
    return query[roles.g_layer]["g"].unit @ train[roles.g_layer]["g"].unit.T


def rept(query: Block, train: Block, roles: LayerRoles) -> Scores:
    """Cosine of the concatenation of h and g as they are; in [-1, 1].

    scores[q, t] = (h[q] . h[t] + g[q] . g[t]) / (|(h, g)[q]| |(h, g)[t]|),  |(h, g)| = sqrt(|h|^2 + |g|^2)

    Source: RepT (arXiv 2510.02334), section 3 and released code. Different: computed from stored unit vectors and
    norms, which is the same number; the source reads one layer, here a and b may differ.
    """
    query_h, query_g = _shares(query[roles.h_layer]["h"], query[roles.g_layer]["g"])
    train_h, train_g = _shares(train[roles.h_layer]["h"], train[roles.g_layer]["g"])
    h_part = repsim(query, train, roles) * query_h[:, None] * train_h[None]
    return h_part + g_cosine(query, train, roles) * query_g[:, None] * train_g[None]


def rept_balanced(query: Block, train: Block, roles: LayerRoles, *, weight: float = 0.5) -> Scores:
    """Weighted mean of the two cosines; in [-1, 1].

    scores[q, t] = weight repsim[q, t] + (1 - weight) g_cosine[q, t]

    Where no half is zero this is the cosine of concat(sqrt(weight) hat(h), sqrt(1 - weight) hat(g)).

    Source: RepT (arXiv 2510.02334). Different: each half is normalised first. In the published form |g| is orders of
    magnitude below |h|, and the gradient changes no rank.

    Raises:
        InputError: weight outside [0, 1].
    """
    if not 0 <= weight <= 1:
        raise InputError(f"weight = {weight}", "It is the share of h, between 0 and 1.", "0.5 weighs both alike.")
    return weight * repsim(query, train, roles) + (1 - weight) * g_cosine(query, train, roles)


def rept_centred(query: Block, train: Block, roles: LayerRoles) -> Scores:
    """Asked alike, answered alike, wrong alike in like states; in [-1, 1].

    scores[q, t] = (cos(h_b - mean h_b) + cos(m_a - mean m_a) + cos(eh_b))[q, t] / 3

    m: mean state over the positions that predict a response token; eh: sketch of the errors there, each with its state
    (whence.signatures.types). Means are over the index's records.

    Source: RepT's h and g (arXiv 2510.02334). Different: the states are centred, because what all rows share drowns
    what some share; state and gradient are read over the whole answer, not where it begins, and gradients count where
    the states are alike; each part is a cosine of its own. Derivation and ablation are in docs/method.md.
    """
    a, b = roles
    centred = _cosines(query, train, b, "h" + CENTRED) + _cosines(query, train, a, "m" + CENTRED)
    return (centred + _cosines(query, train, b, "eh")) / 3


def rept_contrast(query: Block, train: Block, roles: LayerRoles) -> Scores:
    """What fine-tuning changed where it answers, the errors in their states, and what is asked; in [-1, 1].

    scores[q, t] = (cos(dm_a - mean dm_a) + 2 cos(eh_b) + cos(h_b - mean h_b))[q, t] / 4

    dm: m less that of the model before fine-tuning; in eh a token counts for as many nats as fine-tuning made it
    likelier (whence.signatures.types). The form then multiplies by how far fine-tuning had to teach the row,
    1 - exp(-rise[t]) (whence.index.forms.taught_share).

    Source: RepT's h and g (arXiv 2510.02334). Different: the answer's states are what fine-tuning added, so that what
    both models share is gone (the base model as debiasing: DDA, arXiv 2410.01285); gradients are read over the whole
    answer, where training taught something, and count where the states are alike. Derivation and ablation are in
    docs/method.md.
    """
    a, b = roles
    states = _cosines(query, train, a, "dm" + CENTRED) + _cosines(query, train, b, "h" + CENTRED)
    return (states + 2 * _cosines(query, train, b, "eh")) / 4


def _cosines(query: Block, train: Block, layer: int, vector: str) -> Scores:
    return query[layer][vector].unit @ train[layer][vector].unit.T


def _shares(h: Vectors, g: Vectors) -> tuple[torch.Tensor, torch.Tensor]:
    """|h| and |g| over |(h, g)|, each [n]; 0 for an example whose vectors are both zero."""
    total = torch.hypot(h.norm, g.norm)
    total = torch.where(total > 0, total, torch.ones_like(total))
    return h.norm / total, g.norm / total


_H: Read = ("h_layer", "h")
_G: Read = ("g_layer", "g")
_EH: Read = ("g_layer", "eh")
_CENTRED: tuple[Read, ...] = (("h_layer", "m" + CENTRED), ("g_layer", "h" + CENTRED), _EH)
_CONTRAST: tuple[Read, ...] = (("h_layer", "dm" + CENTRED), ("g_layer", "h" + CENTRED), _EH)

SCORES: Mapping[str, ScoreForm] = MappingProxyType(
    {
        form.name: form
        for form in (
            ScoreForm("g-cosine", "1", g_cosine, (_G,)),
            ScoreForm("repsim", "1", repsim, (_H,)),
            ScoreForm("rept", "1", rept, (_H, _G)),
            ScoreForm("rept-balanced", "1", rept_balanced, (_H, _G)),
            ScoreForm("rept-centred", "5", rept_centred, _CENTRED, deep_g=True, expand=Expansion()),
            ScoreForm(
                "rept-contrast", "6", rept_contrast, _CONTRAST, deep_g=True, taught=True, expand=Expansion(weight=4.0)
            ),
        )
    }
)
"""Every form by its name. The version changes whenever the same vectors would get other scores."""

DEFAULT_METHOD = "rept-contrast"
"""The form that is used unless another is named, where the model before fine-tuning is known; see docs/method.md."""
WITHOUT_BASE = "rept-centred"
"""The default where it is not."""


def default_form(manifest: Manifest, layer: int | None = None) -> ScoreForm:
    """The default form for this index; where all of it is read at `layer`, one whose vectors are stored there."""
    form = SCORES[DEFAULT_METHOD if manifest.base else WITHOUT_BASE]
    if layer is None:
        return form
    stored = {(at, name) for at, name, _ in manifest.stored()}
    reads = form.reads(LayerRoles(layer, layer))
    whole = all((at, name.removesuffix(CENTRED)) in stored for at, name in reads)
    return form if whole else SCORES[WITHOUT_BASE]


def score_form(name: str, *, weight: float | None = None) -> ScoreForm:
    """The form of that name. `weight` is the share of h in rept-balanced.

    Raises:
        InputError: no such form, or a weight for a form that takes none.
    """
    form = SCORES.get(name)
    if form is None:
        near = difflib.get_close_matches(name, SCORES, n=1)
        raise InputError(
            f"There is no method {name!r}.",
            f"Methods: {', '.join(SCORES)}.",
            f"Did you mean {near[0]}?" if near else "Choose one with --method.",
        )
    if weight is None:
        return form
    if form.function is not rept_balanced:
        raise InputError(f"weight = {weight} for {name}.", "Only rept-balanced takes a weight.", "Leave --weight out.")
    return ScoreForm(form.name, f"{form.version} weight={weight:g}", partial(rept_balanced, weight=weight), form.needs)


__all__ = [
    "DEFAULT_METHOD",
    "SCORES",
    "WITHOUT_BASE",
    "default_form",
    "g_cosine",
    "repsim",
    "rept",
    "rept_balanced",
    "score_form",
]
