"""Which tokens spell the same word.

A space before it, or a capital at the start of a sentence, makes another token of a word, not another word: an answer
that is wrong by "Peru" is wrong in the same way as one that is wrong by " Peru".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BROKEN = "\ufffd"
"""What a piece of a character decodes to. Pieces spell nothing."""


@dataclass(frozen=True, slots=True)
class SameWords:
    """The tokens that share their word with another token, in a vocabulary of any size.

    tokens: ascending. word: the number of each one's word, from 0. size: how many tokens each word has, at least 2.
    """

    tokens: Int[Tensor, " n"]
    word: Int[Tensor, " n"]
    size: Int[Tensor, " n_words"]

    def to(self, device: torch.device) -> SameWords:
        """The same on another device."""
        return SameWords(self.tokens.to(device), self.word.to(device), self.size.to(device))

    def averaged(self, values: Float[Tensor, "n vocab"]) -> Float[Tensor, "n vocab"]:
        """Each token's value is the mean over the tokens of its word; a new tensor."""
        found = values.clone()
        if len(self.tokens):
            own = values[:, self.tokens].T
            total = own.new_zeros(len(self.size), len(values)).index_add_(0, self.word, own)
            found[:, self.tokens] = (total / self.size[:, None].to(total.dtype))[self.word].T
        return found

    def averaged_rows(self, matrix: Float[Tensor, "vocab dim"]) -> Float[Tensor, "vocab dim"]:
        """A matrix: each token's row is the mean over the tokens of its word; a new one, of the same dtype.

        found[v, d] = sum_{u of v's word} matrix[u, d] / (tokens of v's word)
        """
        found = matrix.clone()
        if len(self.tokens):
            exact = torch.promote_types(matrix.dtype, torch.float32)
            total = torch.zeros(len(self.size), matrix.shape[1], dtype=exact, device=matrix.device)
            total.index_add_(0, self.word, matrix[self.tokens].to(exact))
            found[self.tokens] = (total / self.size[:, None])[self.word].to(matrix.dtype)
        return found


@lru_cache(maxsize=4)
def same_words(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> SameWords:
    """Tokens below vocab_size whose decoded texts are alike but for spaces around them and for case.

    Tokens that decode to nothing, to spaces or to pieces of a character share their word with none.
    """
    by_word: dict[str, list[int]] = {}
    for token in range(min(vocab_size, len(tokenizer))):
        text = tokenizer.decode([token])
        word = str(text).strip().casefold()
        if word and BROKEN not in word:
            by_word.setdefault(word, []).append(token)
    words = [own for own in by_word.values() if len(own) > 1]
    pairs = sorted((token, word) for word, own in enumerate(words) for token in own)
    tokens, numbers = (torch.tensor([pair[side] for pair in pairs], dtype=torch.long) for side in (0, 1))
    return SameWords(tokens, numbers, torch.tensor([len(own) for own in words], dtype=torch.long))


__all__ = ["BROKEN", "SameWords", "same_words"]
