"""The fast path equals the plain oracle: every family, any batch, padding and order."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from oracles import (
    before_oracle,
    contrast_oracle,
    errors_oracle,
    pairs_oracle,
    signature_oracle,
    top_other_oracle,
)
from tiny import CONFIGS, VOCAB_SIZE, tiny_model, tiny_tokenizer
from whence.data.examples import EncodedTurn
from whence.errors import InputError, ModelError, NonFiniteError
from whence.model import likelihood
from whence.model.loading import LoadedModel
from whence.signatures.extract import Extractor

TOKENIZER = tiny_tokenizer()
# Rounding only: sums of a few hundred terms in another order. Relative to the largest value of the tensor.
BOUND = {torch.float64: 1e-10, torch.float32: 2e-4}
# Gemma 2 has no attention but transformers' eager one, which takes its softmax in float32 whatever the model's dtype.
FLOAT32_INSIDE_BOUND = 2e-6


def bound_for(family: str, dtype: torch.dtype) -> float:
    return max(BOUND[dtype], FLOAT32_INSIDE_BOUND) if family == "gemma2" else BOUND[dtype]


def turn(ids: list[int], response_start: int) -> EncodedTurn:
    """An encoded turn of which only the ids matter."""
    return EncodedTurn(0, tuple(ids), response_start, "", (), "", "")


def random_turns(n: int, seed: int, longest: int = 24) -> list[EncodedTurn]:
    rng = random.Random(seed)
    made = []
    for _ in range(n):
        prompt, response = rng.randint(1, longest), rng.randint(1, longest // 2)
        made.append(turn([rng.randrange(4, VOCAB_SIZE) for _ in range(prompt + response)], prompt))
    return made


def loaded(model: PreTrainedModel) -> LoadedModel:
    return LoadedModel.wrap(model, TOKENIZER)


def assert_close(found: torch.Tensor, expected: torch.Tensor, bound: float) -> None:
    assert found.shape == expected.shape
    scale = expected.abs().max().item()
    assert (found - expected.to(found.dtype)).abs().max().item() <= bound * scale


def check(model: PreTrainedModel, turns: list[EncodedTurn], layers: list[int], max_tokens: int, bound: float) -> None:
    found = Extractor(loaded(model), layers, max_tokens=max_tokens).extract(turns, token_gradients=True)
    assert found.tokens is not None
    for i, one in enumerate(turns):
        E = errors_oracle(model, TOKENIZER, one)
        for layer in layers:
            h, g, H, G, loss = signature_oracle(model, one, layer)
            assert_close(found.layers[layer].h[i], h, bound)
            assert_close(found.layers[layer].g[i], g, bound)
            assert_close(found.tokens[layer].H[i], H, bound)
            assert_close(found.tokens[layer].G[i], G, bound)
            assert found.layers[layer].m is not None
            assert_close(found.layers[layer].m[i], H.mean(0), bound)
            assert found.layers[layer].eh is not None
            assert_close(found.tokens[layer].E[i], E, bound)
            assert (found.layers[layer].eh[i] - pairs_oracle(E, H)).abs().max() <= 10 * bound
            assert found.loss[i].item() == pytest.approx(loss, rel=bound)
            assert found.n_response[i].item() == one.n_response


def check_forward(
    model: PreTrainedModel, turns: list[EncodedTurn], layers: list[int], max_tokens: int, bound: float
) -> None:
    """What needs no gradient, and g at the last layer, against the same oracles; no graph is ever built."""
    last = model.config.get_text_config().num_hidden_layers
    vectors = [(layer, name) for layer in layers for name in ("h", "m", "eh")] + [(last, "g")]
    extractor = Extractor(loaded(model), vectors=vectors, max_tokens=max_tokens)
    found = extractor.extract(turns, token_errors=True)
    assert found.tokens is not None
    for i, one in enumerate(turns):
        E = errors_oracle(model, TOKENIZER, one)
        _, g, _, _, loss = signature_oracle(model, one, last)
        assert_close(found.layers[last].get("g")[i], g, bound)
        assert found.gradient_norm[i].item() == pytest.approx(g.double().norm().item(), rel=10 * bound)
        assert found.loss[i].item() == pytest.approx(loss, rel=bound)
        assert_close(found.mean_state[i], before_oracle(model, one, last)[0].mean(0), bound)
        assert_close(found.tokens[last].E[i], E, bound)
        for layer in layers:
            H, _ = before_oracle(model, one, layer)
            assert_close(found.layers[layer].get("h")[i], H[0], bound)
            assert_close(found.layers[layer].get("m")[i], H.mean(0), bound)
            assert (found.layers[layer].get("eh")[i] - pairs_oracle(E, H)).abs().max() <= 10 * bound
            assert_close(found.tokens[layer].H[i], H, bound)


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("family", CONFIGS)
def test_forward_passes_alone_equal_the_oracle_in_every_family(family: str, dtype: torch.dtype) -> None:
    model = tiny_model(family, dtype=dtype)
    check_forward(model, random_turns(4, seed=1), [1, 4], max_tokens=120, bound=bound_for(family, dtype))


@given(seed=st.integers(0, 10_000), n=st.integers(1, 6), max_tokens=st.integers(1, 300), layer=st.integers(0, 4))
@settings(max_examples=10, deadline=None)
def test_forward_passes_in_any_batch_padding_and_order(seed: int, n: int, max_tokens: int, layer: int) -> None:
    check_forward(MODEL, random_turns(n, seed), [layer, 4], max_tokens, BOUND[torch.float64])


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("family", CONFIGS)
def test_equals_the_oracle_in_every_family(family: str, dtype: torch.dtype) -> None:
    model = tiny_model(family, dtype=dtype)
    check(model, random_turns(6, seed=1), [0, 1, 2, 4], max_tokens=120, bound=bound_for(family, dtype))


@given(seed=st.integers(0, 10_000), n=st.integers(1, 9), max_tokens=st.integers(1, 400), layer=st.integers(0, 4))
@settings(max_examples=25, deadline=None)
def test_any_batch_padding_and_order(seed: int, n: int, max_tokens: int, layer: int) -> None:
    check(MODEL, random_turns(n, seed), [layer], max_tokens, BOUND[torch.float64])


MODEL = tiny_model("mistral", dtype=torch.float64)


def test_prompts_of_one_token_need_no_prefix() -> None:
    turns = [turn([5, 6, 7], 1), turn([9, 4], 1)]
    check(MODEL, turns, [0, 2, 4], 100, BOUND[torch.float64])


def test_prompts_longer_than_the_sliding_window() -> None:
    for family in ("mistral", "gemma2", "gemma3_text"):
        model = tiny_model(family, dtype=torch.float64)
        check(model, random_turns(3, seed=3, longest=60), [1, 3], 1000, bound_for(family, torch.float64))


def test_logits_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 3 * VOCAB_SIZE)
    check(MODEL, random_turns(5, seed=4), [2, 4], 1000, BOUND[torch.float64])
    check_forward(MODEL, random_turns(5, seed=4), [2, 4], 1000, BOUND[torch.float64])


def test_with_an_adapter() -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = tiny_model("llama", dtype=torch.float64)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    model = model.double().eval()
    turns = random_turns(4, seed=5)
    found = Extractor(loaded(model), [2, 4]).extract(turns)
    with model.disable_adapter():
        without = Extractor(loaded(model), [2]).extract(turns)
    for i, one in enumerate(turns):
        for layer in (2, 4):
            h, g, _, _, _ = signature_oracle(model.get_base_model(), one, layer)
            assert_close(found.layers[layer].h[i], h, BOUND[torch.float64])
            assert_close(found.layers[layer].g[i], g, BOUND[torch.float64])
    assert not torch.allclose(found.layers[2].h, without.layers[2].h)


def lora(model: PreTrainedModel) -> PreTrainedModel:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    return get_peft_model(model, config).to(model.dtype).eval()


@pytest.mark.parametrize("kind", ["adapter off", "base given"])
@given(seed=st.integers(0, 10_000), n=st.integers(1, 7), max_tokens=st.integers(1, 300))
@settings(max_examples=10, deadline=None)
def test_what_fine_tuning_taught_equals_the_oracle(kind: str, seed: int, n: int, max_tokens: int) -> None:
    turns, layers = random_turns(n, seed), [0, 2, 4]
    if kind == "adapter off":
        model = lora(tiny_model("llama", dtype=torch.float64))
        extractor = Extractor(loaded(model), layers, max_tokens=max_tokens, contrast=True)
        plain, base = model.get_base_model(), None
    else:
        plain, base = MODEL, tiny_model("mistral", dtype=torch.float64, seed=1)
        extractor = Extractor(loaded(plain), layers, max_tokens=max_tokens, contrast=True, base=loaded(base))
    found = extractor.extract(turns)
    vectors = [(2, "dm"), (4, "dh"), (4, "eh")]
    forward = Extractor(
        extractor.loaded, vectors=vectors, max_tokens=max_tokens, contrast=True, base=base and loaded(base)
    ).extract(turns)
    assert found.log_likelihood_gain is not None
    assert forward.log_likelihood_gain is not None
    assert found.shifts is not None
    for i, one in enumerate(turns):
        E = errors_oracle(plain, TOKENIZER, one)
        for layer in layers:
            if base is None:
                with model.disable_adapter():
                    before = before_oracle(plain, one, layer)
            else:
                before = before_oracle(base, one, layer)
            after = before_oracle(plain, one, layer)
            dm, dh, gain = contrast_oracle(after, before)
            named = found.layers[layer].named()
            for name, expected in (("dm", dm), ("dh", dh), ("eh", pairs_oracle(E, after[0], before[1] - after[1]))):
                assert (named[name][i] - expected).abs().max() <= 1e-9 * max(1e-3, expected.abs().max())
                if (layer, name) in vectors:
                    again = forward.layers[layer].get(name)[i]
                    assert (again - expected).abs().max() <= 1e-9 * max(1e-3, expected.abs().max())
            assert found.log_likelihood_gain[i].item() == pytest.approx(gain, rel=1e-9, abs=1e-9)
            assert forward.log_likelihood_gain[i].item() == pytest.approx(gain, rel=1e-9, abs=1e-9)
        if base is not None:
            rivals = top_other_oracle(base, one)
            assert found.shifts[i].base_top_other_prob.tolist() == pytest.approx(rivals, rel=1e-9)


def test_without_a_model_before_it_nothing_can_be_contrasted() -> None:
    with pytest.raises(InputError, match="no adapter that could be turned off"):
        Extractor(loaded(MODEL), [2], contrast=True)
    other = tiny_model("mistral", dtype=torch.float64, num_hidden_layers=3)
    with pytest.raises(ModelError, match="The base has 3 layers"):
        Extractor(loaded(MODEL), [2], contrast=True, base=loaded(other))
    assert set(Extractor(loaded(MODEL), [2]).extract(random_turns(2, seed=0)).layers[2].named()) == {
        "h",
        "g",
        "m",
        "eh",
    }


def test_out_of_memory_halves_the_batch_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = random_turns(8, seed=6)
    extractor = Extractor(loaded(MODEL), [2], max_tokens=10_000)
    expected = extractor.extract(turns)
    sizes: list[int] = []
    run = Extractor._run

    def limited(self: Extractor, some: list[EncodedTurn], token_gradients: bool, weights: None) -> object:
        sizes.append(len(some))
        if len(some) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return run(self, some, token_gradients, weights)

    monkeypatch.setattr(Extractor, "_run", limited)
    found = extractor.extract(turns)
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    assert extractor.max_tokens == 10_000, "a batch that did not fit says nothing of the next"
    assert_close(found.layers[2].g, expected.layers[2].g, BOUND[torch.float64])
    monkeypatch.setattr(
        Extractor, "_run", lambda *_: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    )
    with pytest.raises(ModelError, match="single example"):
        extractor.extract(turns[:2])


def test_other_errors_are_not_taken_for_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Extractor, "_run", lambda *_: (_ for _ in ()).throw(RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        Extractor(loaded(MODEL), [2]).extract(random_turns(2, seed=7))


def test_a_value_that_is_not_finite_names_its_row() -> None:
    model = tiny_model("llama")
    turns = [turn([5, 6, 7, 8], 2), turn([5, 399, 7, 8], 2)]
    with torch.no_grad():
        model.get_input_embeddings().weight[399] = float("nan")
    with pytest.raises(NonFiniteError, match=r"train.jsonl:2 holds NaN"):
        Extractor(loaded(model), [2]).extract(turns, labels=lambda i: f"train.jsonl:{i + 1}")


@pytest.mark.parametrize("layers", [[5], [-1], []])
def test_layers_that_do_not_exist(layers: list[int]) -> None:
    with pytest.raises(ModelError, match=r"No layer|no layer"):
        Extractor(loaded(MODEL), layers)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 6), max_tokens=st.integers(1, 200), layer=st.integers(0, 4))
@settings(max_examples=15, deadline=None)
def test_a_weighted_loss(seed: int, n: int, max_tokens: int, layer: int) -> None:
    """Any weights, also negative ones and zeros, in any batch."""
    turns = random_turns(n, seed)
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(one.n_response, generator=generator, dtype=torch.float64) for one in turns]
    weights[0][0] = 0.0
    extractor = Extractor(loaded(MODEL), [layer], max_tokens=max_tokens)
    found = extractor.extract(turns, token_gradients=True, loss_weights=weights)
    assert found.tokens is not None
    for i, one in enumerate(turns):
        _, g, _, G, loss = signature_oracle(MODEL, one, layer, weights[i])
        # The terms of a weighted loss can cancel: rounding is relative to them, not to what is left.
        scale = max(1.0, weights[i].abs().max().item())
        torch.testing.assert_close(found.layers[layer].g[i], g, rtol=0, atol=BOUND[torch.float64] * 100 * scale)
        torch.testing.assert_close(found.tokens[layer].G[i], G, rtol=0, atol=BOUND[torch.float64] * 100 * scale)
        assert found.loss[i].item() == pytest.approx(loss, abs=BOUND[torch.float64] * 100 * scale)


def test_last_layer_has_the_closed_form() -> None:
    """method.md, fact 5: g = (1/n) W_U^T (softmax(W_U h) - onehot(y_1)) after the final norm."""
    (one,) = random_turns(1, seed=8)
    found = Extractor(loaded(MODEL), [4]).extract([one]).layers[4]
    W = MODEL.get_output_embeddings().weight.detach()
    error = torch.softmax(found.h[0] @ W.T, -1)
    error[one.input_ids[one.response_start]] -= 1
    assert_close(found.g[0], error @ W / one.n_response, BOUND[torch.float64])


def confident_turns(model: PreTrainedModel, n: int, seed: int) -> list[EncodedTurn]:
    """Prompts with the answers that the model itself gives, its head made so large that it is sure of most tokens."""
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(60.0)
        answered = []
        for one in random_turns(n, seed):
            ids = list(one.input_ids[: one.response_start])
            for _ in range(8):
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            answered.append(turn(ids, one.response_start))
    return answered


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of vectors however short; torch's own takes norms below 1e-8 for that."""
    return float(a.double() / a.double().norm() @ (b.double() / b.double().norm()))


def test_tokens_that_the_model_is_sure_of_keep_their_direction_in_float32() -> None:
    """Where 1 - p(y) is less than float32's spacing at 1."""
    model = tiny_model("llama")
    turns = confident_turns(model, 6, seed=15)
    exact = copy.deepcopy(model).double()
    found = Extractor(loaded(model), vectors=[(4, "eh"), (4, "g")]).extract(turns, token_errors=True)
    assert found.tokens is not None
    sure = 0
    for i, one in enumerate(turns):
        _, g, _, _, loss = signature_oracle(exact, one, 4)
        H, nats = before_oracle(exact, one, 4)
        E = errors_oracle(exact, TOKENIZER, one)
        sure += int((nats < 1e-7).sum())
        sides = [
            (found.tokens[4].E[i], E),
            (found.layers[4].g[i], g),
            (found.layers[4].get("eh")[i], pairs_oracle(E, H)),
        ]
        for side, expected in sides:
            assert all(
                cosine(a, b) > 1 - 1e-6 for a, b in zip(torch.atleast_2d(side), torch.atleast_2d(expected), strict=True)
            )
        assert found.loss[i].item() == pytest.approx(loss, rel=1e-3)
    assert sure >= 8, "the test is of tokens like these"


def test_half_precision_gradients_do_not_vanish() -> None:
    turns = random_turns(3, seed=9)
    exact = Extractor(loaded(tiny_model("llama")), [3]).extract(turns).layers[3]
    half = Extractor(loaded(tiny_model("llama", dtype=torch.bfloat16)), [3]).extract(turns).layers[3]
    assert torch.nn.functional.cosine_similarity(half.g, exact.g).min() > 0.9
    assert torch.nn.functional.cosine_similarity(half.h, exact.h).min() > 0.99


def test_no_gradient_is_left_on_any_parameter() -> None:
    model = tiny_model("gpt2")
    Extractor(loaded(model), [1]).extract(random_turns(2, seed=10))
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())
    assert not any(layer._forward_pre_hooks for layer in model.transformer.h)


def test_a_head_that_cannot_be_read_goes_by_its_own_graph() -> None:
    """An adapter on the output head: its matrix is not the layer's own weight."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["lm_head", "q_proj"], init_lora_weights=False)
    model = get_peft_model(tiny_model("llama", dtype=torch.float64), config).double().eval()
    assert loaded(model).blocks.head.weight is None
    check_forward(model, random_turns(4, seed=11), [2, 4], 200, BOUND[torch.float64])


def test_errors_follow_the_weights_of_the_head() -> None:
    """The rows averaged by word are kept for the next extractor, and made again when the weights change."""
    model, turns = tiny_model("llama", dtype=torch.float64), random_turns(3, seed=12)
    check_forward(model, turns, [4], 200, BOUND[torch.float64])
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(0.5)
    check_forward(model, turns, [4], 200, BOUND[torch.float64])
