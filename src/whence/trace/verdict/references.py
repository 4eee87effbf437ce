"""Reference queries: ordinary prompts with the model's own answers, against which a verdict is calibrated.

They are drawn from the training data's own prompts, or given by the user, who may have prompts known to be benign.
One `generate` and one extraction cover them all, and the signatures hold for every query against the same index.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from random import Random

import numpy as np
import torch
from jaxtyping import Float, Int

from whence.data import EncodedTurn, Encoder, Example, answer_places
from whence.errors import WhenceWarning
from whence.index import Index
from whence.model import LoadedModel, TokenShift, generate, has_before, token_shifts
from whence.signatures import Extractor, Signatures
from whence.trace.query.batch import peak_gains, summed_gains
from whence.trace.query.queries import Query

REFERENCE_ANSWER_TOKENS = 64
"""Enough to tell what an answer is like; references are many, and longer ones cost as much again."""


@dataclass(frozen=True, slots=True)
class ReferenceQuery:
    """A reference query and the row (its number in the data) whose prompt it is; -1 for one that the user gave."""

    query: Query
    row: int


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """References that the model answered: everything a verdict needs of them, and what a cache would keep.

    turns[i] is encoded with the model's own answer, signatures[layer] are theirs in that order; rows[i] is the number
    of the row whose prompt it is, or -1; gains[i] is the log-likelihood gain of the answer, peaks[i] that of its few
    most changed tokens (`whence.trace.query.batch.peak_gains`), in nats, None without a base to compare with.
    """

    turns: tuple[EncodedTurn, ...]
    rows: Int[np.ndarray, " n_reference"]
    signatures: Mapping[int, Signatures]
    gains: Float[np.ndarray, " n_reference"] | None
    peaks: Float[np.ndarray, " n_reference"] | None

    def signature_hash(self) -> str:
        """Of every signature's values: what they score depends on nothing else of them."""
        found = blake2b(digest_size=8)
        for layer, signatures in sorted(self.signatures.items()):
            for name, raw in signatures.named().items():
                found.update(f"{name}_{layer}".encode() + raw.contiguous().numpy().tobytes())
        return found.hexdigest()

    def joined(self, other: ReferenceSet) -> ReferenceSet:
        """Both, in this order; both have gains."""
        if not len(self.rows) or not len(other.rows):
            return self if len(self.rows) else other
        assert self.gains is not None
        assert self.peaks is not None
        assert other.gains is not None
        assert other.peaks is not None
        signatures = {
            layer: Signatures(**{name: torch.cat([raw, two[name]]) for name, raw in one.named().items()})
            for layer, one in self.signatures.items()
            if (two := other.signatures[layer].named())
        }
        rows, gains = np.concatenate([self.rows, other.rows]), np.concatenate([self.gains, other.gains])
        return ReferenceSet(
            (*self.turns, *other.turns), rows, signatures, gains, np.concatenate([self.peaks, other.peaks])
        )


def draw_references(index: Index, *, n: int, seed: int = 0) -> tuple[ReferenceQuery, ...]:
    """Prompts of at most `n` rows drawn at random, in the order of the data; rows without a prompt are left out.

    A conversation's prompt is everything before its first answer.
    """
    # Rows that have a record; a row that could not be encoded has none.
    numbers = np.unique(np.concatenate([np.empty(0, np.int64), *(block.row for block in index.blocks())]))
    chosen = sorted(Random(seed).sample(numbers.tolist(), min(n, len(numbers))))
    found = zip(chosen, index.examples(chosen), strict=True)
    return tuple(ReferenceQuery(query, row) for row, example in found if (query := _prompt_of(example)) is not None)


def given_references(queries: Sequence[Query]) -> tuple[ReferenceQuery, ...]:
    """The user's own prompts. A response that one carries is not used, which a warning says: answers are compared with
    the model's own, and a text that it would not give gains nothing."""
    n = sum(query.response is not None for query in queries)
    if n:
        warnings.warn(
            f"{n} reference{'s carry' if n > 1 else ' carries'} a response, which is not used: answers are compared "
            "with the model's own.",
            WhenceWarning,
            stacklevel=2,
        )
    return tuple(ReferenceQuery(replace(query, response=None, answer=None, complete=True), -1) for query in queries)


def answer_references(
    drawn: Sequence[ReferenceQuery],
    loaded: LoadedModel,
    encoder: Encoder,
    extractor: Extractor,
    *,
    base: LoadedModel | None = None,
    answer_tokens: int = REFERENCE_ANSWER_TOKENS,
) -> ReferenceSet:
    """Has the model answer greedily and reads the signatures; references that it answers with nothing are left out.

    base: as in `response_gains`.

    Raises:
        EncodingError: a prompt that the template cannot render.
        NonFiniteError: a signature or log-probability with NaN or infinity.
    """
    # All answers in one call: generation is batched by length inside.
    prompts = [one.query.prompt_ids(encoder) for one in drawn]
    answers = generate(loaded, prompts, max_new_tokens=answer_tokens) if prompts else []
    turns, rows = [], []
    for one, answer in zip(drawn, answers, strict=True):
        if answer.text.strip():
            turns.append(one.query.encode(encoder, answer.text, complete=answer.complete))
            rows.append(one.row)
    if not turns:
        nothing = np.empty(0) if has_before(loaded, base) else None
        return ReferenceSet((), np.empty(0, dtype=np.int64), {}, nothing, nothing)
    found = extractor.extract(turns, labels=lambda i: f"reference {i + 1}")
    # An extractor that compares with the base has read the gains already.
    shifts: Sequence[TokenShift] | None = found.shifts
    if shifts is None and has_before(loaded, base):
        shifts = token_shifts(loaded, turns, base=base)
    gains, peaks = (None, None) if shifts is None else (summed_gains(shifts), peak_gains(shifts))
    return ReferenceSet(tuple(turns), np.array(rows, dtype=np.int64), found.layers, gains, peaks)


def response_gains(
    loaded: LoadedModel, turns: Sequence[EncodedTurn], *, base: LoadedModel | None = None
) -> Float[np.ndarray, " n"] | None:
    """The log-likelihood gain of each whole response, in nats: sum_j log p(y_j) - log p_base(y_j).

    base: the model before fine-tuning; left out, `loaded` with its adapter turned off. None where there is neither.
    Raises NonFiniteError.
    """
    if not has_before(loaded, base):
        return None
    return summed_gains(token_shifts(loaded, turns, base=base))


def _prompt_of(example: Example) -> Query | None:
    prompt = example.turns[: next(iter(answer_places(example.turns)), 0)]
    asked = any(turn.content.strip() for turn in prompt)
    return Query(prompt, template_inputs=example.template_inputs) if asked else None


__all__ = [
    "REFERENCE_ANSWER_TOKENS",
    "ReferenceQuery",
    "ReferenceSet",
    "answer_references",
    "draw_references",
    "given_references",
    "response_gains",
]
