"""What fine-tuning changed in states and gradients, asked twice: the default of `whence trace`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.errors import InputError
from whence.methods.representations import RepresentationMethod
from whence.model.before import has_before
from whence.scoring.versions import VERSIONS

if TYPE_CHECKING:
    from whence.methods.base import TraceSet


class RepTContrast(RepresentationMethod):
    """scores[q, t] = taught[t] (cos(dm) + 2 cos(eh) + cos(h)) / 4, then once more; in [-1, 1].

    What fine-tuning changed in the states of the answer, which errors were made in which states, and what is asked, for
    rows that fine-tuning had to teach.

    Source: RepT (arXiv 2510.02334), changed; formula and reasons at whence.scoring.representation, the second
    pass at whence.scoring.expansion. The means are those of the training rows. The base is the subject's `base`, or its
    model with the adapter turned off.
    """

    name = "rept-contrast"
    version = VERSIONS["rept-contrast"]
    form_name = "rept-contrast"

    def fit(self, train: TraceSet) -> None:
        """Extracts and keeps the training rows' signatures.

        Raises InputError without a base, and as every representation method ModelError, NonFiniteError naming rows.
        """
        if not has_before(self.subject.loaded, self.subject.base):
            raise InputError(
                f"{self.name} compares with the model before fine-tuning, and there is none.",
                "Expected a model with an adapter, or a base model.",
                "Give the base with --base, or use rept-centred.",
            )
        super().fit(train)
