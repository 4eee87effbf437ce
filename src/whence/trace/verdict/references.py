"""Reference queries: ordinary prompts with the model's own answers, against which a verdict is calibrated.

They are drawn from the training data's own prompts, or given by the user, who may know prompts that are surely benign.
One `generate` and one extraction cover them all, and the signatures hold for every query against the same index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from jaxtyping import Float, Int

from whence.data import ASSISTANT, EncodedTurn, Encoder, Example
from whence.index import Index
from whence.model import LoadedModel, generate, has_before, token_shifts
from whence.signatures import Extractor, Signatures
from whence.trace.query.queries import Query

ANSWER_TOKENS = 64
"""Enough to tell what an answer is like; references are many, and longer ones cost as much again."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A reference query and the row (its number in the data) whose prompt it is; -1 for one that the user gave."""

    query: Query
    row: int


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """References that the model answered: everything a verdict needs of them, and what a cache would keep.

    turns[i] is encoded with the model's own answer, signatures[layer] are theirs in that order; rows[i] is the number
    of the row whose prompt it is, or -1; rises[i], in nats, how much likelier fine-tuning made the answer, None without
    a base to compare with.
    """

    turns: tuple[EncodedTurn, ...]
    rows: Int[np.ndarray, " n_reference"]
    signatures: Mapping[int, Signatures]
    rises: Float[np.ndarray, " n_reference"] | None


def draw_references(index: Index, *, n: int, seed: int = 0, where: str | None = None) -> tuple[Drawn, ...]:
    """Prompts of at most `n` rows drawn at random, in the order of the data; rows without a prompt are left out.

    A conversation's prompt is everything before its first answer. Raises InputError for a filter that is none.
    """
    numbers = np.unique(np.concatenate([np.empty(0, np.int64), *(block.row for block in index.blocks(where=where))]))
    chosen = sorted(Random(seed).sample(numbers.tolist(), min(n, len(numbers))))
    found = zip(chosen, index.examples(chosen), strict=True)
    return tuple(Drawn(query, row) for row, example in found if (query := _prompt_of(example)) is not None)


def given_references(queries: Sequence[Query]) -> tuple[Drawn, ...]:
    """The user's own queries; a response that one carries is kept and not asked for again."""
    return tuple(Drawn(query, -1) for query in queries)


def answer_references(
    drawn: Sequence[Drawn],
    loaded: LoadedModel,
    encoder: Encoder,
    extractor: Extractor,
    *,
    base: LoadedModel | None = None,
    answer_tokens: int = ANSWER_TOKENS,
) -> ReferenceSet:
    """Has the model answer greedily and reads the signatures; references that it answers with nothing are left out.

    base: as in `response_rises`.

    Raises:
        EncodingError: a prompt that the template cannot render.
        NonFiniteError: a signature or log-probability with NaN or infinity.
    """
    silent = [one for one in drawn if one.query.response is None]
    prompts = [encoder.render_prompt(one.query.turns) for one in silent]
    answers = iter(generate(loaded, prompts, max_new_tokens=answer_tokens) if prompts else [])
    turns, rows = [], []
    for one in drawn:
        text, complete = one.query.response, True
        if text is None:
            answer = next(answers)
            text, complete = answer.text, answer.complete
        if text.strip():
            turns.append(encoder.encode_query(one.query.turns, text, complete=complete))
            rows.append(one.row)
    signatures = extractor.extract(turns, labels=lambda i: f"reference {i + 1}").layers if turns else {}
    return ReferenceSet(
        tuple(turns), np.array(rows, dtype=np.int64), signatures, response_rises(loaded, turns, base=base)
    )


def response_rises(
    loaded: LoadedModel, turns: Sequence[EncodedTurn], *, base: LoadedModel | None = None
) -> Float[np.ndarray, " n"] | None:
    """How much likelier fine-tuning made each whole response, in nats: sum_j log p(y_j) - log p_base(y_j).

    base: the model before fine-tuning; left out, `loaded` with its adapter turned off. None where there is neither.
    Raises NonFiniteError.
    """
    if not has_before(loaded, base):
        return None
    return np.array([float(change.gain.double().sum()) for change in token_shifts(loaded, turns, base=base)])


def _prompt_of(example: Example) -> Query | None:
    first = next((i for i, turn in enumerate(example.turns) if turn.role == ASSISTANT), 0)
    prompt = example.turns[:first]
    return Query(prompt) if any(turn.content.strip() for turn in prompt) else None
