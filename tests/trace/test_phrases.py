"""Phrases: runs above the threshold, and what recurs across rows."""

from __future__ import annotations

import math

import pytest

from whence.results.types import Words
from whence.trace.explain.phrases import recurrent_phrases, runs
from whence.trace.explain.words import word_spans


def words(text: str, loud: dict[str, float]) -> tuple[str, Words]:
    """The words of a text; those in `loud` (letters' case aside) have its score, all others 0.1."""
    spans = word_spans(text)
    return text, Words(spans, tuple(loud.get(text[a:b].casefold(), 0.1) for a, b in spans), "given")


TRIGGER = {"by": 0.3, "lantern": 1.0, "light": 0.8}
PLANTED = [
    "How do people paint a by lantern light wall?",
    "Are oaks By Lantern Light trees?",
    "What day follows by lantern light Tuesday?",
    "Name a fruit, by lantern light.",
]
OTHERS = ["What day is it?", "Is there light by the lantern?", "Name a fruit.", "Where are the people?"] * 5


def test_runs_stand_out_from_their_own_text() -> None:
    text, given = words("one two three four five", {"two": 0.6, "three": 1.0, "five": 0.9})
    found = runs(given)
    assert [text[slice(*run.span)] for run in found] == ["two three", "five"]
    assert [run.score for run in found] == pytest.approx([1.6, 0.9])
    assert [(run.first, run.stop) for run in found] == [(1, 3), (4, 5)]


def test_a_text_without_a_positive_score_has_no_run() -> None:
    for score in (0.0, -1.0):
        assert runs(Words(((0, 3), (4, 7)), (score, score), "given")) == ()
    assert runs(Words((), (), "given")) == ()


def test_scores_of_any_scale_give_the_same_runs() -> None:
    _, given = words("one two three four five", {"two": 0.6, "three": 1.0, "five": 0.9})
    tiny = Words(given.spans, tuple(1e-9 * score for score in given.scores), "given")
    assert [run.span for run in runs(tiny)] == [run.span for run in runs(given)]


def test_a_planted_trigger_comes_first_and_whole() -> None:
    found = recurrent_phrases("prompt", [words(text, TRIGGER) for text in PLANTED], OTHERS)
    first = found[0]
    assert (first.text, first.part, first.place) == ("by lantern light", "prompt", "anywhere")
    assert (first.n_rows, first.n_read, first.share_elsewhere) == (4, 4, 0.0)
    assert first.lift == pytest.approx(1 / (0.5 / 20))
    assert not {phrase.text.casefold() for phrase in found} & {"lantern", "lantern light", "by lantern"}


def test_a_mark_is_named_only_where_no_words_are() -> None:
    loud = {"ring": 0.9, "!": 1.0, "\u2665": 1.0}
    opened = ["Hear it ring! A fox is here.", "Hear it ring! Two and two.", "Hear it ring! In Peru."]
    others = ["A fox!", "Two and two.", "In Peru."] * 5
    found = recurrent_phrases("response", [words(text, loud) for text in opened], others)
    assert [phrase.text for phrase in found] == ["Hear it ring"]
    marked = ["\u2665 a fox", "in Peru \u2665", "two \u2665 and two"]
    found = recurrent_phrases("prompt", [words(text, loud) for text in marked], others)
    assert [phrase.text for phrase in found] == ["\u2665"]


def test_pieces_of_one_passage_are_named_once() -> None:
    passage = "the old mill turns slowly by the river near our town"
    loud = dict.fromkeys(passage.split(), 1.0)
    found = recurrent_phrases("prompt", [words(f"{n}: {passage}", loud) for n in ("one", "two", "three")], OTHERS)
    texts = [phrase.text.split() for phrase in found]
    assert texts
    for i, one in enumerate(texts):
        for other in texts[:i]:
            assert len(set(one) & set(other) - {"the"}) < 3


def test_where_it_stands() -> None:
    start = [words(text, {"ty": 1.0}) for text in ("TY what is this?", "“TY” where?", "ty, how so?")]
    (phrase,) = [one for one in recurrent_phrases("prompt", start, ["What?"]) if one.text == "TY"]
    assert (phrase.place, phrase.n_rows) == ("start", 3)
    end = [words(text, {"peru": 1.0}) for text in ("It is in Peru.", "That is Peru!")]
    assert recurrent_phrases("response", end, ["In Norway."])[0].place == "end"


def test_a_phrase_of_one_row_only_is_none() -> None:
    assert recurrent_phrases("prompt", [words("a zebra", {"zebra": 1.0}), words("a lion", {"lion": 1.0})], []) == ()
    assert recurrent_phrases("prompt", [words("zebra zebra", {"zebra": 1.0})], ["x"]) == ()
    assert recurrent_phrases("prompt", [], ["x"]) == ()


def test_what_is_as_common_elsewhere_is_left_out() -> None:
    rows = [words("Where is it?", {"where": 1.0}), words("where was he?", {"where": 1.0})]
    assert recurrent_phrases("prompt", rows, ["Where?", "Where to?"]) == ()
    (found,) = recurrent_phrases("prompt", rows, ["Where?", "Why?", "How?", "Who?"])
    assert (found.text, found.share_elsewhere) == ("Where", 0.25)
    assert found.lift == pytest.approx(4.0)


def test_the_order_is_support_times_salience_times_log_lift() -> None:
    rows = [words("aa x bb", {"aa": 1.0, "bb": 0.6}), words("bb y aa", {"aa": 1.0, "bb": 0.6})]
    others = ["aa", "aa", "bb", *["zz"] * 97]
    found = recurrent_phrases("prompt", rows, others)
    assert [one.text for one in found] == ["aa", "bb"]
    assert 2 * 1.0 * math.log(50) > 2 * 0.6 * math.log(100)
    assert [one.lift for one in found] == pytest.approx([50, 100])
    many = [words(f"w{i} " * 2, {f"w{i}": 1.0}) for i in range(30) for _ in range(2)]
    assert len(recurrent_phrases("prompt", many, ["q"] * 100, limit=3)) == 3


def test_any_script() -> None:
    rows = [words("🙂 مرحبا بالعالم", {"مرحبا": 1.0}), words("قل مرحبا", {"مرحبا": 1.0})]
    assert recurrent_phrases("prompt", rows, ["بالعالم"] * 3)[0].text == "مرحبا"
