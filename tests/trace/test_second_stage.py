"""Asking about a span or a wanted answer: the first rows are read again, and their words are told."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from traced_world import N_FAULTY, PROMPT, RESPONSE, TracedWorld, TracedWorlds
from whence.data.examples import EncodedTurn, Turn
from whence.errors import InputError
from whence.index.best_rows import Match
from whence.signatures.extract import Extractor
from whence.trace.query.queries import Query
from whence.trace.query.spans import span_positions
from whence.trace.query.targets import QueryTarget, query_target, span_target, wanted_target
from whence.trace.rank import ranking
from whence.trace.rank.reranking import rerank
from whence.trace.settings import TraceOptions, TraceSettings
from whence.trace.tracer import Tracer

WANTED = "the sea, the sea and the boat"


@pytest.fixture(scope="module")
def world(traced_worlds: TracedWorlds) -> TracedWorld:
    return traced_worlds.own("traced", lora=True)


@pytest.fixture(scope="module")
def tracer(world: TracedWorld) -> Tracer:
    return Tracer(world.index)


def plainly(tracer: Tracer, target: QueryTarget, k: int) -> list[tuple[str, float]]:
    """All rows, ranked and then read again without any shortcut: ids and scores."""
    (first,) = tracer.trace(PROMPT, RESPONSE, k=tracer.index.n_rows, verdict=False)
    lines = [hit.line - 1 for hit in first.hits]
    turns = [tracer.encoder.encode(example)[0] for example in tracer.index.examples(lines)]
    layer = tracer.loaded.n_layers
    centre = tracer.index.centres[layer, "m"]
    scores = torch.tensor([hit.score for hit in first.hits])
    share = torch.tensor([max(0.0, 1 - math.exp(-tracer.index.log_likelihood_gains()[line])) for line in lines])
    best = 2 * rerank(tracer.loaded, layer, target, turns, scores, centre=centre) - scores
    reranked = ((scores + share * best) / 2).tolist()
    order = sorted(range(len(lines)), key=lambda i: (-reranked[i], lines[i]))
    return [(first.hits[i].id, reranked[i]) for i in order[:k]]


def encoded(tracer: Tracer, response: str = RESPONSE):
    return tracer.encoder.encode_query((Turn("user", PROMPT),), response)


def check(found, expected: list[tuple[str, float]]) -> None:
    assert [hit.id for hit in found.hits] == [id for id, _ in expected]
    assert [hit.score for hit in found.hits] == pytest.approx([score for _, score in expected], abs=1e-5)
    assert found.method_version == "7+rerank 4"


def test_a_span_ranks_by_the_words_in_question(tracer: Tracer) -> None:
    start = RESPONSE.index("wind")
    turn = encoded(tracer)
    positions = span_positions(turn, (start, start + 4))
    expected = plainly(tracer, span_target(tracer.loaded, [tracer.loaded.n_layers], turn, positions), 30)
    (by_text,) = tracer.trace(PROMPT, RESPONSE, k=30, span="wind", verdict=False)
    check(by_text, expected)
    assert by_text.span == (start, start + 4)
    (by_place,) = tracer.trace(PROMPT, RESPONSE, k=30, span=(start, start + 4), verdict=False)
    (by_tokens,) = tracer.trace(PROMPT, RESPONSE, k=30, span_tokens=(positions[0], positions[-1] + 1), verdict=False)
    assert by_place.hits == by_text.hits == by_tokens.hits


def test_a_wanted_answer_ranks_by_what_stands_in_its_place(tracer: Tracer) -> None:
    target = wanted_target(tracer.loaded, [tracer.loaded.n_layers], encoded(tracer), encoded(tracer, WANTED))
    (result,) = tracer.trace(PROMPT, RESPONSE, k=30, wanted=WANTED, verdict=False)
    check(result, plainly(tracer, target, 30))
    assert (result.wanted, result.span) == (WANTED, None)


def test_only_the_first_rows_are_read_again(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "RERANK_ROWS", 5)
    read: list[int] = []
    plain = ranking.rerank
    monkeypatch.setattr(ranking, "rerank", lambda *a, **k: read.append(len(a[3])) or plain(*a, **k))
    (first,) = tracer.trace(PROMPT, RESPONSE, k=5, verdict=False)
    (few,) = tracer.trace(PROMPT, RESPONSE, k=3, span="wind", verdict=False)
    assert {hit.id for hit in few.hits} <= {hit.id for hit in first.hits}
    tracer.trace(PROMPT, RESPONSE, k=9, span="wind", verdict=False)
    assert read == [5, 9]
    assert first.method_version == "7"


def test_without_a_centre_in_the_index_the_candidates_own_mean_is_taken(tracer: Tracer) -> None:
    layer = tracer.loaded.n_layers
    bare = {key: centre for key, centre in tracer.index.centres.items() if key[0] != layer}
    (first,) = tracer.trace(PROMPT, RESPONSE, k=tracer.index.n_rows, verdict=False)
    matches = [Match(hit.score, hit.line - 1, hit.turn, hit.line - 1) for hit in first.hits]
    target = query_target(tracer.loaded, tracer.encoder, Query.of(PROMPT), encoded(tracer), span="wind")
    found, expected = (
        ranking.reranked(index, tracer.loaded, tracer.encoder, target, matches, 20)
        for index in (replace(tracer.index, centres=bare), tracer.index)
    )
    assert len(found) == 20
    # Of all rows, the mean over the candidates is the mean over the index, but for its rounding to float16.
    assert [match.score for match in found] == pytest.approx([match.score for match in expected], abs=2e-3)


def test_a_row_is_read_once_for_all_queries(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = Extractor.extract

    def counted(self: Extractor, turns: list[EncodedTurn], **options: Any) -> Any:
        if options.get("token_errors") and len(turns) > 1:  # not the query itself
            read.append(len(turns))
        return plain(self, turns, **options)

    monkeypatch.setattr(Extractor, "extract", counted)
    queries = [Query.of(PROMPT, RESPONSE), Query.of(f"Say: {PROMPT}", RESPONSE)]
    every = tracer.index.n_rows
    together = tracer.trace_many(queries, k=every, span="wind", verdict=False).queries
    alone = [tracer.trace_many([query], k=every, span="wind", verdict=False).queries[0] for query in queries]
    assert sum(read) == 3 * every
    for one, other in zip(together, alone, strict=True):
        assert [(hit.id, hit.score) for hit in one.hits] == [(hit.id, pytest.approx(hit.score)) for hit in other.hits]


def test_the_verdict_is_of_the_first_stage(tracer: Tracer, world: TracedWorld) -> None:
    (whole,) = tracer.trace(PROMPT, RESPONSE, k=N_FAULTY)
    (asked,) = tracer.trace(PROMPT, RESPONSE, k=N_FAULTY, span="wind")
    assert asked.verdict == whole.verdict
    assert {hit.id: hit.p_value for hit in asked.hits} == {hit.id: hit.p_value for hit in whole.hits}


def test_words_of_the_first_hits_and_their_phrases(tracer: Tracer) -> None:
    (result,) = tracer.trace(PROMPT, RESPONSE, k=6, words=4, verdict=False)
    assert [hit.words is not None for hit in result.hits] == [True] * 4 + [False] * 2
    assert result.prompt_words is not None
    assert result.response_words is not None
    words = result.hits[0].words
    assert words is not None
    assert (len(words.map), len(words.map[0])) == (len(result.response_words.spans), len(words.response.spans))
    assert words.response.word_method == "contradicted", (
        "an adapter can be turned off, so it is known what training changed"
    )
    assert {phrase.text for phrase in result.phrases} & {"Where is boat", "the wind", "the sea and the wind"}
    for phrase in result.phrases:
        assert phrase.n_read == 4
    (asked,) = tracer.trace(PROMPT, RESPONSE, k=6, words=4, span="wind", verdict=False)
    best = asked.hits[0].words
    assert best is not None
    start, end = best.response.spans[max(range(len(best.response.scores)), key=best.response.scores.__getitem__)]
    assert asked.hits[0].response[start:end] == "wind"


def test_words_of_no_hit(tracer: Tracer) -> None:
    (result,) = tracer.trace(PROMPT, RESPONSE, words=4, where="row < 0")
    assert (result.hits, result.prompt_words, result.phrases) == ((), None, ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"span": "Korea"}, r"has no 'Korea'[\s\S]*The closest"),
        ({"span": "sea"}, r"has 'sea' 2 times[\s\S]*--span 'sea#1'"),
        ({"span": " "}, "The span is empty"),
        ({"span": (3, 3)}, "no characters 3 to 3"),
        ({"span_tokens": (5, 5)}, "no tokens 5:5"),
        ({"span_tokens": (0, 999)}, "no tokens 0:999"),
        ({"wanted": "  "}, "The wanted answer is empty"),
        ({"wanted": RESPONSE + " "}, "The wanted answer is the bad one"),
        ({"wanted": "a", "span": "wind"}, r"--span and --wanted were given"),
        ({"words": -1}, "words = -1"),
        ({"fdr": 0.0}, "false discovery rate of 0"),
        ({"fdr": 1.5}, "false discovery rate of 1.5"),
    ],
)
def test_what_cannot_be_asked(tracer: Tracer, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tracer.trace(PROMPT, RESPONSE, **options)  # type: ignore[arg-type]


def test_of_several_queries(tracer: Tracer) -> None:
    two = [Query.of(PROMPT, RESPONSE), Query.of("Where is boat 15", "the wind")]
    found = tracer.trace_many(two, span="wind", verdict=False)
    assert [query.response[slice(*query.span)] for query in found if query.span] == ["wind", "wind"]
    with pytest.raises(InputError, match=r"Query 2, 'Where is boat 15': The response has no 'and'"):
        tracer.trace_many(two, span="and")
    for options in ({"wanted": "a"}, {"span_tokens": (0, 1)}, {"span": (0, 3)}):
        with pytest.raises(InputError, match="with 2 queries"):
            tracer.trace_many(two, **options)  # type: ignore[arg-type]


def test_the_options_are_the_settings() -> None:
    assert list(TraceOptions.__annotations__) == [field.name for field in fields(TraceSettings)]
