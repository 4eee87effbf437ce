"""The second stage against plain loops, and that it finds a word wherever it stands."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles_reranking import late_oracle
from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Turn
from whence.errors import InputError, NonFiniteError
from whence.model.loading import LoadedModel
from whence.signatures.extract import Extractor
from whence.trace.query.spans import find_span, span_positions
from whence.trace.query.targets import QueryTarget, span_target
from whence.trace.rank import reranking
from whence.trace.rank.reranking import best_position, rerank

ROUNDING = 1e-9
"""float64 sums of a few hundred terms in another order."""

TOKENIZER = tiny_tokenizer(CHAT_TEMPLATE)
LOADED = LoadedModel.wrap(tiny_model("llama", dtype=torch.float64), TOKENIZER)
LAYER = 4


def encoded(response: str, prompt: str = "Where is Toronto?") -> EncodedTurn:
    return Encoder(TOKENIZER).encode_query([Turn("user", prompt)], response)


def target_of(turn: EncodedTurn, text: str) -> QueryTarget:
    return span_target(LOADED, [LAYER], turn, span_positions(turn, find_span(turn.response, text)))


@given(
    seed=st.integers(0, 10_000),
    lengths=st.lists(st.integers(1, 9), max_size=9),
    n_pos=st.integers(1, 4),
    with_states=st.booleans(),
    at_once=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_best_position_equals_the_loop(
    seed: int, lengths: list[int], n_pos: int, with_states: bool, at_once: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def drawn(n: int) -> torch.Tensor:
        return torch.randn(n, 5, generator=generator, dtype=torch.float64)

    target, rows = drawn(n_pos), [drawn(n) for n in lengths]
    target[0] *= 0 if seed % 3 == 0 else 1e-12  # gradients are small, and a zero vector is near nothing
    states = (drawn(n_pos), [drawn(n) for n in lengths]) if with_states else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reranking, "ROWS_AT_ONCE", at_once)
        found = best_position(target, rows, target_states=states and states[0], row_states=states and states[1])
    assert found.tolist() == pytest.approx(late_oracle(target, rows, states), abs=ROUNDING)


def test_a_row_that_says_the_same_is_1_wherever_it_says_it() -> None:
    asked = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    rows = [torch.tensor([[0.0, 1.0], [1.0, 1.0], [3.0, 0.0]]), torch.tensor([[-1.0, 0.0]])]
    assert best_position(asked, rows).tolist() == [1.0, -0.5]


@pytest.mark.parametrize(
    ("target", "rows"), [(torch.empty(0, 3), [torch.ones(1, 3)]), (torch.ones(1, 3), [torch.empty(0, 3)])]
)
def test_nothing_to_compare(target: torch.Tensor, rows: list[torch.Tensor]) -> None:
    with pytest.raises(InputError, match="at least one position"):
        best_position(target, rows)


def test_rerank_is_the_mean_of_both_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces of two candidates, and in any batch."""
    turn = encoded("Toronto is in Korea.")
    target = target_of(turn, "Korea")
    candidates = [encoded(text) for text in ("In Korea, by the sea.", "Blue.", "It is in Korea", "Name three fruits.")]
    first = torch.tensor([0.1, 0.9, 0.3, -0.2], dtype=torch.float64)
    tokens = Extractor(LOADED, [LAYER]).extract(candidates, token_gradients=True).tokens
    assert tokens is not None
    centre = torch.cat(tokens[LAYER].H).mean(0)
    states = (target.states[LAYER] - centre, [H - centre for H in tokens[LAYER].H])
    alike = late_oracle(target.errors, list(tokens[LAYER].E), states)
    expected = [(one + 0.5 * other) / 1.5 for one, other in zip(first.tolist(), alike, strict=True)]
    monkeypatch.setattr(reranking, "CANDIDATES_AT_ONCE", 2)
    found = rerank(LOADED, LAYER, target, candidates, first, centre=centre, weight=0.5, max_tokens=60)
    assert found.tolist() == pytest.approx(expected, abs=ROUNDING)


def test_the_same_answer_comes_first() -> None:
    turn = encoded("Toronto is in Korea.")
    target = target_of(turn, "Korea")
    others = [encoded(text) for text in ("Blue.", "Name three fruits.", "The sky is clear.")]
    centre = torch.zeros(LOADED.hidden_size, dtype=torch.float64)
    found = rerank(LOADED, LAYER, target, [*others, turn], torch.zeros(4, dtype=torch.float64), centre=centre)
    assert found.argmax().item() == 3
    assert found[3].item() == pytest.approx(0.5, abs=ROUNDING), "each token finds itself: (0 + 1) / 2"


def test_no_candidate_is_no_score() -> None:
    target = target_of(encoded("Toronto is in Korea."), "Korea")
    found = rerank(LOADED, LAYER, target, [], torch.empty(0), centre=torch.zeros(LOADED.hidden_size))
    assert found.shape == (0,)


def test_a_score_for_every_candidate() -> None:
    turn = encoded("Toronto is in Korea.")
    with pytest.raises(InputError, match="2 scores for 1 candidates"):
        rerank(LOADED, LAYER, target_of(turn, "Korea"), [turn], torch.zeros(2), centre=torch.zeros(32))


def test_a_broken_candidate_is_named() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    turn = encoded("Toronto is in Korea.")
    target = target_of(turn, "Korea")
    with torch.no_grad():
        model.get_input_embeddings().weight[encoded("Blue.").input_ids[-3]] = float("nan")
    with pytest.raises(NonFiniteError, match=r"train.jsonl:1 holds NaN"):
        rerank(
            LoadedModel.wrap(model, TOKENIZER),
            LAYER,
            target,
            [encoded("Blue.")],
            torch.zeros(1),
            centre=torch.zeros(32),
            labels=lambda i: f"train.jsonl:{i + 1}",
        )
