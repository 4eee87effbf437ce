"""Reference queries: drawn with a seed from the data's own prompts, answered by the model, with their gains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from whence.data.encoding import Encoder
from whence.data.examples import ASSISTANT, Example, Turn
from whence.errors import WhenceWarning
from whence.model.loading import LoadedModel, ModelSettings, load_model
from whence.signatures.extract import Extractor
from whence.trace.query.queries import Query
from whence.trace.settings import TraceSettings
from whence.trace.verdict.calibration_data import _question
from whence.trace.verdict.references import (
    _prompt_of,
    answer_references,
    draw_references,
    given_references,
    response_gains,
)
from worlds import World, make_world, save_model


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def loaded(world: World) -> LoadedModel:
    return load_model(ModelSettings(model=str(world.model)))


def test_drawn_prompts_are_those_of_their_rows(world: World) -> None:
    index = world.open()
    drawn = draw_references(index, n=8, seed=3)
    assert drawn == draw_references(index, n=8, seed=3)
    assert drawn != draw_references(index, n=8, seed=4)
    assert len(drawn) == 8
    assert [one.row for one in drawn] == sorted({one.row for one in drawn})
    for one, example in zip(drawn, index.examples([one.row for one in drawn]), strict=True):
        assert one.query.turns == example.turns[:-1]
        assert one.query.response is None


def test_of_few_rows_all_are_drawn(world: World) -> None:
    drawn = draw_references(world.open(), n=100)
    assert [one.row for one in drawn] == list(range(24))


def test_a_conversations_prompt_ends_before_its_first_answer() -> None:
    turns = (Turn("system", "Be brief."), Turn("user", "One?"), Turn(ASSISTANT, "1"), Turn("user", "Two?"))
    assert _prompt_of(Example(turns)) == Query(turns[:2])
    assert _prompt_of(Example((Turn("text", "A document."),))) is None


def test_references_carry_the_models_answers_and_signatures(world: World, loaded: LoadedModel) -> None:
    encoder, extractor = Encoder(loaded.tokenizer, max_length=64), Extractor(loaded, [2])
    drawn = (*draw_references(world.open(), n=4), *given_references([Query.of("Where is place 1?")]))
    found = answer_references(drawn, loaded, encoder, extractor, answer_tokens=5)
    assert found.rows.tolist() == [one.row for one in drawn][: len(found.rows)]
    alone = extractor.extract([found.turns[0]]).layers[2]
    torch.testing.assert_close(found.signatures[2].h[:1], alone.h, rtol=1e-4, atol=1e-4)
    assert found.gains is None, "a model without adapter and without base has nothing to be compared with"


def test_rises_compare_with_the_base(loaded: LoadedModel, tmp_path: Path) -> None:
    base = load_model(ModelSettings(model=str(save_model(tmp_path / "base", seed=1))))
    encoder = Encoder(loaded.tokenizer, max_length=64)
    turns = [encoder.encode_query((Turn("user", f"Where is place {i}?"),), "In Canada.") for i in range(3)]
    gains = response_gains(loaded, turns, base=base)
    assert gains is not None
    losses = [Extractor(model, [2]).extract(turns) for model in (base, loaded)]
    expected = (losses[0].loss - losses[1].loss) * losses[0].n_response
    np.testing.assert_allclose(gains, expected.numpy(), rtol=1e-3)
    same = response_gains(loaded, turns, base=loaded)
    assert same is not None
    np.testing.assert_allclose(same, 0, atol=1e-4)


def test_responses_of_given_references_are_not_used_and_it_is_said(loaded: LoadedModel) -> None:
    """A text that the model would not give gains nothing, and every answer would look learned beside it."""
    encoder, extractor = Encoder(loaded.tokenizer, max_length=64), Extractor(loaded, [2])
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "search"}}]}
    bare = [Query.of("Where is place 1?"), Query.of("Where is place 2?")]
    carried = [Query.of("Where is place 1?", "In Canada."), Query.of("Where is place 2?", call)]
    with pytest.warns(WhenceWarning, match=r"2 references carry a response, which is not used"):
        given = given_references([*carried, bare[0]])
    assert given == given_references([*bare, bare[0]])
    own = answer_references(given, loaded, encoder, extractor, answer_tokens=5).turns
    assert own
    assert "In Canada." not in {turn.response for turn in own}


def test_other_tools_are_other_references() -> None:
    tools = [[{"type": "function", "function": {"name": name}}] for name in ("search", "erase")]
    asked = [Query.of("hi"), *(Query.of("hi", tools=one) for one in tools)]
    settings = TraceSettings(references=asked)
    keys = [json.dumps(_question(settings, given_references([one]), 10), sort_keys=True) for one in asked]
    assert len(set(keys)) == len(asked)
