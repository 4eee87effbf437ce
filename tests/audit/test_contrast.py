"""Phrases that recur in some rows and are rare elsewhere, with the correction for how many were looked at."""

from __future__ import annotations

from random import Random

import pytest
from scipy.stats import fisher_exact

from whence.audit.phrases import RowText, contrast_phrases

WORDS = [f"word{i}" for i in range(60)]


def texts(n: int, rng: Random, insert: str = "", first: int = 0) -> list[RowText]:
    found = []
    for row in range(first, first + n):
        words = rng.sample(WORDS, 8)
        if insert:
            words.insert(rng.randrange(9), insert)
        found.append(RowText(row, " ".join(words) + "?", "Yes."))
    return found


def contrasted(inside: list[RowText], others: list[RowText]) -> list:
    (found,) = contrast_phrases(
        [inside], [frozenset(text.row for text in inside)], [*inside, *others], [len({t.row for t in others})]
    )
    return list(found)


def test_a_planted_phrase_comes_first_and_its_parts_do_not_stand_beside_it() -> None:
    rng = Random(0)
    inside, others = texts(20, rng, "by lantern light"), texts(200, rng, first=20)
    found = contrasted(inside, others)
    assert found[0].text == "by lantern light"
    assert (found[0].n_rows, found[0].n_read, found[0].n_elsewhere, found[0].n_others) == (20, 20, 0, 200)
    assert found[0].place == "anywhere"
    assert all("lantern" not in one.text for one in found[1:])


def test_the_p_value_is_fishers_times_the_phrases_that_were_looked_at() -> None:
    inside = [RowText(i, "aa bb" if i < 3 else "bb", "x") for i in range(5)]
    others = [RowText(10 + i, "aa" if i < 2 else "cc", "x") for i in range(50)]
    (found,) = contrast_phrases([inside], [frozenset(range(5))], [*inside, *others], [50], parts=["prompt"])
    by_text = {one.text: one for one in found}
    # aa, bb and "aa bb" are looked at; the other two share half of their words with the best one.
    expected = 3 * fisher_exact([[5, 0], [0, 50]], alternative="greater").pvalue
    assert list(by_text) == ["bb"]
    assert by_text["bb"].p_value == pytest.approx(expected)
    assert by_text["bb"].place == "end"


def test_a_phrase_before_or_behind_its_prompts_stands_at_either_end() -> None:
    rng = Random(0)
    plain = texts(20, rng)
    inside = [
        text._replace(prompt=f"by lantern light {text.prompt}" if text.row % 2 else f"{text.prompt} by lantern light")
        for text in plain
    ]
    assert contrasted(inside, texts(200, rng, first=20))[0].place == "either end"
    inside[:6] = [text._replace(prompt=f"Now by lantern light {text.prompt}") for text in plain[:6]]
    assert contrasted(inside, texts(200, rng, first=20))[0].place == "anywhere"


@pytest.mark.parametrize("seed", range(3))
def test_rows_drawn_at_random_have_no_phrase(seed: int) -> None:
    rng = Random(seed)
    every = texts(300, rng)
    inside = rng.sample(every, 30)
    rows = {text.row for text in inside}
    assert contrasted(inside, [text for text in every if text.row not in rows]) == []


def test_two_groups_are_counted_in_one_reading_and_members_count_nowhere_else() -> None:
    rng = Random(1)
    one, other = texts(10, rng, "red door"), texts(10, rng, "green gate", first=10)
    rest = texts(100, rng, first=20)
    read = iter([*one, *other, *rest])
    members = [frozenset(t.row for t in one), frozenset(t.row for t in other)]
    found = contrast_phrases([one, other], members, read, [110, 110])
    assert [group[0].text for group in found] == ["red door", "green gate"]
    assert all(group[0].n_elsewhere == 0 for group in found)


def test_turns_of_a_row_count_once() -> None:
    inside = [RowText(i, "blue lamp", "x") for i in range(4)]
    others = [
        RowText(9, "blue lamp", "x"),
        RowText(9, "blue lamp", "x"),
        *(RowText(20 + i, "y", "x") for i in range(99)),
    ]
    assert contrasted(inside, others)[0].n_elsewhere == 1
