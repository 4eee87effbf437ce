"""Tokens of one word, and the mean over them."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from oracles import same_words_oracle
from tiny import VOCAB_SIZE, tiny_tokenizer
from whence.model.spellings import same_words


def tokenizer_of(*tokens: str) -> PreTrainedTokenizerFast:
    bare = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=tokens[0]))
    bare.decoder = decoders.Metaspace(prepend_scheme="never")
    return PreTrainedTokenizerFast(tokenizer_object=bare, unk_token=tokens[0])


def test_a_space_before_and_a_capital_make_another_token_and_no_other_word() -> None:
    tokens = ("<unk>", "Peru", "▁Peru", "▁peru", "Per", "▁", "▁▁", "\ufffd", "▁\ufffd", "Straße", "▁STRASSE", "▁Pérou")
    found = same_words(tokenizer_of(*tokens), len(tokens) + 5)
    words = [found.tokens[found.word == word].tolist() for word in range(len(found.size))]
    assert words == [[1, 2, 3], [9, 10]]
    assert found.size.tolist() == [3, 2]
    assert same_words(tokenizer_of(*tokens), 3).tokens.tolist() == [1, 2]


def test_the_mean_over_a_word_equals_the_oracle() -> None:
    tokenizer, size = tiny_tokenizer(), VOCAB_SIZE + 7
    values = torch.randn(5, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = same_words(tokenizer, size)
    assert len(found.tokens) > 50
    kept = values.clone()
    averaged = found.averaged(values)
    torch.testing.assert_close(averaged, values @ same_words_oracle(tokenizer, size), rtol=0, atol=1e-12)
    assert torch.equal(values, kept)
    torch.testing.assert_close(averaged.sum(1), values.sum(1))


def test_a_vocabulary_without_such_tokens_is_left_as_it_is() -> None:
    tokenizer = tokenizer_of("<unk>", "a", "b")
    values = torch.randn(2, 3)
    assert torch.equal(same_words(tokenizer, 3).averaged(values), values)
