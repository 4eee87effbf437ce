"""Problems small enough to solve exactly: a trained tiny model in float64, its rows, checkpoints and moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tiny import tiny_model, tiny_tokenizer
from whence.data.examples import EncodedTurn
from whence.methods.base import AdamState, Subject, TurnSet
from whence.model.loading import LoadedModel

VOCAB = 48
N_TRAIN, N_QUERY = 9, 3
LEARNING_RATES = (0.02, 0.01)
WORDS = ["alpha", "beta", "gamma", "delta", "omega", "kappa", "sigma", "river", "stone", "cloud", "meadow", "harbour"]


def make_turn(input_ids: Sequence[int], response_start: int) -> EncodedTurn:
    """A turn of given ids; its texts are words named by the ids."""
    words = [WORDS[i % len(WORDS)] for i in input_ids]
    text = " ".join(words)
    prompt, response = words[:response_start], words[response_start:]
    offsets = tuple((0, 0) for _ in input_ids)
    return EncodedTurn(0, tuple(input_ids), response_start, text, offsets, " ".join(prompt), " ".join(response))


def random_turns(n: int, seed: int, *, vocab: int = VOCAB) -> list[EncodedTurn]:
    """Turns of many lengths: prompts of 1 to 6 tokens, responses of 1 to 4."""
    generator = torch.Generator().manual_seed(seed)
    turns = []
    for _ in range(n):
        n_prompt, n_response = (int(torch.randint(1, top, (1,), generator=generator)) for top in (7, 5))
        ids = torch.randint(4, vocab, (n_prompt + n_response,), generator=generator).tolist()
        turns.append(make_turn(ids, n_prompt))
    return turns


@dataclass(frozen=True)
class MemoryCheckpoint:
    """A checkpoint that was never written to disk."""

    name: str
    learning_rate: float
    weights: Mapping[str, Tensor]
    state: AdamState | None

    def values(self, names: Sequence[str]) -> Mapping[str, Tensor]:
        return {name: self.weights[name] for name in names}

    def adam(self) -> AdamState | None:
        return self.state


@dataclass(frozen=True)
class Problem:
    """A subject with its training rows and queries; query 0 is training row 4 word for word."""

    subject: Subject
    train: TurnSet
    queries: TurnSet
    names: tuple[str, ...]

    @property
    def loaded(self) -> LoadedModel:
        return self.subject.loaded


def trained(model: torch.nn.Module, names: Sequence[str], turns: Sequence[EncodedTurn]) -> list[MemoryCheckpoint]:
    """Trains the named parameters in place for two epochs of full batches; one checkpoint after each rate."""
    parameters = dict(model.named_parameters())
    chosen = {name: parameters[name].requires_grad_(True) for name in names}
    optimizer = torch.optim.Adam(chosen.values())
    checkpoints = []
    for epoch, rate in enumerate(LEARNING_RATES):
        optimizer.param_groups[0]["lr"] = rate
        for _ in range(5):
            optimizer.zero_grad()
            for turn in turns:
                ids = torch.tensor([turn.input_ids])
                logits = model(input_ids=ids).logits[0, turn.t : -1]
                loss = torch.nn.functional.cross_entropy(logits, ids[0, turn.response_start :])
                (loss / len(turns)).backward()
            optimizer.step()
        moments = {
            kind: {name: optimizer.state[p][kind].detach().clone() for name, p in chosen.items()}
            for kind in ("exp_avg", "exp_avg_sq")
        }
        state = AdamState(moments["exp_avg"], moments["exp_avg_sq"], step=5 * (epoch + 1))
        weights = {name: p.detach().clone() for name, p in chosen.items()}
        checkpoints.append(MemoryCheckpoint(f"epoch {epoch}", rate, weights, state))
    return checkpoints


def small_model(family: str, **changes: object) -> torch.nn.Module:
    """A float64 model of two layers, 16 wide, whose dense curvature fits on a page."""
    size = {"vocab_size": VOCAB} | (
        {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16}
        if family == "gpt2"
        else {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 12}
    )
    return tiny_model(family, dtype=torch.float64, **(size | changes))


def with_lora(model: torch.nn.Module, targets: Sequence[str]) -> torch.nn.Module:
    """The model inside a LoRA adapter of rank 2 whose B is not zero."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(5)
    wrapped = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=list(targets)))
    with torch.no_grad():
        for name, p in wrapped.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.1)
    return wrapped.double().eval()


def save_encoder(folder: Path) -> Path:
    """A tiny random BERT with its tokenizer, as a sentence encoder's folder."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=400, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def build_problem(
    kind: str, encoder: Path, targets: Sequence[str] = ("q_proj", "v_proj"), n_train: int = N_TRAIN
) -> Problem:
    """ "lora": a tiny Llama with an adapter; "full": a tiny GPT-2 (Conv1D), every weight trained."""
    model = with_lora(small_model("llama"), targets) if kind == "lora" else small_model("gpt2")
    names = tuple(name for name, _ in model.named_parameters() if kind == "full" or "lora_" in name)
    train = random_turns(n_train, seed=1)
    queries = [train[4], *random_turns(N_QUERY - 1, seed=2)]
    checkpoints = trained(model, names, train)
    loaded = LoadedModel.wrap(model, tiny_tokenizer())
    base = None if kind == "lora" else LoadedModel.wrap(small_model("gpt2"), tiny_tokenizer())
    subject = Subject(loaded, checkpoints=tuple(checkpoints), seed=7, text_encoder=str(encoder), base=base)
    return Problem(subject, TurnSet.of(train), TurnSet.of(queries), names)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session", params=["lora", "full"])
def problem(request: pytest.FixtureRequest, encoder: Path) -> Problem:
    return build_problem(request.param, encoder)


@pytest.fixture(scope="session")
def make_problem(encoder: Path) -> Callable[..., Problem]:
    """LoRA problems with other targets or more rows."""

    def make(targets: Sequence[str], n_train: int = N_TRAIN) -> Problem:
        return build_problem("lora", encoder, targets, n_train)

    return make


@pytest.fixture
def turn() -> Callable[[Sequence[int], int], EncodedTurn]:
    return make_turn


@pytest.fixture
def some_turns() -> Callable[[int], list[EncodedTurn]]:
    """n turns of many lengths over the tiny tokenizer's first tokens, token 37 left out."""

    def make(n: int) -> list[EncodedTurn]:
        return random_turns(n, seed=11, vocab=37)

    return make


@pytest.fixture
def lora() -> Callable[[torch.nn.Module, Sequence[str]], torch.nn.Module]:
    return with_lora
