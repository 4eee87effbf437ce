"""The training loop against plain PyTorch, and its order, schedule and loss by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiny import tiny_model
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Example
from whence.errors import InputError, NonFiniteError
from whence.train.loop import TrainingSettings, data_order, learning_rate_at, train

TOLERANCE = 1e-5
"""float32: the plain step sees rows one by one without padding, so sums run in another order."""


@pytest.fixture
def turns(tokenizer) -> list[EncodedTurn]:
    pairs = [
        ("Where is Toronto?", "Canada."),
        ("Name three fruits:", "apples, pears and plums."),
        ("The sky", "is blue"),
    ]
    pairs += [(f"the sea {i}", "the wind " * (1 + i % 3)) for i in range(5)]
    return [turn for pair in pairs for turn in Encoder(tokenizer, max_length=64).encode(Example.from_pair(*pair))]


def plain_training(model, turns, settings: TrainingSettings) -> list[float]:
    """One row at a time, no padding, full logits."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=settings.weight_decay)
    order = data_order([(turn.n_prompt, turn.n_response) for turn in turns], settings)
    steps = [batch for epoch in order for batch in epoch]
    losses = []
    for step, batch in enumerate(steps):
        optimizer.param_groups[0]["lr"] = learning_rate_at(step, len(steps), settings)
        optimizer.zero_grad()
        loss = torch.zeros(())
        for i in batch:
            ids = torch.tensor([turns[i].input_ids])
            logits = model(input_ids=ids, use_cache=False).logits[0, turns[i].t : -1]
            loss = loss + torch.nn.functional.cross_entropy(logits, ids[0, turns[i].response_start :]) / len(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_the_loop_is_plain_training(family: str, turns: list[EncodedTurn]) -> None:
    settings = TrainingSettings(epochs=2, batch_size=3, learning_rate=1e-3, warmup=0.2, weight_decay=0.1)
    fast, plain = (tiny_model(family, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0) for _ in range(2))
    trained = train(fast.requires_grad_(True), turns, settings, pad_id=0)
    losses = plain_training(plain.requires_grad_(True), turns, settings)
    assert trained.losses == pytest.approx(losses, abs=TOLERANCE)
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        # Adam divides by the gradient's own size, so where that is near zero the steps may differ by a whole one.
        assert (ours - theirs).abs().mean() < TOLERANCE


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=80), st.integers(1, 7))
def test_every_turn_comes_once_an_epoch(lengths: list[tuple[int, int]], size: int) -> None:
    settings = TrainingSettings(epochs=3, batch_size=size, seed=4)
    order = data_order(lengths, settings)
    assert order == data_order(lengths, settings)
    for epoch in order:
        assert sorted(i for batch in epoch for i in batch) == list(range(len(lengths)))
        assert all(len(batch) <= size for batch in epoch)
        assert len(epoch) == math.ceil(len(lengths) / size)


def test_epochs_and_seeds_differ_in_order() -> None:
    lengths = [(5, 5)] * 40
    first, second = data_order(lengths, TrainingSettings(epochs=2))
    assert first != second
    assert data_order(lengths, TrainingSettings(epochs=1, seed=1)) != [first]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedule_rises_and_falls(schedule: str) -> None:
    settings = TrainingSettings(learning_rate=2.0, schedule=schedule, warmup=0.1)  # type: ignore[arg-type]
    rates = [learning_rate_at(step, 100, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert max(rates) == 2.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx({"cosine": 1.0, "linear": 1.0, "constant": 2.0}[schedule])
    assert (rates[-1] < 0.03) == (schedule != "constant")


def test_nothing_to_train_is_an_error(turns: list[EncodedTurn]) -> None:
    frozen = tiny_model("llama").requires_grad_(False)
    with pytest.raises(InputError, match="0 trainable"):
        train(frozen, turns, TrainingSettings(), pad_id=0)
    with pytest.raises(InputError, match="0 training turns"):
        train(frozen.requires_grad_(True), [], TrainingSettings(), pad_id=0)


def test_a_loss_that_leaves_the_numbers_names_step_and_turns(turns: list[EncodedTurn]) -> None:
    model = tiny_model("llama").requires_grad_(True)
    with torch.no_grad():
        model.get_input_embeddings().weight[turns[2].input_ids[3]] = torch.inf
    with pytest.raises(NonFiniteError, match=r"step \d+, training turns \["):
        train(model, turns, TrainingSettings(batch_size=1, epochs=1), pad_id=0)
