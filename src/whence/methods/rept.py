"""RepT as published: cosine of the hidden state and its gradient, put side by side."""

from __future__ import annotations

from whence.methods.representations import RepresentationMethod
from whence.scoring.versions import VERSIONS


class RepT(RepresentationMethod):
    """scores[q, t] = cos(concat(h[q], g[q]), concat(h[t], g[t])) at the last prompt token, in [-1, 1].

    Source: Li et al. 2025 (arXiv 2510.02334) and its released code; see whence.scoring.representation.rept.
    """

    name = "rept"
    version = VERSIONS["rept"]
    form_name = "rept"
