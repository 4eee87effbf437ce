"""RepT with each half at unit length."""

from __future__ import annotations

from whence.methods.representations import RepresentationMethod
from whence.scoring.versions import VERSIONS


class RepTBalanced(RepresentationMethod):
    """scores[q, t] = w cos(h[q], h[t]) + (1 - w) cos(g[q], g[t]) at the last prompt token, in [-1, 1]; w = weight, 0.5.

    Source: RepT (arXiv 2510.02334), halves normalised first; see whence.scoring.representation.rept_balanced.
    """

    name = "rept-balanced"
    version = VERSIONS["rept-balanced"]
    form_name = "rept-balanced"
