"""The search for the words of a prompt: which runs it reads, that it reads them rightly, and that it finds causes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from compared import made
from oracles import signature_oracle
from whence.trace.explain.prompt_attribution.comparison import without
from whence.trace.explain.prompt_attribution.search import RUN, Window, searching
from whence.trace.explain.prompt_words import prompt_words
from whence.trace.explain.words import word_tokens


def followed(n_words: int, rise: Callable[[Window], float]) -> tuple[list[float], dict[Window, float]]:
    """What a search over these rises ends with, and every window that it asked for, once each."""
    search, answers, asked = searching(n_words), None, {}
    while True:
        try:
            windows = search.send(answers)  # type: ignore[arg-type]
        except StopIteration as stop:
            return stop.value, asked
        assert windows
        assert not set(windows) & set(asked)
        answers = [rise(window) for window in windows]
        asked.update(zip(windows, answers, strict=True))


def share_of(*cause: int) -> Callable[[Window], float]:
    """A cause of several words: without any of them the loss rises by a third, without all of them by one."""

    def rise(window: Window) -> float:
        hit = sum(window[0] <= word < window[1] for word in cause)
        return 0.0 if hit == 0 else 1 / 3 + 2 / 3 * (hit - 1) / max(1, len(cause) - 1)

    return rise


@pytest.mark.parametrize("n_words", [1, 2, 3, 4, 7, 20, 31, 64, 300])
def test_each_word_is_left_out_and_runs_are_few(n_words: int) -> None:
    values, asked = followed(n_words, share_of(0))
    assert len(values) == n_words
    assert {word for window in asked for word in range(*window)} == set(range(n_words))
    assert all(0 <= start < stop <= n_words for start, stop in asked)
    assert len(asked) <= min(n_words / 3 + 6, 26)


@pytest.mark.parametrize("n_words", [5, 12, 40, 200])
def test_a_phrase_of_three_words_has_the_highest_values(n_words: int) -> None:
    for start in range(0, n_words - 2, max(1, n_words // 13)):
        phrase = [start, start + 1, start + 2]
        values, _ = followed(n_words, share_of(*phrase))
        highest = max(values)
        assert all(values[word] > highest / 2 for word in phrase), (start, values)


@pytest.mark.parametrize("n_words", [2, 5, 12, 40, 200])
def test_one_word_that_is_the_cause_alone_stands_alone(n_words: int) -> None:
    for cause in range(0, n_words, max(1, n_words // 17)):
        values, _ = followed(n_words, lambda window: float(window[0] <= cause < window[1]))  # noqa: B023
        assert values[cause] == 1
        assert all(abs(value) < 1e-12 for word, value in enumerate(values) if word != cause)


def test_values_are_means_over_the_windows_by_their_definition() -> None:
    for n_words in (6, 45):
        values, asked = followed(n_words, lambda window: 0.0 if window[1] - window[0] == 1 else window[0] ** 2 % 7 + 1)
        runs = {window: rise for window, rise in asked.items() if window[1] - window[0] >= RUN}
        for word, value in enumerate(values):
            own = [rise * min(1, RUN / (stop - start)) for (start, stop), rise in runs.items() if start <= word < stop]
            assert value == pytest.approx(sum(own) / len(own))


def test_rises_are_those_of_whole_passes() -> None:
    comparison, turns = made()
    weights = [torch.arange(1, turn.n_response + 1, dtype=torch.float64) for turn in turns]
    score = comparison.against_query(comparison.block(turns[:1]))
    found = prompt_words(comparison, turns, score, weights, "loss-occlusion-search")
    for turn, own, words in zip(turns, weights, found, strict=True):
        tokens = word_tokens(turn, "prompt")[1]

        def loss(gone: set[int], turn=turn, own=own) -> float:  # type: ignore[no-untyped-def]
            return signature_oracle(comparison.loaded.model, without(turn, gone), 4, own / own.sum())[4]

        def rise(window: Window, loss=loss, tokens=tokens) -> float:  # type: ignore[no-untyped-def]
            return loss({token for word in range(*window) for token in tokens[word]}) - loss(set())

        expected, _ = followed(len(tokens), rise)
        assert words.scores == pytest.approx(expected, abs=1e-9)
        assert words.word_method == "loss-occlusion-search"
