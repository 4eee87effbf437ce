"""Greedy answers are those of one prompt at a time, in the order asked."""

from __future__ import annotations

import random

import torch

from tiny import VOCAB_SIZE, tiny_model, tiny_tokenizer
from whence.model.generation import generate
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


def test_every_end_token_of_the_generation_config_ends_an_answer() -> None:
    model = tiny_model("llama")
    loaded = LoadedModel.wrap(model, tiny_tokenizer())
    with torch.no_grad():
        model.lm_head.weight.zero_()  # all logits are equal, and the argmax is token 0
    assert not generate(loaded, [[5, 6]], max_new_tokens=3)[0].complete
    model.generation_config.eos_token_id = [0, 3]
    assert generate(loaded, [[5, 6]], max_new_tokens=3)[0].complete
