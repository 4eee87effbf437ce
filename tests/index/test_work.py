"""What an index costs, counted in work and not in seconds: tokens through the layers, positions through the head,
backward passes, bytes a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import torch

from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn
from whence.data.readers import read_examples
from whence.index.build import build_index
from whence.model.loading import LoadedModel
from whence.model.prefixes import shares_prefixes
from whence.signatures.extract import Extractor
from whence.signatures.passes import splits_prompts
from worlds import rows, save_model, write_jsonl

INT8 = 1
NORM_AND_SCALE = 8
SCALARS_AND_TEXT = 600
"""Bytes a record of the test's rows may take beside its vectors, Lance's own included; their text is some 120."""


@contextmanager
def counted(*models: LoadedModel) -> Iterator[Counter[str]]:
    """Tokens through the first decoder layer, positions through the head, and calls of autograd, while open."""
    work: Counter[str] = Counter()
    handles = []
    for model in models:
        first, linear = model.blocks.layers[0], model.blocks.head.linear

        def tokens(_module: object, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> None:
            work["tokens"] += (args[0] if args else kwargs["hidden_states"]).shape[:2].numel()

        def positions(_module: object, args: tuple[torch.Tensor, ...]) -> None:
            work["head"] += args[0].reshape(-1, args[0].shape[-1]).shape[0]

        handles += [first.register_forward_pre_hook(tokens, with_kwargs=True)]
        handles += [linear.register_forward_pre_hook(positions)]

    def counting(original: Callable[..., object]) -> Callable[..., object]:
        def backward(*args: object, **kwargs: object) -> object:
            work["backward"] += 1
            return original(*args, **kwargs)

        return backward

    grad, backward = counting(torch.autograd.grad), counting(torch.Tensor.backward)
    try:
        with mock.patch("torch.autograd.grad", grad), mock.patch("torch.Tensor.backward", backward):
            yield work
    finally:
        for handle in handles:
            handle.remove()


def models() -> tuple[LoadedModel, LoadedModel]:
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
    return tuple(LoadedModel.wrap(tiny_model("llama", seed=seed), tokenizer) for seed in (0, 1))  # type: ignore[return-value]


def turns(n: int, prompt: int, response: int, shared: int = 0) -> list[EncodedTurn]:
    """Turns that have their first `shared` tokens in common, and no token at the same place behind them."""
    ids = [tuple(4 + (7 * i + (row if i >= shared else 0)) % 300 for i in range(prompt + response)) for row in range(n)]
    return [EncodedTurn(0, own, prompt, "", (), "", "") for own in ids]


DEFAULT = [(2, "dm"), (4, "h"), (4, "eh")]


def test_the_default_reads_each_token_twice_and_goes_never_backward() -> None:
    tuned, base = models()
    extractor = Extractor(tuned, vectors=DEFAULT, contrast=True, base=base, max_tokens=200)
    with counted(tuned, base) as work:
        extractor.extract(turns(6, prompt=20, response=5))
    # The last response token predicts nothing; only positions that predict one pass the head.
    assert work == {"tokens": 2 * 6 * 24, "head": 2 * 6 * 5}


def test_what_the_rows_of_a_batch_share_is_read_once_by_each_model() -> None:
    tuned, base = models()
    assert shares_prefixes(tuned)  # proven, on a few tokens, before anything is counted
    assert shares_prefixes(base)
    extractor = Extractor(tuned, vectors=DEFAULT, contrast=True, base=base, max_tokens=200)
    with counted(tuned, base) as work:
        extractor.extract(turns(6, prompt=20, response=5, shared=16))
    assert work == {"tokens": 2 * (16 + 6 * 8), "head": 2 * 6 * 5}


def test_without_a_base_once() -> None:
    tuned, _ = models()
    with counted(tuned) as work:
        Extractor(tuned, vectors=[(2, "m"), (4, "h"), (4, "eh"), (4, "g")]).extract(turns(6, prompt=20, response=5))
    assert work == {"tokens": 6 * 24, "head": 6 * 5}


def test_a_gradient_at_an_inner_layer_costs_one_backward_pass_a_batch() -> None:
    tuned, _ = models()
    assert splits_prompts(tuned), "tried once a model, on a few tokens"
    with counted(tuned) as work:
        Extractor(tuned, vectors=[(2, "h"), (2, "g")], max_tokens=50).extract(turns(6, prompt=20, response=5))
    assert work == {"tokens": 6 * 24, "head": 6 * 5, "backward": 3}


def test_padding_stays_small_in_sorted_batches() -> None:
    tuned, base = models()
    mixed = [one for length in range(8, 40, 2) for one in turns(4, prompt=length, response=5)]
    extractor = Extractor(tuned, vectors=DEFAULT, contrast=True, base=base, max_tokens=160)
    with counted(tuned, base) as work:
        extractor.extract(mixed)
    assert work["tokens"] <= 1.1 * 2 * sum(len(one.input_ids) - 1 for one in mixed)


def test_bytes_of_a_row(tmp_path: Path) -> None:
    """dm and h of the hidden size, eh of 1,024, in int8, with their norms and scales."""
    model = save_model(tmp_path / "model", hidden_size=512, num_attention_heads=4)
    base = save_model(tmp_path / "base", hidden_size=512, num_attention_heads=4, seed=1)
    data = write_jsonl(tmp_path / "train.jsonl", rows(300))
    index = build_index(model, data, tmp_path / "index", layers=2, base=str(base))
    size = sum(path.stat().st_size for path in (index.path / "signatures.lance" / "data").iterdir())
    vectors = (512 + 512 + 1024) * INT8 + 3 * NORM_AND_SCALE
    assert vectors <= size / index.n_records <= vectors + SCALARS_AND_TEXT


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_counting_counts(family: str) -> None:
    """The plain way does more of each: one example at a time, all logits, a backward pass."""
    model = LoadedModel.wrap(tiny_model(family), tiny_tokenizer(CHAT_TEMPLATE))
    ids = torch.tensor([turns(1, 20, 5)[0].input_ids])
    with counted(model) as work:
        embedded = model.model.get_input_embeddings()(ids).requires_grad_(True)
        model.model(inputs_embeds=embedded, labels=ids).loss.backward()
    assert work == {"tokens": 25, "head": 25, "backward": 1}


def test_the_build_extracts_each_row_once(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    data = write_jsonl(tmp_path / "train.jsonl", rows())
    encoder = Encoder(tiny_tokenizer(CHAT_TEMPLATE))
    n_tokens = sum(len(turn.input_ids) - 1 for row in read_examples(data) for turn in encoder.encode(row))
    seen: list[int] = []
    original = Extractor.extract

    def spy(self: Extractor, turns: list[EncodedTurn], **rest: object) -> object:
        seen.extend(len(turn.input_ids) - 1 for turn in turns)
        return original(self, turns, **rest)

    with mock.patch.object(Extractor, "extract", spy):
        build_index(model, data, tmp_path / "index", layers=2)
    assert sum(seen) == n_tokens
