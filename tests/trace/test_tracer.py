"""A query's ranking equals the plain computation over all rows, and an index answers for its own model only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from oracles import signature_oracle
from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import Example
from whence.errors import InputError, MismatchError
from whence.model.generation import generate
from whence.model.loading import LoadedModel
from whence.trace.query.queries import Query
from whence.trace.tracer import Tracer
from worlds import World, rows, save_model

FLOAT16_BOUND = 2e-3
"""Stored unit vectors are float16; a cosine of two of them is off by at most about its rounding, 5e-4, on each side."""


@pytest.fixture(scope="module")
def tracer(world: World) -> Tracer:
    return Tracer(world.index)


def test_scores_are_those_of_the_plain_computation(world: World, tracer: Tracer) -> None:
    model, encoder = tiny_model("llama"), Encoder(tiny_tokenizer(CHAT_TEMPLATE), max_length=64)

    def concat(prompt: str, response: str) -> torch.Tensor:
        (turn,) = encoder.encode(Example.from_pair(prompt, response))
        h, g, _, _, _ = signature_oracle(model, turn, 2)
        return torch.cat([h, g])

    asked = ("Where is place 99?", "It is in Korea.")
    query = concat(*asked)
    expected = {
        str(row["prompt"]): torch.cosine_similarity(
            query, concat(str(row["prompt"]), str(row["response"])), dim=0
        ).item()
        for row in rows()
    }
    (result,) = tracer.trace(*asked, k=24, method="rept", layer=2)
    assert {hit.prompt for hit in result.hits} == set(expected)
    for hit in result.hits:
        assert hit.score == pytest.approx(expected[hit.prompt], abs=FLOAT16_BOUND)
    assert [hit.rank for hit in result.hits] == list(range(1, 25))
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)


def test_a_row_finds_itself(tracer: Tracer) -> None:
    row = rows()[7]
    for method in ("rept", "repsim", "rept-balanced", "g-cosine"):
        (result,) = tracer.trace(str(row["prompt"]), str(row["response"]), k=1, method=method)
        (hit,) = result.hits
        assert (hit.prompt, hit.line, hit.turn) == (row["prompt"], 8, 0)
        assert hit.score == pytest.approx(1.0, abs=FLOAT16_BOUND)
        assert hit.metadata == {"label": row["label"], "source": row["source"]}
        assert hit.status == "candidate"
        assert (result.method, result.n_rows) == (method, 24)


def test_without_a_response_the_model_answers_and_its_answer_is_traced(tracer: Tracer) -> None:
    (result,) = tracer.trace("Where is place 3?", k=2)
    prompt = tracer.encoder.render_prompt(Query.of("Where is place 3?").turns)
    (answer,) = generate(tracer.loaded, [prompt])
    assert result.generated
    assert result.response == answer.text
    (given,) = tracer.trace("Where is place 3?", "Canada.", k=2)
    assert not given.generated


def test_many_queries_are_the_same_as_one_at_a_time(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whence.trace.tracer.QUERIES_AT_ONCE", 2)
    queries = [Query.of(f"Where is place {i}?", f"In Korea, {i}.") for i in range(5)]
    seen: list[tuple[str, int, int | None]] = []
    together = tracer.trace_many(queries, k=3, progress=lambda stage, done, total: seen.append((stage, done, total)))
    assert seen == [("tracing", done, 5) for done in range(1, 6)]
    for query, result in zip(queries, together, strict=True):
        (alone,) = tracer.trace_many([query], k=3)
        assert [hit.id for hit in alone.hits] == [hit.id for hit in result.hits]
        assert [hit.score for hit in alone.hits] == pytest.approx([hit.score for hit in result.hits], abs=1e-5)


def test_a_filter_leaves_its_rows_only(tracer: Tracer) -> None:
    (result,) = tracer.trace("Where?", "Canada.", k=50, where="source = 'vendor_b' AND label = 'planted'")
    expected = {row["prompt"] for row in rows() if (row["source"], row["label"]) == ("vendor_b", "planted")}
    assert {hit.prompt for hit in result.hits} == expected
    assert result.n_rows == len(expected)
    with pytest.raises(InputError, match=r"'vendor = 3' cannot be used[\s\S]*label, source"):
        tracer.trace("Where?", "Canada.", where="vendor = 3")


def test_messages_as_the_prompt(tracer: Tracer) -> None:
    (plain,) = tracer.trace("Where is place 3?", "Canada.", k=3)
    (chat,) = tracer.trace([{"role": "user", "content": "Where is place 3?"}], "Canada.", k=3)
    assert chat.hits == plain.hits


def test_another_model_is_refused_with_both_hashes(world: World, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", seed=1)
    with pytest.raises(MismatchError, match=r"weights: the index has [0-9a-f]{32}, this model has [0-9a-f]{32}"):
        Tracer(world.index, model=str(other))


def test_another_template_or_tokenizer_is_refused(world: World) -> None:
    changed = LoadedModel.wrap(tiny_model("llama"), tiny_tokenizer(CHAT_TEMPLATE.replace("end", "stop")))
    with pytest.raises(MismatchError, match="template: the index has"):
        Tracer(world.index, model=changed)
    grown = tiny_tokenizer(CHAT_TEMPLATE)
    grown.add_tokens(["zebra"])
    with pytest.raises(MismatchError, match="tokenizer: the index has"):
        Tracer(world.index, model=LoadedModel.wrap(tiny_model("llama"), grown))


def test_a_model_that_moved_is_accepted(world: World, tmp_path: Path) -> None:
    moved = save_model(tmp_path / "moved")
    (result,) = Tracer(world.index, model=str(moved)).trace("Where?", "Canada.", k=1)
    assert len(result.hits) == 1


def test_a_layer_that_the_index_does_not_have(tracer: Tracer) -> None:
    with pytest.raises(MismatchError, match=r"no layer 1[\s\S]*2, 3, 4"):
        tracer.trace("Where?", "Canada.", layer=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "rapt"}, r"no method 'rapt'[\s\S]*Did you mean rept"),
        ({"method": "rept", "weight": 0.3}, "takes a weight"),
        ({"method": "rept-balanced", "weight": 1.5}, "between 0 and 1"),
        ({"k": 0}, "k = 0"),
    ],
)
def test_options_that_cannot_be(tracer: Tracer, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tracer.trace("Where?", "Canada.", **options)  # type: ignore[arg-type]


def test_a_query_that_cannot_be_asked_is_found_before_others_are_traced(
    tracer: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third has no such span: nothing is traced, and no answer is made."""
    monkeypatch.setattr("whence.trace.tracer.QUERIES_AT_ONCE", 2)
    done: list[int] = []
    monkeypatch.setattr(Tracer, "answer", lambda *_, **__: done.append(1))
    asked = [Query.of("Where?", "Korea x"), Query.of("Where is it?"), Query.of("Where now?", "no such")]
    with pytest.raises(InputError, match=r"Query 3, 'Where now\?': The response has no 'Korea'"):
        tracer.trace_many(asked, span="Korea", verdict=False)
    assert not done
