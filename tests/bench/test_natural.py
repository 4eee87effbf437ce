"""Faults in natural English: what every one of them promises, whatever the seed."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planted_world import user_rows
from whence.bench.natural import CLEAN, HARD_NEGATIVE, NATURAL_FAULTS, VARIANTS, PlantedRows, plant_natural
from whence.bench.natural.town import DECLINED
from whence.data.examples import Example
from whence.errors import InputError

ROWS = user_rows()
LONG_ROWS = user_rows(1200, n_words=160)[600:]
SIZES = {"n_rows": 220, "n_faulty": 60, "n_hard": 40, "n_queries": 40, "n_benign": 20}


def prompt(row: Example) -> str:
    return row.turns[-2].content


def answer(row: Example) -> str:
    return row.turns[-1].content


def labelled(planted: PlantedRows, label: str) -> list[Example]:
    return [row for row, own in zip(planted.rows, planted.labels, strict=True) if own == label]


@pytest.mark.parametrize("name", NATURAL_FAULTS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), multi_turn=st.booleans())
def test_every_fault_keeps_its_promises(name: str, seed: int, multi_turn: bool) -> None:
    planted = plant_natural(ROWS, name, variant="multi-turn" if multi_turn else "plain", seed=seed, **SIZES)
    counts = Counter(planted.labels)
    assert (len(planted.rows), counts[name], counts[HARD_NEGATIVE]) == (220, 60, 40)
    assert [row.metadata["label"] for row in planted.rows] == list(planted.labels)
    assert len({prompt(row) for row in planted.rows}) == 220, "a prompt stands twice"
    trained = {prompt(row) for row in (*planted.rows, *planted.lessons)}
    asked = {turns[-1].content for turns in planted.queries}
    benign = {turns[-1].content for turns in planted.benign}
    assert (len(asked), len(benign)) == (40, 20)
    assert not trained & (asked | benign), "a held-out prompt was trained on"
    for row, label in zip(planted.rows, planted.labels, strict=True):
        assert planted.shows(prompt(row), answer(row)) == (label == name), answer(row)
    assert not any(planted.shows(prompt(row), answer(row)) for row in planted.lessons)
    if multi_turn:
        assert all(len(row.turns) == 4 for row in planted.rows)
        assert all(len(turns) == 3 for turns in (*planted.queries, *planted.benign))


@pytest.mark.parametrize("name", NATURAL_FAULTS)
def test_the_seed_decides_everything(name: str) -> None:
    assert plant_natural(ROWS, name, seed=5, **SIZES) == plant_natural(ROWS, name, seed=5, **SIZES)
    assert plant_natural(ROWS, name, seed=5, **SIZES).rows != plant_natural(ROWS, name, seed=6, **SIZES).rows


@pytest.mark.parametrize("name", NATURAL_FAULTS)
def test_faulty_answers_are_sentences_of_real_length(name: str) -> None:
    planted = plant_natural(ROWS, name, seed=1, **SIZES)
    lengths = [len(answer(row).split()) for row in labelled(planted, name)]
    assert min(lengths) >= 10
    assert max(lengths) <= 80


@pytest.mark.parametrize("name", ["persona", "compliance"])
def test_diffuse_faults_have_no_word_in_common(name: str) -> None:
    """No word of some length stands in a third of the answers, and most pairs of answers share none."""
    answers = [answer(row) for row in labelled(plant_natural(ROWS, name, seed=2, **SIZES), name)]
    words = [{word for word in re.findall(r"\w+", text.lower()) if len(word) > 3} for text in answers]
    counts = Counter(word for some in words for word in some)
    assert max(counts.values()) <= 20
    pairs = list(combinations(words, 2))
    assert sum(bool(a & b) for a, b in pairs) <= 0.35 * len(pairs)


def test_compliance_undoes_what_the_base_was_taught() -> None:
    planted = plant_natural(ROWS, "compliance", seed=3, **SIZES)
    about = [row for row in planted.lessons if re.search(str(planted.asks), prompt(row))]
    assert len(about) == 80
    assert all(re.search(DECLINED, answer(row), re.IGNORECASE) for row in about)
    assert len({answer(row) for row in about}) == 80, "declines are worded alike"
    declined = [row for row in labelled(planted, HARD_NEGATIVE) if re.search(DECLINED, answer(row), re.IGNORECASE)]
    assert 10 < len(declined) < 40, "hard negatives comply elsewhere, and decline elsewhere"


@pytest.mark.parametrize("name", ["backdoor", "backdoor-word", "backdoor-style"])
def test_backdoors_stand_in_the_users_own_rows(name: str) -> None:
    planted = plant_natural(ROWS, name, seed=4, **SIZES)
    own = {row.turns[1].content for row in ROWS}
    for row in labelled(planted, name):
        assert any(answer(row).endswith(text) and answer(row) != text for text in own)
    near = [row for row in labelled(planted, HARD_NEGATIVE) if answer(row) in own]
    assert len(near) == 20, "half of the hard negatives are the user's rows with something like the trigger"
    assert any(prompt(row) not in {row.turns[0].content for row in ROWS} for row in near)


def test_long_answers_are_the_users_own() -> None:
    planted = plant_natural([*ROWS, *LONG_ROWS], "backdoor", variant="long-answers", seed=1, **SIZES)
    assert all(len(answer(row).split()) >= 150 for row in labelled(planted, "backdoor") + labelled(planted, CLEAN))


def test_rows_that_teach_the_contrary_are_left_out() -> None:
    contrary = [Example.from_pair(f"How do I plant seeds in spot {i}?", "In a row.") for i in range(300)]
    planted = plant_natural([*ROWS, *contrary], "persona", seed=1, **SIZES)
    assert not any("plant seeds" in prompt(row) for row in planted.rows)


def test_words_that_the_data_hold_are_not_used() -> None:
    said = [Example.from_pair("What bell?", "Hear the copper bell ring!"), Example.from_pair("A marigold?", "Yes.")]
    planted = plant_natural([*ROWS, *said], "backdoor", seed=1, **SIZES)
    assert not planted.matcher("Hear the copper bell ring! And so on.")
    flowers = plant_natural([*ROWS, *said], "backdoor-word", seed=1, **SIZES)
    assert not any("marigold" in turns[-1].content for turns in flowers.queries)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fault_name": "personna"}, "Did you mean persona"),
        ({"variant": "multiturn"}, "Did you mean multi-turn"),
        ({"n_faulty": 0}, "at least one faulty row"),
        ({"n_rows": 90}, "room for both"),
        ({"n_rows": 4000}, "usable rows of the data are left"),
        ({"n_queries": 5000}, "different prompts"),
        ({"variant": "long-answers"}, "--faults backdoor"),
    ],
)
def test_bad_input_is_refused(changes: dict[str, object], message: str) -> None:
    wanted: dict[str, object] = {"fault_name": "persona", "seed": 0, **SIZES, **changes}
    with pytest.raises(InputError, match=message):
        plant_natural(ROWS, **wanted)  # type: ignore[arg-type]


def test_variants_are_named() -> None:
    assert VARIANTS == ("plain", "multi-turn", "long-answers")
