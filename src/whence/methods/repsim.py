"""RepSim: cosine of hidden states."""

from __future__ import annotations

from whence.methods.representations import RepresentationMethod
from whence.scoring.versions import VERSIONS


class RepSim(RepresentationMethod):
    """scores[q, t] = cos(h[q], h[t]) at the last prompt token, in [-1, 1].

    Source: the baseline RepSim (Pezeshkpour et al. 2021, arXiv 2104.04128); see whence.scoring.representation.repsim.
    """

    name = "repsim"
    version = VERSIONS["repsim"]
    form_name = "repsim"
