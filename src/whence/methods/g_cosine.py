"""Cosine of representation gradients."""

from __future__ import annotations

from whence.methods.representations import RepresentationMethod
from whence.scoring.versions import VERSIONS


class GCosine(RepresentationMethod):
    """scores[q, t] = cos(g[q], g[t]), g the gradient of the loss at the last prompt token's hidden state, in [-1, 1].

    Source: the gradient half of RepT (arXiv 2510.02334); see whence.scoring.representation.g_cosine.
    """

    name = "g-cosine"
    version = VERSIONS["g-cosine"]
    form_name = "g-cosine"
