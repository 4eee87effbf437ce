"""Errors of a span, of a wanted answer and the tokens that training raised, against plain versions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from oracles import same_words_oracle
from oracles_reranking import nats_oracle, target_oracle
from tiny import CHAT_TEMPLATE, CONFIGS, VOCAB_SIZE, tiny_model, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Turn
from whence.errors import InputError, NonFiniteError
from whence.model import likelihood
from whence.model.likelihood import log_probabilities, token_shifts
from whence.model.loading import LoadedModel
from whence.signatures.extract import Extractor
from whence.trace.query.targets import (
    QueryTarget,
    automatic_positions,
    differing,
    span_target,
    wanted_target,
)

ROUNDING = {"rtol": 1e-8, "atol": 1e-10}
"""float64 sums of a few hundred terms in another order."""
FLOAT32_INSIDE = {"rtol": 1e-4, "atol": 1e-5}
"""Gemma's eager attention takes its softmax in float32, mixtures of experts their routing."""

TOKENIZER = tiny_tokenizer(CHAT_TEMPLATE)
MODEL = tiny_model("mistral", dtype=torch.float64)
LOADED = LoadedModel.wrap(MODEL, TOKENIZER)
LAYERS = [0, 2, 4]
BAD = "Toronto is in Korea. The sea is blue."


def encoded(response: str, prompt: str = "Where is Toronto?", max_length: int = 256) -> EncodedTurn:
    return Encoder(TOKENIZER, max_length=max_length).encode_query([Turn("user", prompt)], response)


def adapted(seed: int = 0) -> LoadedModel:
    torch.manual_seed(seed)
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    return LoadedModel.wrap(get_peft_model(tiny_model("llama", dtype=torch.float64), config).double(), TOKENIZER)


@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_a_span_is_the_error_of_its_own_loss(data: st.DataObject) -> None:
    turn = encoded(BAD)
    positions = data.draw(st.lists(st.integers(0, turn.n_response - 1), min_size=1, max_size=5, unique=True))
    found = span_target(LOADED, LAYERS, turn, positions)
    assert found.positions == tuple(sorted(positions))
    expected = target_oracle(MODEL, TOKENIZER, (turn, positions), scale=1 / len(positions))[sorted(positions)]
    torch.testing.assert_close(found.errors, expected, **ROUNDING)
    for layer in LAYERS:
        states = nats_oracle(MODEL, turn)[1][layer][0, [turn.t + p for p in sorted(positions)]].detach()
        torch.testing.assert_close(found.states[layer], states, **ROUNDING)


def test_the_whole_response_as_a_span_is_the_response() -> None:
    turn = encoded(BAD)
    found = span_target(LOADED, LAYERS, turn, range(turn.n_response))
    whole = Extractor(LOADED, LAYERS).extract([turn], token_gradients=True).tokens
    assert whole is not None
    torch.testing.assert_close(found.errors, whole[LAYERS[0]].E[0], **ROUNDING)


@pytest.mark.parametrize("positions", [[], [1, 1], [-1], [1000]])
def test_positions_that_are_none(positions: list[int]) -> None:
    with pytest.raises(InputError, match="Positions"):
        span_target(LOADED, [4], encoded(BAD), positions)


@pytest.mark.parametrize("wanted", ["Toronto is in Canada.", "No.", "Toronto is in Korea.", "It is so: " + BAD])
@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_a_wanted_answer_is_the_error_of_the_difference(family: str, wanted: str) -> None:
    model = tiny_model(family, dtype=torch.float64)
    bad, good = encoded(BAD), encoded(wanted)
    of_bad, of_wanted = differing(bad.input_ids[bad.response_start :], good.input_ids[good.response_start :])
    found = wanted_target(LoadedModel.wrap(model, TOKENIZER), LAYERS, bad, good)
    assert found.positions == of_bad
    expected = target_oracle(model, TOKENIZER, (bad, list(of_bad)), (good, list(of_wanted)))[list(of_bad)]
    torch.testing.assert_close(found.errors, expected, **(FLOAT32_INSIDE if family == "mixtral" else ROUNDING))


@pytest.mark.parametrize("family", CONFIGS)
def test_where_the_answers_part_the_error_has_the_closed_form(family: str) -> None:
    """W_U^T A (onehot(wanted) - onehot(bad)); a soft cap on the logits scales each of its terms by its slope."""
    model = tiny_model(family, dtype=torch.float64)
    loaded = LoadedModel.wrap(model, TOKENIZER)
    bad, good = encoded("Toronto is in Korea."), encoded("Toronto is in Canada.")
    found = wanted_target(loaded, [4], bad, good)
    first = bad.response_start + found.positions[0]
    W = model.get_output_embeddings().weight.detach()
    cap = getattr(model.config, "final_logit_softcapping", None)
    A = same_words_oracle(TOKENIZER, len(W))
    slope = 1 - torch.tanh(W @ found.states[4][0] / cap) ** 2 if cap else torch.ones(len(W), dtype=W.dtype)
    expected = (A[good.input_ids[first]] - A[bad.input_ids[first]]) * slope @ W
    bound = FLOAT32_INSIDE if family.startswith(("gemma", "mixtral")) else ROUNDING
    torch.testing.assert_close(found.errors[0], expected, **bound)


@pytest.mark.parametrize(
    ("bad", "wanted", "of_bad", "of_wanted"),
    [
        ([1, 2, 3, 4], [1, 2, 5, 4], (2,), (2,)),
        ([1, 2, 3, 9, 4], [1, 2, 5, 4], (2, 3), (2,)),
        ([1, 2], [5, 1, 2], (0,), (0,)),
        ([7, 8, 1, 2], [1, 2], (0, 1), (0,)),
        ([1, 2, 3], [1, 2], (2,), ()),
        ([1, 2], [1, 2, 3], (), (2,)),
        ([1, 3, 5, 4, 6, 0], [1, 2, 5, 4, 7, 0], (1, 4), (1, 4)),
    ],
)
def test_differing(bad: list[int], wanted: list[int], of_bad: tuple[int, ...], of_wanted: tuple[int, ...]) -> None:
    assert differing(bad, wanted) == (of_bad, of_wanted)


@given(bad=st.lists(st.integers(0, 3), max_size=9), wanted=st.lists(st.integers(0, 3), max_size=9))
def test_without_what_differs_the_rest_is_in_both(bad: list[int], wanted: list[int]) -> None:
    of_bad, of_wanted = differing(bad, wanted)
    assert (not of_bad and not of_wanted) == (bad == wanted)
    parted = next((i for i, (a, b) in enumerate(zip(bad, wanted, strict=False)) if a != b), min(len(bad), len(wanted)))
    assert all(place >= parted for place in (*of_bad, *of_wanted))
    left = iter(token for place, token in enumerate(wanted))
    assert all(token in left for place, token in enumerate(bad) if place not in of_bad and place < parted)
    assert set(of_bad) >= {parted} & set(range(len(bad)))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [(" ", "is empty"), (f" {BAD} ", "is the bad one")],
)
def test_wanted_answers_that_ask_nothing(wanted: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wanted_target(LOADED, [4], encoded(BAD), encoded(wanted))


def test_a_wanted_answer_that_only_goes_on() -> None:
    bad = Encoder(TOKENIZER).encode_query([Turn("user", "Where?")], "Toronto is", complete=False)
    with pytest.raises(InputError, match="begins with all of the bad one"):
        wanted_target(LOADED, [4], bad, encoded("Toronto is in Canada.", prompt="Where?"))


def test_a_prompt_that_is_cut_differently() -> None:
    long = "Where is Toronto? " * 6
    with pytest.raises(InputError, match="other tokens"):
        wanted_target(
            LOADED, [4], encoded("Korea", long, max_length=48), encoded("In Canada, a clear day.", long, max_length=48)
        )


@pytest.mark.parametrize("family", CONFIGS)
def test_log_probabilities(family: str) -> None:
    model = tiny_model(family, dtype=torch.float64)
    turns = [encoded(BAD), encoded("No."), encoded("Blue 🙂.", prompt="Tell me the colour of the sky, please. " * 3)]
    found = log_probabilities(LoadedModel.wrap(model, TOKENIZER), turns, max_tokens=60)
    bound = FLOAT32_INSIDE if family.startswith(("gemma", "mixtral", "qwen3_moe")) else ROUNDING
    for values, turn in zip(found, turns, strict=True):
        torch.testing.assert_close(values, -nats_oracle(model, turn)[0].detach(), **bound)


def test_log_probabilities_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = log_probabilities(LOADED, [encoded(BAD)])
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 3 * VOCAB_SIZE)
    (pieces,) = log_probabilities(LOADED, [encoded(BAD)])
    torch.testing.assert_close(pieces, whole, **ROUNDING)


def test_a_value_that_is_not_finite_names_its_turn() -> None:
    model = tiny_model("llama")
    turn = encoded("Korea")
    with torch.no_grad():
        model.get_input_embeddings().weight[turn.input_ids[-2]] = math.nan
    with pytest.raises(NonFiniteError, match="turn 1"):
        log_probabilities(LoadedModel.wrap(model, TOKENIZER), [EncodedTurn(0, (4, 5, 6), 2, "", (), "", ""), turn])


def test_changes_against_the_adapter_turned_off_and_against_a_base() -> None:
    loaded, base = adapted(), LoadedModel.wrap(tiny_model("llama", dtype=torch.float64), TOKENIZER)
    turns = [encoded(BAD), encoded("No.")]
    before, after = log_probabilities(base, turns), log_probabilities(loaded, turns)
    for found in (token_shifts(loaded, turns), token_shifts(loaded, turns, base=base)):
        for turn, change, late, early in zip(turns, found, after, before, strict=True):
            torch.testing.assert_close(change.gain, late - early, **ROUNDING)
            assert change.gain.abs().max() > 0
            logits = base.model(torch.tensor([turn.input_ids])).logits[0].double()
            for j, other in enumerate(change.base_top_other_prob.tolist(), start=turn.response_start):
                chances = logits[j - 1].softmax(-1).tolist()
                del chances[turn.input_ids[j]]
                assert other == pytest.approx(max(chances), abs=1e-7)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    torch.testing.assert_close(log_probabilities(loaded, turns)[0], after[0])


def test_changes_need_something_to_change_from() -> None:
    with pytest.raises(InputError, match="no adapter"):
        token_shifts(LOADED, [encoded(BAD)])


@pytest.mark.parametrize(
    ("gain", "share", "positions"),
    [
        ([0.1, 4.0, 2.5, -3.0], 0.5, (1, 2)),
        ([1.0, 4.0], 1.0, (1,)),
        ([-2.0, -1.0, -3.0], 0.5, (1,)),
        ([0.0], 0.5, (0,)),
    ],
)
def test_automatic_positions(gain: list[float], share: float, positions: tuple[int, ...]) -> None:
    assert automatic_positions(torch.tensor(gain), share=share) == positions


def test_a_target_reads_as_it_is() -> None:
    found = span_target(LOADED, [4], encoded(BAD), [3, 1])
    assert isinstance(found, QueryTarget)
    assert found.errors.shape == found.states[4].shape == (2, 32)
