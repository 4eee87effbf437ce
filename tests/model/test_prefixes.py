"""What is read behind a common beginning equals what is read of whole turns, and models that cannot are left alone."""

from __future__ import annotations

import random

import pytest
import torch

from counted import tokens_run
from oracles import before_oracle
from tiny import CONFIGS, VOCAB_SIZE, tiny_model, tiny_tokenizer
from whence.data.examples import EncodedTurn
from whence.model.changed_turns import turn_groups
from whence.model.likelihood import log_probabilities
from whence.model.loading import LoadedModel
from whence.model.prefixes import shares_prefixes
from whence.signatures.extract import Extractor

WHOLE_ATTENTION = {"llama", "qwen2", "qwen3", "gpt2", "gpt_neox", "olmo2", "mixtral", "qwen3_moe"}
"""Families whose every layer looks at all positions; the others have a sliding window."""
BOUND = 1e-9
"""float64; Llama's norms compute in float32 whatever the model's dtype, of the same numbers on both ways."""


def made(family: str = "llama") -> LoadedModel:
    return LoadedModel.wrap(tiny_model(family, dtype=torch.float64), tiny_tokenizer())


def turns_behind(common: int, n: int, seed: int = 0) -> list[EncodedTurn]:
    """Turns that begin with the same tokens, with prompts and responses of many lengths behind."""
    rng = random.Random(seed)
    begin = [rng.randrange(4, VOCAB_SIZE) for _ in range(common)]
    found = []
    for _ in range(n):
        prompt, response = rng.randint(1, 9), rng.randint(1, 7)
        ids = [*begin, *(rng.randrange(4, VOCAB_SIZE) for _ in range(prompt + response))]
        found.append(EncodedTurn(0, tuple(ids), common + prompt, "", (), "", ""))
    return found


def without_one(turn: EncodedTurn, token: int) -> EncodedTurn:
    ids = tuple(one for i, one in enumerate(turn.input_ids) if i != token)
    return EncodedTurn(0, ids, turn.response_start - 1, "", (), "", "")


@pytest.mark.parametrize("family", CONFIGS)
def test_only_models_that_look_at_all_positions_share(family: str) -> None:
    assert shares_prefixes(made(family)) == (family in WHOLE_ATTENTION)


@pytest.mark.parametrize("changes", [{"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}])
def test_positions_that_depend_on_the_length_do_not_share(changes: dict[str, object]) -> None:
    assert not shares_prefixes(LoadedModel.wrap(tiny_model("llama", **changes), tiny_tokenizer()))


@pytest.mark.parametrize("family", CONFIGS)
def test_states_behind_a_common_beginning_equal_those_of_whole_turns(family: str) -> None:
    loaded, turns = made(family), turns_behind(40, 5)
    seen = tokens_run(loaded)
    found = Extractor(loaded, vectors=[(2, "h"), (2, "m"), (4, "h"), (4, "eh")]).extract(turns, token_errors=True)
    assert found.tokens is not None
    for i, turn in enumerate(turns):
        for layer in (2, 4):
            H, _ = before_oracle(loaded.model, turn, layer)
            assert found.tokens[layer].H[i].shape == H.shape
            assert (found.tokens[layer].H[i] - H).abs().max() <= max(BOUND, 2e-6 * (family == "gemma2"))
    width = max(len(turn.input_ids) for turn in turns) - 1
    expected = [40, 5 * (width - 40)] if family in WHOLE_ATTENTION else [5 * width]
    assert seen[: len(expected)] == expected


def test_a_short_common_beginning_is_not_worth_a_pass() -> None:
    loaded, turns = made(), turns_behind(3, 4)
    seen = tokens_run(loaded)
    log_probabilities(loaded, turns)
    assert len(seen) == 1


@pytest.mark.parametrize("max_tokens", [1, 60, 2048])
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])
def test_changed_turns_equal_whole_ones(family: str, max_tokens: int) -> None:
    loaded = made(family)
    turns = [*turns_behind(20, 3), *turns_behind(1, 3, seed=1), *turns_behind(0, 2, seed=2)]
    changed = [
        (i, without_one(turn, token)) for i, turn in enumerate(turns) for token in range(turn.t, -1, -2) if turn.t > 0
    ]
    seen = []
    for group in turn_groups(loaded, turns, max_tokens=max_tokens):
        versions = [(group.indices.index(i), turn) for i, turn in changed if i in group.indices]
        read = [*group.turns, *(turn for _, turn in versions)]
        expected = log_probabilities(loaded, read, max_tokens=1)
        for found, one in zip([*group.log_probs, *group.read(versions)], expected, strict=True):
            assert found.shape == one.shape
            assert (found - one).abs().max() <= BOUND
        seen.extend(group.indices)
    assert sorted(seen) == list(range(len(turns)))


def test_changed_turns_are_run_from_where_they_differ_on() -> None:
    loaded, (turn, *_) = made(), turns_behind(60, 1)
    seen = tokens_run(loaded)
    (group,) = turn_groups(loaded, [turn])
    group.read([(0, without_one(turn, 60))] * 4)
    length = len(turn.input_ids) - 1
    assert seen == [length, 4 * (length - 1 - 60)]
