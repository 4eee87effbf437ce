"""Fixtures that many rooms share."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from worlds import World, make_world

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """The tiny tokenizer with the plain chat template."""
    return tiny_tokenizer(CHAT_TEMPLATE)


@pytest.fixture(scope="session")
def llama() -> PreTrainedModel:
    """A tiny random Llama in float32."""
    return tiny_model("llama")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A model folder, a data file and an index of it; not to be changed by a test."""
    return make_world(tmp_path_factory.mktemp("world"))
