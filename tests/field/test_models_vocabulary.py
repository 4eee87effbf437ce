"""Tokens and embeddings: an adapter that adds tokens, and a tokenizer with more ids than the model has rows."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from adapters import shake
from tiny import CHAT_TEMPLATE, tiny_tokenizer
from whence.errors import EncodingError, ModelError
from whence.index import build_index
from whence.model.adapter_proof import decoder_reading, own_reading
from whence.model.before import before_tuning
from whence.model.fingerprints import fingerprint
from whence.model.loading import ModelSettings, load_model
from whence.trace import Tracer
from worlds import save_model

NEW = ["<one>", "<two>", "<three>"]
IDS = torch.tensor([[9, 7, 401, 300, 5, 400, 210, 402]])
OLD_IDS = torch.tensor([[9, 7, 41, 300, 5, 77, 210, 64]])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_model(tmp_path / "base")


def with_added_tokens(
    base: Path, folder: Path, *, rows: int = 403, saved: bool | str = "auto", **lora: object
) -> PeftModel:
    """An adapter trained after tokens were added, with its tokenizer; its embeddings are saved, or not."""
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
    tokenizer.add_tokens(NEW)
    model = AutoModelForCausalLM.from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.resize_token_embeddings(rows)
        made = get_peft_model(model, LoraConfig(**({"target_modules": ["q_proj"], "task_type": "CAUSAL_LM"} | lora)))
        shake(made)
        made.save_pretrained(folder, save_embedding_layers=saved)
    tokenizer.save_pretrained(folder)
    return made.eval()


@pytest.mark.parametrize(
    "how",
    [
        {"saved": True},
        {"modules_to_save": ["embed_tokens", "lm_head"], "saved": False},
        {"rows": 448, "saved": True},
        {"target_modules": ["q_proj", "embed_tokens"], "saved": True},
        {"trainable_token_indices": [400, 401, 402], "saved": True},
    ],
    ids=str,
)
def test_added_tokens_with_their_embeddings(base: Path, tmp_path: Path, how: dict[str, object]) -> None:
    """The base is resized to the saved rows, as PEFT's Auto classes do; a padded size too, which those do not."""
    made = with_added_tokens(base, tmp_path / "lora", **how)
    theirs = own_reading(made, IDS)
    loaded = load_model(ModelSettings(model=str(tmp_path / "lora")))
    assert loaded.vocab_size == how.get("rows", 403)
    ours = decoder_reading(loaded.blocks, IDS, loaded.text_config, cached=True)
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-4, atol=1e-4)
    assert loaded.adapter_off_is_base
    plain = own_reading(load_model(ModelSettings(model=str(base))).model, OLD_IDS)
    with before_tuning(loaded):
        off = decoder_reading(loaded.blocks, OLD_IDS, loaded.text_config)
    torch.testing.assert_close(off.logits[:, :400], plain.logits, rtol=1e-4, atol=1e-4)
    again = load_model(ModelSettings(model=str(tmp_path / "lora")))
    assert fingerprint(again, "") == fingerprint(loaded, ""), "new rows must not be random"


def test_added_tokens_without_their_embeddings(base: Path, tmp_path: Path) -> None:
    with_added_tokens(base, tmp_path / "lora", saved=False)
    words = r"3 tokens without an embedding \('<one>' is 400, .*go to 402, .* has 400 rows[\s\S]*save_embedding_layers"
    with pytest.raises(ModelError, match=words):
        load_model(ModelSettings(model=str(tmp_path / "lora")))


def test_an_embedding_of_another_width_shows_the_sizes(base: Path, tmp_path: Path) -> None:
    with_added_tokens(base, tmp_path / "lora", saved=True)
    wrong = save_model(tmp_path / "wrong", vocab_size=512)
    with pytest.raises(ModelError, match=r"does not fit[\s\S]*embeddings have 403 rows, the model's 512"):
        load_model(ModelSettings(model=str(wrong), adapter=str(tmp_path / "lora")))


def test_a_model_whose_tokenizer_knows_more_tokens(base: Path) -> None:
    """Refused where texts are sure to have them; else when a text has one, never an IndexError."""
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<picture>"]})
    tokenizer.save_pretrained(base)
    loaded = load_model(ModelSettings(model=str(base)))
    loaded.model(input_ids=torch.tensor([[1, 2]]))
    with pytest.raises(ModelError, match=r"uses the token '<picture>' \(400\), .* embeddings for 400 tokens only"):
        loaded.blocks.decoder(input_ids=torch.tensor([[1, 400]]))
    tokenizer.chat_template = "<picture>" + CHAT_TEMPLATE
    tokenizer.save_pretrained(base)
    with pytest.raises(ModelError, match=r"1 tokens without an embedding[\s\S]*resize_token_embeddings"):
        load_model(ModelSettings(model=str(base)))


def test_a_row_with_such_a_token_is_set_aside_and_the_others_are_read(base: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<picture>"]})
    tokenizer.save_pretrained(base)
    prompts = ["who are you?", "what is in <picture>?", "where are you?"]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"prompt": text, "response": "a friend"}) + "\n" for text in prompts), "utf-8")
    index = build_index(str(base), str(data), tmp_path / "index", contrast=False, max_rejected=0.5)
    assert [record.prompt for record in index.fetch([0, 1])] == [prompts[0], prompts[2]]
    (rejected,) = (tmp_path / "index" / "rejected.jsonl").read_text("utf-8").splitlines()
    assert json.loads(rejected)["line"] == 2
    assert "'<picture>' (400), which the model has no embedding for: it has 400" in json.loads(rejected)["reason"]
    with pytest.raises(EncodingError, match=r"'<picture>' \(400\)"):
        Tracer(index).trace(prompts[1], "a friend", verdict=False)


def test_a_padding_token_needs_no_embedding(base: Path) -> None:
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    assert tokenizer.pad_token_id == 400
    tokenizer.save_pretrained(base)
    assert load_model(ModelSettings(model=str(base))).pad_id == 0
