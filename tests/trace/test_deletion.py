"""Deletion curves: words deleted in turn, held to plain greedy search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from compared import made, plain_scorer
from oracles_words import removal_oracle
from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from traced_world import PROMPT, RESPONSE, TracedWorld, TracedWorlds
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Example
from whence.index.build import build_index
from whence.index.held import default_layers
from whence.index.searching import search
from whence.model.loading import LoadedModel, ModelSettings, load_model
from whence.results import DeletionCurve, HitWords, Words
from whence.scoring.defaults import score_form
from whence.trace.explain.deletion import MAX_UNITS, deletion_curves
from whence.trace.explain.prompt_attribution.comparison import Comparison, without
from whence.trace.explain.words import Part, word_tokens
from whence.trace.query.queries import Query
from whence.trace.rank.matched_rows import encoded_rows
from whence.trace.tracer import Tracer

FLOAT16 = 2e-3
"""An index holds vectors in float16."""
BOUND = 1e-6
"""Llama's norms compute in float32 whatever the model's dtype; a padded batch differs from one turn by some 1e-8."""


def words_of(turn: EncodedTurn, part: Part, scores: Sequence[float] | None = None) -> Words:
    spans, tokens = word_tokens(turn, part)
    return Words(spans, tuple(scores or [1.0 / (1 + i) for i in range(len(tokens))]), "by hand")


def steps(deletion: DeletionCurve | None) -> list[tuple[int, float]]:
    assert deletion is not None
    assert all(len(own) == 1 for own in deletion.words)
    return [(own[0], left) for own, left in zip(deletion.words, deletion.left, strict=True)]


@pytest.mark.parametrize("form", ["rept", "rept-centred"])
def test_with_every_word_read_again_it_is_plain_greedy_search(form: str) -> None:
    comparison, (query, *rows) = made(form)
    hits = [HitWords(words_of(row, "prompt"), words_of(row, "response")) for row in rows]
    found = deletion_curves(comparison.searched(comparison.block([query])), rows, hits, steps=99, candidates=99)
    score = plain_scorer(comparison, query)
    for row, hit in zip(rows, found, strict=True):
        for part, words in (("prompt", hit.prompt), ("response", hit.response)):
            tokens = [list(own) for own in word_tokens(row, part)[1]]  # type: ignore[arg-type]
            expected = removal_oracle(score, row, tokens, 0)
            assert [word for word, _ in steps(words.deletion)] == [word for word, _ in expected]
            assert [left for _, left in steps(words.deletion)] == pytest.approx([s for _, s in expected], abs=BOUND)


@pytest.fixture(scope="module", params=["adapter", "base beside it"])
def traced(request: pytest.FixtureRequest, traced_worlds: TracedWorlds) -> TracedWorld:
    """An adapter, whose base is the model without it; or a full fine-tune, indexed with its base."""
    world = traced_worlds.own("traced", lora=request.param == "adapter")
    if world.adapter is not None:
        return world
    index = world.index.parent / "with-base"
    build_index(world.model, world.data, index, base=str(world.base), layers=[1, "last"], max_length=64)
    return replace(world, index=index)


def encoded(prompt: str, response: str) -> EncodedTurn:
    loaded = LoadedModel.wrap(tiny_model("llama"), tiny_tokenizer(CHAT_TEMPLATE))
    (turn,) = Encoder(loaded.tokenizer).encode(Example.from_pair(prompt, response))
    return turn


class Weights:
    """A score by hand: the sum of the weights of the words whose last token is still there."""

    def __init__(self, turn: EncodedTurn, part: Part, of_words: Sequence[float]) -> None:
        tokens = word_tokens(turn, part)[1]
        self.at = {turn.offsets[own[-1]]: of_words[word] for word, own in enumerate(tokens)}
        self.calls: list[int] = []

    def __call__(self, turns: Sequence[EncodedTurn]) -> Tensor:
        self.calls.append(len(turns))
        sums = [sum(self.at.get(place, 0.0) for place in turn.offsets) for turn in turns]
        return torch.tensor(sums, dtype=torch.float64)


def test_the_word_that_stands_out_goes_first_and_then_those_that_weigh_most() -> None:
    turn = encoded("Hi", "red blue green")
    score = Weights(turn, "response", [5.0, 3.0, 2.0])
    for own, order in ([[0.1, 0.2, 0.9], [2, 0, 1]], [[0.0, -1.0, 0.0], [0, 1, 2]]):
        (hit,) = deletion_curves(
            score, [turn], [HitWords(words_of(turn, "prompt", [0.0]), words_of(turn, "response", own))]
        )
        found = steps(hit.response.deletion)
        assert [word for word, _ in found] == order
        gone, expected = 0.0, []
        for word in order[:2]:
            gone += [5.0, 3.0, 2.0][word]
            expected.append(1 - gone / 10)
        assert [left for _, left in found][:2] == pytest.approx(expected)
        assert hit.response.scores == tuple(own)


def test_few_words_are_read_again_at_a_step() -> None:
    names = ["one", "two", "six", "ten", "red", "sky", "sea", "sun"]
    turn = encoded("Hi", " ".join(names))
    weights = [float(2**k) for k in range(len(names))]
    score = Weights(turn, "response", weights)
    hits = [HitWords(words_of(turn, "prompt", [0.0]), words_of(turn, "response", [1.0] + [0.0] * 7))]
    (hit,) = deletion_curves(score, [turn], hits, candidates=2, steps=5)
    assert [word for word, _ in steps(hit.response.deletion)] == [0, 7, 6, 5, 4]
    of_prompt = [1, 1]  # the whole turn, and its one word
    assert sum(score.calls) == 1 + 1 + 7 + 2 + 2 + 2 + sum(of_prompt)


@pytest.mark.parametrize("whole", [0.0, -1.0])
def test_a_score_that_is_not_above_zero_hangs_on_nothing(whole: float) -> None:
    turn = encoded("Hi you", "red blue")
    hits = [HitWords(words_of(turn, "prompt"), words_of(turn, "response"))]
    (hit,) = deletion_curves(lambda turns: torch.full((len(turns),), whole), [turn], hits)
    assert hit == hits[0]


def test_a_text_without_words_has_none() -> None:
    turn = encoded("Hi", "red")
    empty = replace(turn, offsets=())
    hits = [HitWords(words_of(turn, "prompt"), words_of(turn, "response"))]
    (hit,) = deletion_curves(lambda turns: torch.ones(len(turns)), [empty], hits)
    assert hit.prompt.deletion is None
    assert hit.response.deletion is None


def test_of_a_long_text_adjoining_words_go_together_and_the_first_alone() -> None:
    n = 2 * MAX_UNITS + 1
    turn = encoded("Hi", " ".join(f"w{i}" for i in range(n)))
    scores = [0.0] * n
    scores[7] = 1.0
    hits = [HitWords(words_of(turn, "prompt"), words_of(turn, "response", scores))]

    def length(turns: Sequence[EncodedTurn]) -> Tensor:
        return torch.tensor([float(len(turn.input_ids)) for turn in turns])

    (hit,) = deletion_curves(length, [turn], hits, steps=99, candidates=99)
    assert hit.response.deletion is not None
    groups = hit.response.deletion.words
    assert groups[0] == (7,)
    assert {len(group) for group in groups[1:]} == {2}
    assert sorted(word for group in groups for word in group) == list(range(n))


def test_a_trace_tells_what_the_score_of_its_search_hangs_on(traced: TracedWorld) -> None:
    tracer = Tracer(traced.index, device="cpu")
    result = tracer.trace(PROMPT, RESPONSE, k=3, words=2, deletion=True, verdict=False)
    assert [hit.words is not None for hit in result.hits] == [True, True, False]
    form = score_form(result.queries[0].method)
    assert form.by_learned_fraction
    roles = default_layers(form, tracer.index.manifest)
    query = tracer.encoder.encode_query(Query.of(PROMPT).turns, RESPONSE)
    base = None if traced.adapter else load_model(ModelSettings(model=str(traced.base), device="cpu"))
    comparison = Comparison(tracer.loaded, form, roles, tracer.index.centres, base=base)
    score = comparison.searched(comparison.block([query]))
    first_pass = replace(form, expand=None)
    (matches,) = search(tracer.index, tracer.signatures([query]), method=first_pass, k=200, roles=roles)
    by_row = {match.row: match.score for match in matches}
    rows = encoded_rows(tracer.index, tracer.encoder, matches[:20])
    expected = torch.tensor([by_row[match.row] for match in matches[:20]])
    torch.testing.assert_close(score(rows).float(), expected, atol=FLOAT16, rtol=0)
    for hit in result.hits[:2]:
        assert hit.words is not None
        (row,) = tracer.encoder.encode(Example.from_pair(hit.prompt, hit.response))
        for part, words in (("prompt", hit.words.prompt), ("response", hit.words.response)):
            found = steps(words.deletion)
            assert found[0][0] == words.scores.index(max(words.scores))
            gone: set[int] = set()
            for word, left in found[:2]:
                gone |= set(word_tokens(row, part)[1][word])  # type: ignore[arg-type]
                expected_left = (score([without(row, gone)]) / score([row])).item()
                assert left == pytest.approx(expected_left, abs=FLOAT16)
