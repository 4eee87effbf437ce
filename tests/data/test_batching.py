"""Batches are a partition under a budget, and waste little."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.data.batching import batches, length_batches
from whence.data.examples import EncodedTurn
from whence.errors import InputError


def turn(n_prompt: int, n_response: int) -> EncodedTurn:
    n = n_prompt + n_response
    return EncodedTurn(0, (1,) * n, n_prompt, "", ((0, 0),) * n, "", "")


LENGTHS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=40)


@given(LENGTHS, st.integers(1, 400), st.integers(1, 9))
def test_a_partition_within_the_budget(lengths: list[tuple[int, int]], max_tokens: int, max_batch: int) -> None:
    turns = [turn(*pair) for pair in lengths]
    groups = list(batches(turns, max_tokens=max_tokens, max_batch=max_batch))
    assert sorted(i for group in groups for i in group) == list(range(len(turns)))
    for group in groups:
        cost = len(group) * (max(turns[i].n_prompt for i in group) + max(turns[i].n_response for i in group))
        assert 1 <= len(group) <= max_batch
        assert cost <= max_tokens or len(group) == 1
    assert groups == list(batches(turns, max_tokens=max_tokens, max_batch=max_batch))


@given(LENGTHS, st.integers(1, 400), st.integers(1, 9))
def test_whole_lengths_are_a_partition_within_the_budget_too(
    lengths: list[tuple[int, int]], max_tokens: int, max_batch: int
) -> None:
    turns = [turn(*pair) for pair in lengths]
    groups = list(length_batches(turns, max_tokens=max_tokens, max_batch=max_batch))
    assert sorted(i for group in groups for i in group) == list(range(len(turns)))
    for group in groups:
        assert 1 <= len(group) <= max_batch
        assert len(group) * max(sum(lengths[i]) for i in group) <= max_tokens or len(group) == 1
    together = [sum(lengths[i]) for group in groups for i in group]
    assert together == sorted(together)


@given(LENGTHS, st.randoms(use_true_random=False))
def test_the_order_of_the_turns_does_not_change_the_batches(
    lengths: list[tuple[int, int]], shuffle: random.Random
) -> None:
    def shapes(pairs: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        turns = [turn(*pair) for pair in pairs]
        return [[pairs[i] for i in group] for group in batches(turns, max_tokens=200)]

    shuffled = list(lengths)
    shuffle.shuffle(shuffled)
    assert shapes(lengths) == shapes(shuffled)


def test_batches_by_hand() -> None:
    turns = [turn(9, 1), turn(2, 2), turn(50, 50), turn(2, 2), turn(2, 1)]
    assert list(batches(turns, max_tokens=12)) == [[4, 1, 3], [0], [2]]
    assert list(batches(turns, max_tokens=12, max_batch=2)) == [[4, 1], [3], [0], [2]]
    assert list(batches([], max_tokens=12)) == []


def padding_share(turns: list[EncodedTurn], groups: list[list[int]]) -> float:
    """Share of the batches' tokens that is padding, in [0, 1): 1 - real / laid-out tokens."""
    real = sum(turns[i].n_prompt + turns[i].n_response for group in groups for i in group)
    laid_out = sum(
        len(group) * (max(turns[i].n_prompt for i in group) + max(turns[i].n_response for i in group))
        for group in groups
    )
    return 1 - real / laid_out


def test_sorting_wastes_less_than_the_given_order() -> None:
    source = random.Random(0)
    turns = [turn(source.randint(5, 200), source.randint(1, 40)) for _ in range(500)]
    groups = list(batches(turns, max_tokens=4096))
    given_order = [list(range(at, min(at + 16, 500))) for at in range(0, 500, 16)]
    assert padding_share(turns, groups) < 0.2
    assert padding_share(turns, given_order) > 0.4


@pytest.mark.parametrize("limits", [{"max_tokens": 0}, {"max_tokens": 8, "max_batch": 0}])
def test_limits_below_one(limits: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected at least 1 of each"):
        batches([], **limits)
