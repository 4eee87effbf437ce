"""RepT with each half at unit length."""

from __future__ import annotations

from whence.methods.representations import RepresentationMethod


class RepTBalanced(RepresentationMethod):
    """scores[q, t] = w cos(h[q], h[t]) + (1 - w) cos(g[q], g[t]) at the last prompt token, in [-1, 1]; w = weight, 0.5.

    Source: RepT (arXiv 2510.02334), halves normalised first; see whence.trace.scoring.rept_balanced.
    """

    name = "rept-balanced"
    version = "1"
    form_name = "rept-balanced"
