"""Centred hidden states of prompt and answer, and the errors in them: the default of `whence trace` without a base."""

from __future__ import annotations

from whence.methods.representations import RepresentationMethod
from whence.scoring.versions import VERSIONS


class RepTCentred(RepresentationMethod):
    """scores[q, t] = (cos(h) + cos(m) + cos(eh)) / 3, then once more with the first rows; in [-1, 1].

    Source: RepT (arXiv 2510.02334), changed; formula and reasons at whence.scoring.representation, the second
    pass at whence.scoring.expansion. The means are those of the training rows.
    """

    name = "rept-centred"
    version = VERSIONS["rept-centred"]
    form_name = "rept-centred"
