"""Every score form by its name, and which one is used unless another is named."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from whence.errors import InputError
from whence.files import did_you_mean
from whence.scoring.expansion import Expansion
from whence.scoring.forms import Read, ScoreForm, ScoreFunction
from whence.scoring.representation import REPT_CENTRED, REPT_CONTRAST, g_cosine, repsim, rept, rept_balanced
from whence.scoring.versions import VERSIONS

DEFAULT_METHOD = "rept-contrast"
"""The form that is used unless another is named, where the model before fine-tuning is known; see docs/method.md."""
METHOD_WITHOUT_BASE = "rept-centred"
"""The default where it is not."""


def _form(
    name: str,
    function: ScoreFunction,
    *needs: Read,
    by_learned_fraction: bool = False,
    expand: Expansion | None = None,
) -> ScoreForm:
    return ScoreForm(name, VERSIONS[name], function, needs, by_learned_fraction, expand)


_H, _G = Read("h", "rule"), Read("g", "rule")

SCORES: Mapping[str, ScoreForm] = MappingProxyType(
    {
        form.name: form
        for form in (
            _form("g-cosine", g_cosine, _G),
            _form("repsim", repsim, _H),
            _form("rept", rept, _H, _G),
            _form("rept-balanced", rept_balanced, _H, _G),
            _form("rept-centred", REPT_CENTRED, *REPT_CENTRED.reads, expand=Expansion()),
            _form(
                "rept-contrast",
                REPT_CONTRAST,
                *REPT_CONTRAST.reads,
                by_learned_fraction=True,
                expand=Expansion(),
            ),
        )
    }
)
"""Every form by its name."""


def default_method(*, has_base: bool) -> ScoreForm:
    """The form that is used unless another is named. has_base: whether the model before fine-tuning is known."""
    return SCORES[DEFAULT_METHOD if has_base else METHOD_WITHOUT_BASE]


def score_form(name: str, *, weight: float | None = None) -> ScoreForm:
    """The form of that name. `weight` is the share of h in rept-balanced.

    Raises:
        InputError: no such form, or a weight for a form that takes none.
    """
    form = SCORES.get(name)
    if form is None:
        raise InputError(
            f"There is no method {name!r}.",
            f"Methods: {', '.join(SCORES)}.",
            did_you_mean(name, SCORES, "Choose one with --method."),
        )
    if weight is None:
        return form
    if form.function is not rept_balanced:
        raise InputError(f"weight = {weight} for {name}.", "Only rept-balanced takes a weight.", "Leave --weight out.")
    return ScoreForm(form.name, f"{form.version} weight={weight:g}", partial(rept_balanced, weight=weight), form.needs)


__all__ = ["DEFAULT_METHOD", "METHOD_WITHOUT_BASE", "SCORES", "default_method", "score_form"]
