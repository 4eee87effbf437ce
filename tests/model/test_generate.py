"""Greedy answers are those of one prompt at a time, in the order asked."""

from __future__ import annotations

import random

import pytest
import torch

from tiny import VOCAB_SIZE, tiny_model, tiny_tokenizer
from whence.model import generation
from whence.model.generation import Answer, batching, generate
from whence.model.loading import LoadedModel


def greedy_oracle(loaded: LoadedModel, prompt: list[int], limit: int) -> tuple[str, bool]:
    ids = list(prompt)
    for _ in range(limit):
        best = int(loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if best == loaded.tokenizer.eos_token_id:
            return loaded.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True), True
        ids.append(best)
    return loaded.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True), False


def test_batched_answers_equal_single_ones() -> None:
    loaded = LoadedModel.wrap(tiny_model("llama", seed=3, dtype=torch.float64), tiny_tokenizer())
    rng = random.Random(0)
    prompts = [[rng.randrange(4, VOCAB_SIZE) for _ in range(rng.randint(1, 20))] for _ in range(9)]
    found = generate(loaded, prompts, max_new_tokens=12, batch_size=4)
    expected = [greedy_oracle(loaded, prompt, 12) for prompt in prompts]
    assert [(answer.text, answer.complete) for answer in found] == expected


@pytest.mark.parametrize(("family", "together"), [("mamba", "any"), ("minimax", "alike"), ("rwkv", "none")])
def test_batched_answers_of_models_with_a_state_equal_single_ones(family: str, together: str) -> None:
    """Mamba masks padding on the left, MiniMax does not, and RWKV mixes the rows of a batch."""
    loaded = LoadedModel.wrap(tiny_model(family), tiny_tokenizer())
    assert batching(loaded) == together
    rng = random.Random(0)
    prompts = [[rng.randrange(4, VOCAB_SIZE) for _ in range(n)] for n in (5, 12, 20, 9, 5, 12)]
    found = generate(loaded, prompts, max_new_tokens=6, batch_size=4)
    assert [(answer.text, answer.complete) for answer in found] == [greedy_oracle(loaded, p, 6) for p in prompts]


@pytest.mark.parametrize(("family", "expected"), [("mamba", [2, 2, 1]), ("minimax", [2, 2, 1]), ("rwkv", [1] * 5)])
def test_how_many_prompts_are_answered_together(
    family: str, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = LoadedModel.wrap(tiny_model(family), tiny_tokenizer())
    sizes = []
    batch = generation._batch

    def counted(loaded: LoadedModel, prompts: list[list[int]], *rest: object) -> list[Answer]:
        sizes.append(len(prompts))
        return batch(loaded, prompts, *rest)

    monkeypatch.setattr(generation, "_batch", counted)
    generate(loaded, [[5, 6], [7], [8, 9], [5], [4, 4]], max_new_tokens=2, batch_size=2)
    assert sizes == expected


def test_every_end_token_of_the_generation_config_ends_an_answer() -> None:
    model = tiny_model("llama")
    loaded = LoadedModel.wrap(model, tiny_tokenizer())
    with torch.no_grad():
        model.lm_head.weight.zero_()  # all logits are equal, and the argmax is token 0
    assert not generate(loaded, [[5, 6]], max_new_tokens=3)[0].complete
    model.generation_config.eos_token_id = [0, 3]
    assert generate(loaded, [[5, 6]], max_new_tokens=3)[0].complete


@pytest.mark.parametrize("own", [{"min_new_tokens": 5}, {"min_length": 9}])
def test_an_answer_may_end_before_the_least_length_of_the_generation_config(own: dict[str, object]) -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.lm_head.weight.zero_()  # the argmax is token 0
    model.generation_config.update(eos_token_id=[0, 3], **own)
    assert generate(LoadedModel.wrap(model, tiny_tokenizer()), [[5, 6]], max_new_tokens=5) == [Answer("", True)]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_an_answer_ends_where_the_models_positions_do(family: str) -> None:
    loaded = LoadedModel.wrap(tiny_model(family, seed=3, dtype=torch.float64), tiny_tokenizer())
    assert loaded.max_length == 256
    rng = random.Random(0)
    prompts = [[rng.randrange(4, VOCAB_SIZE) for _ in range(n)] for n in (250, 4, 255, 300, 7)]
    found = generate(loaded, prompts, max_new_tokens=12)
    read = [*prompts[:3], prompts[3][-244:], prompts[4]]
    expected = [greedy_oracle(loaded, prompt, limit) for prompt, limit in zip(read, (6, 12, 1, 12, 12), strict=True)]
    assert [(answer.text, answer.complete) for answer in found] == expected


@pytest.mark.parametrize(
    "own",
    [
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 1},
        {"suppress_tokens": list(range(4, 40))},
        {"begin_suppress_tokens": list(range(4, 40))},
        {"bad_words_ids": [[token] for token in range(4, 40)]},
        {"sequence_bias": [[[token], -50.0] for token in range(4, 40)]},
        {"forced_eos_token_id": 5},
        {"exponential_decay_length_penalty": (1, 3.0)},
        {"guidance_scale": 3.0},
        {"num_beams": 3, "num_return_sequences": 2},
        {"stop_strings": ["a"]},
        {"return_dict_in_generate": True},
    ],
    ids=lambda own: next(iter(own)),
)
def test_an_answer_is_the_likeliest_token_at_each_step_whatever_the_generation_config(own: dict[str, object]) -> None:
    loaded = LoadedModel.wrap(tiny_model("llama", seed=3, dtype=torch.float64), tiny_tokenizer())
    rng = random.Random(0)
    prompts = [[rng.randrange(4, VOCAB_SIZE) for _ in range(rng.randint(1, 20))] for _ in range(9)]
    expected = [greedy_oracle(loaded, prompt, 12) for prompt in prompts]
    loaded.model.generation_config.update(**own)
    before = loaded.model.generation_config.to_dict()
    found = generate(loaded, prompts, max_new_tokens=12)
    assert [(answer.text, answer.complete) for answer in found] == expected
    assert loaded.model.generation_config.to_dict() == before


def test_settings_of_the_models_own_generation_config_are_no_conflict(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model("llama")
    model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.9, top_k=20, max_length=20)
    from transformers.utils import logging

    logging.enable_propagation()
    try:
        generate(LoadedModel.wrap(model, tiny_tokenizer()), [[5, 6]], max_new_tokens=30)
    finally:
        logging.disable_propagation()
    assert caplog.messages == []
