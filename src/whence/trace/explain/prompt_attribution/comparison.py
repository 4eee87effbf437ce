"""What a prompt method works on: the model and the score form that compares turns, and turns without some tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from whence.data import EncodedTurn
from whence.model import LoadedModel, learned_fraction
from whence.scoring import Block, Centres, FormLayers, ScoreForm, to_block
from whence.signatures import Extracted, Extractor

WordTokens = Sequence[Sequence[int]]
"""For each word of one prompt the indices of its tokens, as `whence.trace.explain.words.word_tokens` gives them."""

Score = Callable[[Block], Float[Tensor, " n"]]
"""The score of each of n turns against something fixed: a query, or rows. Differentiable in the block's vectors."""

TurnScore = Callable[[Sequence[EncodedTurn]], Float[Tensor, " n"]]
"""The score of each of n turns for one query, read from the model."""

ResponseWeights = Sequence[Float[Tensor, " n"]]
"""For each turn a weight, at least 0, a response token: how far it is what the match is about."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The form, its layers and centres, and the model that its vectors are read from.

    max_tokens: padded tokens in one batch.
    base: the model before fine-tuning, for a form that contrasts with it; None: `loaded` with its adapter turned off.
    contrast: weight tokens by their log-likelihood gain, as an index with a base does whatever form reads it;
        None: where the form needs the base.
    """

    loaded: LoadedModel
    form: ScoreForm
    roles: FormLayers
    centres: Centres | None = None
    max_tokens: int = 2048
    base: LoadedModel | None = None
    contrast: bool | None = None

    @property
    def layers(self) -> list[int]:
        """Layers that the form reads, ascending."""
        return sorted({layer for layer, _ in self.form.reads(self.roles)})

    def block(self, turns: Sequence[EncodedTurn]) -> Block:
        """Vectors of the turns, freshly extracted, as the index would hold them but for its rounding to float16."""
        return to_block(self.extracted(turns).layers, self.centres)

    def extracted(self, turns: Sequence[EncodedTurn]) -> Extracted:
        """Signatures of the turns at the form's layers, freshly extracted."""
        contrast = self.form.needs_base if self.contrast is None else self.contrast
        extractor = Extractor(
            self.loaded,
            vectors=self.form.vectors(self.roles),
            max_tokens=self.max_tokens,
            contrast=contrast,
            base=self.base,
        )
        return extractor.extract(turns)

    def against_query(self, query: Block) -> Score:
        """The score of rows for one query, whose block has one entry."""
        return lambda rows: self.form.function(query, rows, self.roles)[0]

    def searched(self, query: Block) -> TurnScore:
        """What turns score for a query, whose block has one entry, in the first pass of a search.

        s[t] = form(query, t), times the row's learned fraction for a form that weighs by it.
        """

        def scores(turns: Sequence[EncodedTurn]) -> Float[Tensor, " n"]:
            rows = self.extracted(turns)  # n turns -> [n] scores
            found = self.against_query(query)(to_block(rows.layers, self.centres))
            if not self.form.by_learned_fraction:
                return found
            assert rows.log_likelihood_gain is not None, f"{self.form.name} contrasts with the base"
            return found * learned_fraction(rows.log_likelihood_gain).to(found.dtype)

        return scores

    def against_rows(self, rows: Block) -> Score:
        """The mean score of each query over the rows."""
        return lambda queries: self.form.function(queries, rows, self.roles).mean(1)


class PromptMethod(Protocol):
    """Responsibilities of the prompt words of several turns; see the package's docstring."""

    def __call__(
        self,
        comparison: Comparison,
        turns: Sequence[EncodedTurn],
        words: Sequence[WordTokens],
        score: Score,
        weights: ResponseWeights,
    ) -> list[list[float]]: ...


def without(turn: EncodedTurn, tokens: Collection[int]) -> EncodedTurn:
    """The turn without these tokens, as if they had never been there. Of each part at least its last token stays."""
    dropped = set(tokens)
    for part in (range(turn.response_start), range(turn.response_start, len(turn.input_ids))):
        if dropped.issuperset(part):
            dropped.remove(part[-1])
    # Positions close up: the model reads the turn as if the tokens had never been there.
    kept = [i for i in range(len(turn.input_ids)) if i not in dropped]
    return replace(
        turn,
        input_ids=tuple(turn.input_ids[i] for i in kept),
        offsets=tuple(turn.offsets[i] for i in kept),
        response_start=sum(i < turn.response_start for i in kept),
    )


__all__ = ["Comparison", "PromptMethod", "ResponseWeights", "Score", "TurnScore", "WordTokens", "without"]
