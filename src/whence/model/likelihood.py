"""Log-probabilities of response tokens, and what fine-tuning changed of them.

    log_likelihood_gain[j] = log p(y_j | x, y_<j) - log p_base(y_j | x, y_<j)          nats
    learned_fraction       = 1 - exp(-gain) = (p - p_base) / p

p is the fine-tuned model, p_base the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from whence.data import EncodedTurn, length_batches
from whence.errors import NonFiniteError
from whence.model.before import before_tuning
from whence.model.padding import laid_out
from whence.model.prefixes import last_states
from whence.model.rope import batches_alike, depends_on_length

if TYPE_CHECKING:
    from whence.model.loading import LoadedModel

LOGITS_AT_ONCE = 1 << 25
"""Logits held at once (positions x vocabulary): 128 MiB in float32, whatever the vocabulary."""


class TokenLikelihood(NamedTuple):
    """Of one model, at n positions: log p of the token that stands there, and of the likeliest other one; nats."""

    log_prob: Float[Tensor, " n"]
    top_other: Float[Tensor, " n"]


class TokenShift(NamedTuple):
    """What fine-tuning changed at the n response tokens of one turn.

    gain: log p(y_j) - log p_base(y_j), nats.
    base_top_other_prob: the base's largest probability of a token other than y_j; in [0, 1]. Near 1 the base predicted
        another token with confidence; near 0 it predicted y_j, or many tokens about equally.
    prob, top_other_prob: the fine-tuned model's p(y_j), and its largest probability of another token; in [0, 1].
    """

    gain: Float[Tensor, " n"]
    base_top_other_prob: Float[Tensor, " n"]
    prob: Float[Tensor, " n"] | None = None
    top_other_prob: Float[Tensor, " n"] | None = None


def learned_fraction(gain: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """1 - exp(-max(0, gain)), in [0, 1): the part of the probability that fine-tuning added; (p - p_base) / p.

    0 for a row (or token) that the base answers with the same probability or more: its score is down-weighted to 0.
    """
    return -torch.expm1(-gain.clamp_min(0))


def positions_at_once(vocab_size: int) -> int:
    """How many positions' logits are held at a time."""
    return max(1, LOGITS_AT_ONCE // vocab_size)


def wide(logits: Tensor) -> Tensor:
    """In float32, or float64 as they are."""
    return logits if logits.dtype == torch.float64 else logits.float()


def likelihood_of_logits(logits: Float[Tensor, "n vocab"], targets: Int[Tensor, " n"]) -> TokenLikelihood:
    """log_prob[j] = -log(1 + sum_{v != y_j} exp(z[j, v] - z[j, y_j])), at most 0.

    top_other[j] = max_{v != y_j} z[j, v] - z[j, y_j] + log_prob[j]

    The spoken token is left out of the sum: as z[j, y_j] - log sum_v exp z[j, v], a difference of two equal numbers, a
    log-probability near 0 would lose its digits. NaN where a logit is NaN or its token's own is infinite.
    """
    spoken = targets[:, None]
    own = logits.gather(1, spoken)  # [n, 1]
    # The spoken token steps aside for what is read of the others, and comes back.
    top = logits.scatter_(1, spoken, -torch.inf).amax(1, keepdim=True)  # [n, 1]
    others = (logits - top).exp_().sum(1)  # [n]; at least 1
    logits.scatter_(1, spoken, own)
    lead = (own - top)[:, 0]  # [n]
    log_prob = logsigmoid(lead - others.log()).where(own[:, 0].isfinite(), torch.nan)
    return TokenLikelihood(log_prob, log_prob - lead)


@torch.no_grad()
def head_likelihood(
    loaded: LoadedModel, hidden: Float[Tensor, "n hidden"], targets: Int[Tensor, " n"]
) -> TokenLikelihood:
    """The likelihood of the targets from last hidden states; at most LOGITS_AT_ONCE logits exist at a time."""
    step, head = positions_at_once(loaded.vocab_size), loaded.blocks.head.at_hand()
    hidden, targets = hidden.to(head.device), targets.to(head.device)
    pieces = [
        likelihood_of_logits(wide(head(hidden[i : i + step])), targets[i : i + step])
        for i in range(0, len(hidden), step)
    ]
    return TokenLikelihood(*(torch.cat(side).to(loaded.device) for side in zip(*pieces, strict=True)))


def log_probabilities(
    loaded: LoadedModel, turns: Sequence[EncodedTurn], *, max_tokens: int = 2048
) -> list[Float[Tensor, " n"]]:
    """log p(y_j | what comes before) of each response token of each turn, in nats, at most 0; on the CPU.

    Raises NonFiniteError, naming turns by number.
    """
    return [found.log_prob for found in likelihoods(loaded, turns, max_tokens=max_tokens)]


def token_shifts(
    loaded: LoadedModel, turns: Sequence[EncodedTurn], *, base: LoadedModel | None = None
) -> list[TokenShift]:
    """What fine-tuning changed at the response tokens of each turn. `Extractor.extract` returns the same on its way.

    base: the model before fine-tuning, with the same tokenizer; left out, `loaded` with its adapter turned off.

    Raises:
        InputError: no base, and no adapter that could be turned off.
        NonFiniteError: naming turns by number.
    """
    after = likelihoods(loaded, turns)
    with before_tuning(loaded, base) as untuned:
        before = likelihoods(untuned, turns)
    return [shift_between(late, early) for late, early in zip(after, before, strict=True)]


def shift_between(after: TokenLikelihood, before: TokenLikelihood) -> TokenShift:
    """The change from one model's likelihoods to another's of the same tokens."""
    gain = after.log_prob - before.log_prob
    return TokenShift(gain, before.top_other.exp(), after.log_prob.exp(), after.top_other.exp())


@torch.no_grad()
def likelihoods(loaded: LoadedModel, turns: Sequence[EncodedTurn], *, max_tokens: int = 2048) -> list[TokenLikelihood]:
    """Of each response token of each turn, on the CPU. Raises NonFiniteError, naming turns by number."""
    found: list[TokenLikelihood] = [TokenLikelihood(torch.empty(0), torch.empty(0))] * len(turns)
    whole = depends_on_length(loaded.text_config)
    for indices in batches_alike(loaded, turns, partial(length_batches, max_tokens=max_tokens)):
        batch = laid_out([turns[i] for i in indices], loaded.pad_id, loaded.device, whole=whole)
        sides = head_likelihood(loaded, batch.predicting(last_states(loaded, batch)), batch.targets)
        by_turn = zip(*(batch.by_turn(side.cpu()) for side in sides), strict=True)
        for i, values in zip(indices, by_turn, strict=True):
            found[i] = TokenLikelihood(*values)
    check_log_probabilities([one.log_prob for one in found])
    return found


def check_log_probabilities(found: Sequence[Float[Tensor, " n"]], numbers: Sequence[int] | None = None) -> None:
    """Raises NonFiniteError, naming the first turn whose log-probabilities are not finite by its number."""
    bad = [i for i, log_prob in enumerate(found) if not log_prob.isfinite().all()]
    if bad:
        raise NonFiniteError(
            f"Log-probabilities of turn {numbers[bad[0]] if numbers else bad[0]} hold NaN or infinity.",
            "Every value must be finite.",
            "Try float32.",
        )


__all__ = [
    "LOGITS_AT_ONCE",
    "TokenLikelihood",
    "TokenShift",
    "check_log_probabilities",
    "head_likelihood",
    "learned_fraction",
    "likelihood_of_logits",
    "likelihoods",
    "log_probabilities",
    "positions_at_once",
    "shift_between",
    "token_shifts",
    "wide",
]
