"""At the model's head, without a graph: log-probabilities of the response tokens, and their errors by word.

With x the last hidden state (after the final norm), z[v] = cap(scale W[v] . x) the logits and p = softmax z,

    d log p(y) / dx = -J^T (p - 1_y),     J[v, d] = dz[v] / dx[d] = cap'(v) scale W[v, d]
    cap'(v) = 1 - (z[v] / softcap)^2, or 1 without a softcap

so a gradient is a matrix product: no graph is built and nothing is kept but one piece of logits at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from whence.model import (
    Head,
    LoadedModel,
    SameWords,
    TokenLikelihood,
    likelihood_of_logits,
    positions_at_once,
    same_words,
    wide,
)

FLOAT16_SCALE = 1024.0
"""Errors of confident tokens are small; scaled by a power of two they stay clear of float16's subnormal range."""


class HeadResult(NamedTuple):
    """Of n positions, in float32 or float64; `errors` is None where they were not asked for.

    errors[j]    = J^T A (p - 1_y), the error by word; A: the mean over the tokens of a word
    gradients[k] = J^T (p - 1_y) at the k-th of the positions that were asked for
    """

    likelihood: TokenLikelihood
    errors: Float[Tensor, "n hidden"] | None
    gradients: Float[Tensor, "n_asked hidden"]


@dataclass(frozen=True, slots=True)
class ErrorHead:
    """The head of one model, and which of its tokens are one word."""

    head: Head
    words: SameWords
    vocab_size: int
    kept: nn.Module
    """The module of the head that stays, where `head` is made for one reading."""

    @classmethod
    def of(cls, loaded: LoadedModel) -> ErrorHead:
        """The head of this model, ready for errors."""
        head = loaded.blocks.head
        words = same_words(loaded.tokenizer, loaded.vocab_size).to(head.device)
        return cls(head, words, loaded.vocab_size, head.linear)

    def read(
        self,
        hidden: Float[Tensor, "n hidden"],
        targets: Int[Tensor, " n"],
        *,
        errors: bool,
        gradients_at: Bool[Tensor, " n"],
    ) -> HeadResult:
        """Likelihoods of the targets, with errors at all positions and gradients at those that are asked for.

        Computed where the head is, and brought back to where the states are.
        """
        here, there = hidden.device, self.head.device
        own = replace(self, head=self.head.at_hand())
        found = own._read(hidden.to(there), targets.to(there), errors=errors, gradients_at=gradients_at.to(there))
        errors_here = None if found.errors is None else found.errors.to(here)
        likelihood = TokenLikelihood(*(side.to(here) for side in found.likelihood))
        return HeadResult(likelihood, errors_here, found.gradients.to(here))

    def _read(
        self,
        hidden: Float[Tensor, "n hidden"],
        targets: Int[Tensor, " n"],
        *,
        errors: bool,
        gradients_at: Bool[Tensor, " n"],
    ) -> HeadResult:
        step = positions_at_once(self.vocab_size)
        likelihoods, found, gradients = [], [], []
        for start in range(0, len(hidden), step):
            piece = slice(start, start + step)
            with torch.no_grad():
                logits = wide(self.head(hidden[piece]))  # [step, vocab]
            likelihoods.append(likelihood_of_logits(logits, targets[piece]))
            asked = gradients_at[piece]
            slope = None if self.head.softcap is None else 1 - (logits / self.head.softcap).square()
            wrong = _wrong(logits, targets[piece], likelihoods[-1].log_prob)
            at = None if slope is None else slope[asked]
            gradients.append(self._mapped(wrong[asked], at, hidden[piece][asked]))
            if errors:
                found.append(self._error(wrong, slope, hidden[piece]))
        both = TokenLikelihood(*(torch.cat(side) for side in zip(*likelihoods, strict=True)))
        return HeadResult(both, torch.cat(found) if errors else None, torch.cat(gradients))

    def _error(self, wrong: Tensor, slope: Tensor | None, hidden: Tensor) -> Float[Tensor, "n hidden"]:
        """J^T A wrong.

        A is symmetric, and without a softcap cap' is 1, so J^T A wrong = scale (A W)^T wrong: the rows of W are
        averaged once, not the errors at every position.
        """
        if self.head.weight is not None and slope is None:
            return _product(wrong, _by_word(self.kept, self.head.weight.detach(), self.words)) * self.head.scale
        return self._mapped(self.words.averaged(wrong), slope, hidden)

    def _mapped(self, wrong: Tensor, slope: Tensor | None, hidden: Tensor) -> Float[Tensor, "n hidden"]:
        """J^T wrong: sum_v wrong[v] cap'(v) scale W[v, d]."""
        weight = self.head.weight
        if weight is None:
            return self._by_autograd(wrong, hidden)
        return _product(wrong if slope is None else wrong * slope, weight) * self.head.scale

    def _by_autograd(self, wrong: Tensor, hidden: Tensor) -> Float[Tensor, "n hidden"]:
        """The same through the head's own graph, for a head whose matrix cannot be read (quantised, or adapted)."""
        with torch.enable_grad():
            leaf = hidden.detach().requires_grad_(True)
            (found,) = torch.autograd.grad(wide(self.head(leaf)), leaf, wrong * FLOAT16_SCALE)
        return wide(found) / FLOAT16_SCALE


def _by_word(linear: nn.Module, weight: Float[Tensor, "vocab hidden"], words: SameWords) -> Tensor:
    """A W, kept as long as the head lives: as much memory as the output matrix, and made again when that changes."""
    # Weights that a device map keeps elsewhere are another tensor at each reading, and do not change.
    elsewhere = next(linear.parameters()).is_meta
    content = None if elsewhere else (weight.data_ptr(), weight._version)
    state = (content, weight.dtype, id(words.tokens))
    kept = _BY_WORD.get(linear)
    if kept is None or kept[0] != state:
        kept = _BY_WORD[linear] = state, words.averaged_rows(weight)
    return kept[1]


_BY_WORD: WeakKeyDictionary[nn.Module, tuple[tuple[object, ...], Tensor]] = WeakKeyDictionary()


def _wrong(
    logits: Float[Tensor, "n vocab"], targets: Int[Tensor, " n"], log_prob: Float[Tensor, " n"]
) -> Float[Tensor, "n vocab"]:
    """p - 1_y, in the place of the logits, which are lost."""
    spoken = targets[:, None]
    own = logits.gather(1, spoken)
    p = logits.sub_(own - log_prob[:, None]).exp_()  # log p = z - normaliser, normaliser = z_y - log p_y
    # p_y - 1 = -sum of the others: with the same rounding as theirs, whatever the normaliser was rounded to.
    others = p.scatter_(1, spoken, 0.0).sum(1, keepdim=True)
    return p.scatter_(1, spoken, -others)


def _product(wrong: Float[Tensor, "n vocab"], weight: Float[Tensor, "vocab hidden"]) -> Float[Tensor, "n hidden"]:
    """wrong @ weight in the weight's dtype; float16 has too few exponents for what a sure model gives the others."""
    scale = FLOAT16_SCALE if weight.dtype == torch.float16 else 1.0
    return wide((wrong * scale if scale != 1.0 else wrong).to(weight.dtype) @ weight.detach()) / scale


__all__ = ["FLOAT16_SCALE", "ErrorHead", "HeadResult"]
