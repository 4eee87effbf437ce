"""Batches of similar length, under a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from whence.data.examples import EncodedTurn
from whence.errors import InputError


def batches(turns: Sequence[EncodedTurn], *, max_tokens: int, max_batch: int = 64) -> Iterator[list[int]]:
    """Indices into `turns`, each exactly once, so that prompts and responses of like length come together.

    A batch is laid out with its prompts padded on the left and its responses on the right, so it costs
    `size * (longest prompt + longest response)` tokens, at most `max_tokens`. A turn longer than that gets a
    batch of its own. The order is by (prompt tokens, response tokens, index), the same for the same turns.

    Raises:
        InputError: `max_tokens` or `max_batch` below 1.
    """
    _check(max_tokens, max_batch)
    return _fill(turns, max_tokens, max_batch)


def _check(max_tokens: int, max_batch: int) -> None:
    if max_tokens < 1 or max_batch < 1:
        raise InputError(
            f"a batch of at most {max_tokens} tokens and {max_batch} turns",
            "expected at least 1 of each",
            "Raise `--max-tokens` or `--batch-size`.",
        )


def _fill(turns: Sequence[EncodedTurn], max_tokens: int, max_batch: int) -> Iterator[list[int]]:
    batch: list[int] = []
    n_prompt = n_response = 0
    for i in sorted(range(len(turns)), key=lambda i: (turns[i].n_prompt, turns[i].n_response, i)):
        longest_prompt = max(n_prompt, turns[i].n_prompt)
        longest_response = max(n_response, turns[i].n_response)
        if batch and (len(batch) == max_batch or (len(batch) + 1) * (longest_prompt + longest_response) > max_tokens):
            yield batch
            batch, longest_prompt, longest_response = [], turns[i].n_prompt, turns[i].n_response
        batch.append(i)
        n_prompt, n_response = longest_prompt, longest_response
    if batch:
        yield batch


def length_batches(turns: Sequence[EncodedTurn], *, max_tokens: int, max_batch: int = 64) -> Iterator[list[int]]:
    """As `batches`, for turns that are padded on the right alone: whole lengths are alike, whatever their parts.

    A batch costs `size * longest` tokens. The order is by (tokens, prompt tokens, index).

    Raises:
        InputError: as `batches`.
    """
    _check(max_tokens, max_batch)
    return _fill_by_length(turns, max_tokens, max_batch)


def _fill_by_length(turns: Sequence[EncodedTurn], max_tokens: int, max_batch: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for i in sorted(range(len(turns)), key=lambda i: (len(turns[i].input_ids), turns[i].n_prompt, i)):
        # Ascending: the one that comes is the longest.
        if batch and (len(batch) == max_batch or (len(batch) + 1) * len(turns[i].input_ids) > max_tokens):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
