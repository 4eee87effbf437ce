"""Which words of a prompt drove a score: the prompt methods by name, applied to whole words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from whence.data import EncodedTurn
from whence.errors import InputError
from whence.files import did_you_mean
from whence.results import Words
from whence.trace.explain.prompt_attribution.comparison import Comparison, PromptMethod, ResponseWeights, Score
from whence.trace.explain.prompt_attribution.gradients import IntegratedGradients, PrefixGradients
from whence.trace.explain.prompt_attribution.occlusion import Both, LossOcclusion, Occlusion, runs_up_to_three
from whence.trace.explain.prompt_attribution.search import LossOcclusionSearch
from whence.trace.explain.words import word_tokens

PROMPT_METHODS: Mapping[str, PromptMethod] = MappingProxyType(
    {
        "occlusion": Occlusion(),
        "occlusion-span": Occlusion(runs_up_to_three),
        "loss-occlusion": LossOcclusion(),
        "loss-occlusion-span": LossOcclusion(runs_up_to_three),
        "loss-occlusion-search": LossOcclusionSearch(),
        "both": Both(),
        "both-span": Both(runs_up_to_three),
        "gradient-input": IntegratedGradients(steps=None),
        "integrated-gradients": IntegratedGradients(),
        "prefix-gradients": PrefixGradients(),
    }
)
"""Every method by its name; each class's docstring has its formula."""

DEFAULT_PROMPT_METHOD = "loss-occlusion-search"


def prompt_method(name: str) -> PromptMethod:
    """The method of that name. Raises InputError that names the nearest."""
    if name in PROMPT_METHODS:
        return PROMPT_METHODS[name]
    raise InputError(
        f"There is no prompt method {name!r}.",
        f"Methods: {', '.join(PROMPT_METHODS)}.",
        did_you_mean(name, PROMPT_METHODS),
    )


def prompt_words(
    comparison: Comparison,
    turns: Sequence[EncodedTurn],
    score: Score,
    weights: ResponseWeights,
    method: str = DEFAULT_PROMPT_METHOD,
) -> list[Words]:
    """The prompt's words of each turn and how much each drove the score, in characters of `turn.prompt`.

    score: what a turn scores against something fixed, as `Comparison.against_query` and `against_rows` give it.
    weights: of each turn's response tokens; only the loss methods look at them.

    A word that was cut off to fit the model's length has score 0.

    Raises:
        InputError: no such method, or one that cannot take this form apart.
    """
    chosen = prompt_method(method)
    found = [word_tokens(turn, "prompt") for turn in turns]
    scores = chosen(comparison, turns, [tokens for _, tokens in found], score, weights)
    return [Words(spans, tuple(values), method) for (spans, _), values in zip(found, scores, strict=True)]


__all__ = ["DEFAULT_PROMPT_METHOD", "PROMPT_METHODS", "prompt_method", "prompt_words"]
