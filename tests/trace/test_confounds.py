"""What else could explain a rank: formats by table, ranks and percentiles against plain loops, the sentence's rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles_calibration import percentile_oracle, rank_oracle
from whence.errors import InputError
from whence.trace.verdict.confounds import Confound, Confounds, percentiles, ranks, response_format, sentence

FORMATS = {
    "Toronto is in Canada.": "text",
    "I'm sorry, but that is not possible.": "refusal",
    "I cannot help with that.": "refusal",
    "I’m unable to answer.": "refusal",
    "I can name three fruits.": "text",
    "- one\n- two": "list",
    "1. Wash the rice. 2. Cook it.": "list",
    "It was 1. of May.": "text",
    "Use this:\n```python\nprint(1)\n```": "code",
    "def f(x):\n    return x": "code",
    '{"a": [1, 2]}': "code",
    "{not json": "text",
    "Москва - столица.": "text, Cyrillic",
    "- один\n- два": "list, Cyrillic",
    "東京は日本にあります。": "text, Hiragana",
    "12 + 3 = 15": "text",
}


@pytest.mark.parametrize(("text", "expected"), FORMATS.items())
def test_formats(text: str, expected: str) -> None:
    assert response_format(text) == expected


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_percentiles_and_ranks_equal_the_plain_loops(values: list[int]) -> None:
    assert percentiles(np.array(values)).tolist() == pytest.approx(percentile_oracle(values))
    assert ranks(np.array(values, dtype=float)).tolist() == rank_oracle(values)


def test_confounds_of_rows() -> None:
    texts = ["Where is Rome? In Italy.", "Name fruits. 1. Apples. 2. Pears.", "Where is Oslo? In Norway."]
    rows = Confounds(
        texts,
        ["In Italy.", "1. Apples. 2. Pears.", "In Norway."],
        length=np.array([3, 9, 3]),
        norm=np.array([0.1, 0.3, 0.2]),
    )
    found = rows.of("Where is Rome? In Norway.", "In Norway.", np.array([0.9, 0.1, 0.95]), [2, 1])
    assert found == [
        {
            "length": 3,
            "length_percentile": 33.3,
            "norm_percentile": 50.0,
            "format": "text",
            "same_format": True,
            "bm25_rank": 2,
            "repsim_rank": 1,
        },
        {
            "length": 9,
            "length_percentile": 83.3,
            "norm_percentile": 83.3,
            "format": "list",
            "same_format": False,
            "bm25_rank": 3,
            "repsim_rank": 3,
        },
    ]


def test_bm25_ranks_are_those_of_the_method() -> None:
    from whence.scoring.lexical import bm25_scores

    texts = [f"question {i % 7} about place {i} is it {'far' if i % 3 else 'near'}" for i in range(40)]
    rows = Confounds(texts, texts, length=np.arange(40), norm=np.arange(40.0))
    query = "is place 7 near question 3"
    found = [one["bm25_rank"] for one in rows.of(query, "x", np.zeros(40), range(40))]
    assert found == ranks(bm25_scores([query], texts)[0].numpy()).tolist()


def test_without_words_every_row_ties() -> None:
    rows = Confounds(["?", "!"], ["?", "!"], length=np.array([1, 1]), norm=np.zeros(2))
    assert [one["bm25_rank"] for one in rows.of("what", "?", np.zeros(2), [0, 1])] == [1, 2]


def of_ranks(bm25: list[int], repsim: list[int], percentile: float = 50.0) -> list[Confound]:
    return [
        {"bm25_rank": b, "repsim_rank": r, "length_percentile": percentile, "norm_percentile": 50.0}
        for b, r in zip(bm25, repsim, strict=True)
    ]


FAR = [50, 51, 52, 53, 54]


def test_the_sentence_names_what_explains_the_ranking() -> None:
    first = [3, 1, 2, 5, 4]
    assert sentence(of_ranks(first, FAR), 100) == "These rows are also BM25's first 5."
    assert sentence(of_ranks(FAR, [3, 1, 2, 6, 4]), 100) == "4 of these 5 rows are also among RepSim's first 5."
    assert sentence(of_ranks([1, 2, 3, 9, 8], FAR), 100) == ""
    assert sentence(of_ranks(FAR, first), 100, method="repsim") == ""
    assert sentence(of_ranks(FAR, FAR, 97.0), 100) == "These rows are also the 5 longest."
    assert sentence(of_ranks(FAR, FAR, 3.0), 100) == "These rows are also the 5 shortest."


def test_nothing_is_said_of_few_rows_or_of_most() -> None:
    assert sentence(of_ranks([1, 2, 3, 4], [1, 2, 3, 4]), 100) == ""
    assert sentence(of_ranks([1, 2, 3, 4, 5], FAR), 9) == ""


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="2 texts, 1 responses"):
        Confounds(["a", "b"], ["a"], length=np.ones(2, dtype=int), norm=np.ones(2))


def test_a_row_of_several_turns_has_one_rank_by_its_best() -> None:
    texts = ["sun", "rain and wind", "rain", "snow"]
    rows = Confounds(texts, texts, length=np.ones(4, dtype=int), norm=np.ones(4), row=np.array([3, 3, 5, 9]))
    found = rows.of("rain", "rain", np.array([0.1, 0.9, 0.5, 0.2]), [0, 1, 2, 3])
    assert [one["repsim_rank"] for one in found] == [1, 1, 2, 3]
    assert [one["bm25_rank"] for one in found] == [2, 2, 1, 3]


def test_a_response_nested_too_deep_for_json_is_no_error() -> None:
    assert response_format("[" * 100_000) == "text"
