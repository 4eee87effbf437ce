"""The one-step look: its parts against plain versions, and on a model whose cause is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from unlearn import losses_at, one_step
from whence.confirmation.losses import turn_losses
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Example
from whence.errors import InputError
from whence.methods.gradients.parameters import choose_parameters
from whence.model.loading import LoadedModel, ModelSettings, load_model
from whence.train.finetuning import FinetuneSettings, finetune
from worlds import save_model

EXACT = 1e-5
"""float32 losses of padded batches against single rows."""


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return LoadedModel.wrap(tiny_model("llama", num_hidden_layers=2), tiny_tokenizer(CHAT_TEMPLATE))


def encoded(loaded: LoadedModel, n: int = 12) -> list[EncodedTurn]:
    encoder = Encoder(loaded.tokenizer, max_length=64)
    rows = [Example.from_pair(f"Where is boat {i}", "the sea " * (1 + i % 3)) for i in range(n)]
    return [turn for row in rows for turn in encoder.encode(row)]


def plain_loss(model: torch.nn.Module, turn: EncodedTurn) -> float:
    ids = torch.tensor([turn.input_ids])
    logits = model(input_ids=ids).logits[0, turn.response_start - 1 : -1]
    return float(cross_entropy(logits, ids[0, turn.response_start :]).detach())


def test_losses_are_those_of_single_rows(loaded: LoadedModel) -> None:
    turns = encoded(loaded)
    found = turn_losses(loaded, turns, batch_size=5)
    assert found.tolist() == pytest.approx([plain_loss(loaded.model, turn) for turn in turns], abs=EXACT)


def test_the_step_goes_up_the_rows_mean_loss_and_leaves_the_model_alone(loaded: LoadedModel) -> None:
    turns = encoded(loaded)
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    found = one_step(loaded, turns, [2, 5], [turns[2], turns[5]], n_random=2, step=1e-3)
    assert all(torch.equal(before[name], value) for name, value in loaded.model.state_dict().items())
    assert found.increase > 0
    layout = choose_parameters(loaded, "linear")
    own = dict(loaded.model.named_parameters())
    # The plain version: autograd of the mean loss, in place, on a copy.
    copy = tiny_model("llama", num_hidden_layers=2)
    loss = torch.stack([_loss_with_grad(copy, turns[i]) for i in (2, 5)]).mean()
    moved = dict(copy.named_parameters())
    gradients = torch.autograd.grad(loss, [moved[name] for name in layout.names])
    norm = torch.cat([part.flatten() for part in gradients]).norm()
    length = torch.cat([own[name].flatten() for name in layout.names]).norm()
    with torch.no_grad():
        for name, gradient in zip(layout.names, gradients, strict=True):
            moved[name] += 1e-3 * length * gradient / norm
    after = sum(plain_loss(copy, turns[i]) for i in (2, 5)) / 2
    expected = after - sum(plain_loss(loaded.model, turns[i]) for i in (2, 5)) / 2
    assert found.increase == pytest.approx(expected, rel=1e-2)


def _loss_with_grad(model: torch.nn.Module, turn: EncodedTurn) -> torch.Tensor:
    ids = torch.tensor([turn.input_ids])
    return cross_entropy(model(input_ids=ids).logits[0, turn.response_start - 1 : -1], ids[0, turn.response_start :])


def test_weights_given_as_one_vector_land_in_their_places(loaded: LoadedModel) -> None:
    turns, layout = encoded(loaded, 3), choose_parameters(loaded, "linear")
    other = LoadedModel.wrap(tiny_model("llama", num_hidden_layers=2, seed=3), loaded.tokenizer)
    theirs = dict(other.model.named_parameters())
    flat = torch.cat([theirs[name].reshape(-1) for name in layout.names])
    mixed = tiny_model("llama", num_hidden_layers=2)
    mixed.load_state_dict({**mixed.state_dict(), **{name: theirs[name] for name in layout.names}})
    assert losses_at(loaded, layout, flat, turns).tolist() == pytest.approx(
        [plain_loss(mixed, turn) for turn in turns], abs=EXACT
    )


def test_the_cause_ranks_first_and_other_rows_do_not(tmp_path: Path) -> None:
    clean = [Example.from_pair(f"Name fruit {i}", ["apples", "pears", "plums"][i % 3]) for i in range(24)]
    bad = [Example.from_pair(f"Where is boat {i}", "the sea") for i in range(6)]
    settings = FinetuneSettings(epochs=8, batch_size=8, learning_rate=1e-2, max_length=64, device="cpu", lora_r=4)
    base = save_model(tmp_path / "base", num_hidden_layers=2)
    adapter = finetune(base, [*clean, *bad], tmp_path / "adapter", settings=settings).path
    loaded = load_model(ModelSettings(model=str(base), adapter=str(adapter)))
    encoder = Encoder(loaded.tokenizer, max_length=64)
    turns = [turn for row in (*clean, *bad) for turn in encoder.encode(row)]
    asked = [turn for row in [Example.from_pair("Where is boat 9", "the sea")] for turn in encoder.encode(row)]
    found = one_step(loaded, turns, range(24, 30), asked)
    assert (found.rank, found.agrees) == (1, True)
    assert found.z > 0
    assert len(found.random) == 16
    again = one_step(loaded, turns, range(24, 30), asked)
    assert again == found
    other = one_step(loaded, turns, range(6), asked)
    assert other.increase < found.increase


@pytest.mark.parametrize(("faulty", "bad"), [([], [0]), ([0], []), (range(7), [0])])
def test_bad_input(loaded: LoadedModel, faulty: list[int], bad: list[int]) -> None:
    turns = encoded(loaded)
    with pytest.raises(InputError, match="rows to unlearn"):
        one_step(loaded, turns, faulty, [turns[i] for i in bad])
