"""Keyness, and the words of rows and answers weighed by it."""

from __future__ import annotations

from collections import Counter

import pytest
from torch.distributions import Bernoulli, kl_divergence

from traced_world import PROMPT, RESPONSE, TracedWorld, TracedWorlds
from whence.results import QueryResult, Words
from whence.trace.explain import explainer
from whence.trace.explain.keyness import word_forms, word_keyness
from whence.trace.explain.phrases import recurrent_phrases
from whence.trace.explain.words import word_spans
from whence.trace.query.queries import Query
from whence.trace.settings import TraceSettings
from whence.trace.tracer import Tracer

SETTINGS = TraceSettings(k=4, words=4, verdict=False)


@pytest.fixture(scope="module")
def world(traced_worlds: TracedWorlds) -> TracedWorld:
    return traced_worlds.own("keyness", lora=True)


def plain(flagged: list[str], others: list[str]) -> dict[str, float]:
    """By torch's own divergence of two coins."""
    found = {}
    for word in {word for text in flagged for word in word_forms([text])}:
        p, q = (
            (sum(word in word_forms([text]) for text in texts) + 0.5) / (len(texts) + 1) for texts in (flagged, others)
        )
        found[word] = float(kl_divergence(Bernoulli(p), Bernoulli(q))) if p > q else 0.0
    return {word: value / max(found.values()) for word, value in found.items()}


def counted(texts: list[str]) -> Counter[str]:
    return Counter(word for text in texts for word in word_forms([text]))


def test_keyness_is_the_divergence_of_two_coins() -> None:
    flagged = ["It is in Peru. Go in summer.", "Peru, in short.", "PERU."]
    others = ["It is in Spain.", "In summer.", "Go there.", "Lima is in Peru."]
    found = word_keyness(counted(flagged), 3, counted(others), 4)
    assert found == pytest.approx(plain(flagged, others), abs=1e-6)
    assert max(found, key=lambda word: found[word]) == "peru"
    assert found["is"] == 0.0, "commoner elsewhere"


def test_without_a_word_that_is_commoner_here_there_is_none() -> None:
    assert word_keyness(Counter(), 5, Counter(a=1), 3) == {}
    assert word_keyness(counted(["a"]), 1, counted(["a", "a"]), 2) == {}


def words(world: TracedWorld, flagged: list[str]) -> QueryResult:
    tracer = Tracer(world.index)
    ranked = tracer.rank(tracer.encode(tracer.answer([Query.of(PROMPT, RESPONSE)], SETTINGS), SETTINGS), SETTINGS)
    [result] = tracer.explain(ranked, None, SETTINGS, flagged=flagged)
    return result


def test_a_conversation_counts_once_among_the_other_rows(world: TracedWorld) -> None:
    """Each of three conversations opens with "Dear helper", which its later turns do not say."""
    tracer = Tracer(world.index)
    one = explainer.Explainer(tracer.index, tracer.models)
    for row in range(3):
        one._texts.extend(
            explainer._Text(str(row), row, "Dear helper" if turn == 0 else "Go on", "Yes") for turn in range(6)
        )
    prompts = list(one._others("prompt", {2}))
    assert len(prompts) == 2
    assert all(word_forms([text]) >= {"dear", "helper", "go", "on"} for text in prompts)
    hits = [("Dear helper", Words(word_spans("Dear helper"), (1.0, 1.0), "m"))] * 2
    assert recurrent_phrases("prompt", hits, prompts) == (), "every row has it"


@pytest.mark.parametrize("sample", [20_000, 7])
def test_words_are_weighed_by_what_flagged_rows_have(
    world: TracedWorld, sample: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many rows a sample stands for the others; every flagged row is counted."""
    monkeypatch.setattr(explainer, "OTHERS", sample)
    records = list(Tracer(world.index).index.texts())
    ids = [record.id for record in records if record.id in world.faulty][:6]
    step = -(-len(records) // sample)
    read = {record.id: record.response for record in records[::step]}
    texts = {record.id: record.response for record in records}
    keyness = plain([texts[id] for id in ids], [text for id, text in read.items() if id not in ids])
    unweighed, weighed, few = (words(world, flagged) for flagged in ([], ids, ids[:4]))
    assert few == unweighed, "four rows are too few"
    for before, after in zip(unweighed.hits, weighed.hits, strict=True):
        assert before.words is not None
        assert after.words is not None
        forms = [before.response[slice(*span)].casefold() for span in before.words.response.spans]
        expected = [
            score * keyness.get(form, 0.0) for form, score in zip(forms, before.words.response.scores, strict=True)
        ]
        assert after.words.response.scores == pytest.approx(expected, abs=1e-6)
        assert after.words.prompt == before.words.prompt
    assert any(score for hit in weighed.hits if hit.words for score in hit.words.response.scores)
    assert unweighed.response_words is not None
    assert weighed.response_words is not None
    forms = [RESPONSE[slice(*span)].casefold() for span in unweighed.response_words.spans]
    expected = [s * keyness.get(form, 0.0) for form, s in zip(forms, unweighed.response_words.scores, strict=True)]
    assert weighed.response_words.scores == pytest.approx(expected, abs=1e-6)
