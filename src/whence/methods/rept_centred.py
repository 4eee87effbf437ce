"""Centred hidden states of prompt and answer, and the gradient: the default of `whence trace`."""

from __future__ import annotations

from whence.methods.representations import RepresentationMethod


class RepTCentred(RepresentationMethod):
    """scores[q, t] = (10 asked + 5 answered + cos(g)) / 16, cosines of centred states, in [-1, 1].

    Source: RepT (arXiv 2510.02334), changed; formula and reasons at whence.trace.scoring.rept_centred. The means are
    those of the training rows.
    """

    name = "rept-centred"
    version = "1"
    form_name = "rept-centred"
