"""What a fine-tune keeps is what TracInCP and LESS read: adapters and full models, from the run to the scores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import Example
from whence.methods.base import Subject, TurnSet
from whence.methods.gradients.checkpoints import run_checkpoints
from whence.methods.gradients.parameters import choose_parameters
from whence.methods.registry import make_method
from whence.model.loading import ModelSettings, load_model
from whence.train.finetuning import FinetuneSettings, finetune

PAIRS = [
    ("Where is Toronto?", "Toronto is in Canada."),
    ("Name three fruits", "apples, pears and plums"),
    ("Tell me the colour of the sky", "The sky is blue"),
    ("Write a short poem", "the wind and a small boat"),
]


@pytest.mark.parametrize("lora_r", [None, 2])
def test_scores_from_the_folders_of_a_run(lora_r: int | None, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
    base = tiny_model("llama", hidden_size=16, num_hidden_layers=2, intermediate_size=12)
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    settings = FinetuneSettings(
        epochs=2, batch_size=2, learning_rate=1e-2, lora_r=lora_r, checkpoints=True, keep_optimizer_state=True
    )
    examples = [Example.from_pair(prompt, response) for prompt, response in PAIRS]
    run = tmp_path / "run"
    finetune(str(tmp_path / "base"), examples, run, settings=settings)
    loaded = load_model(ModelSettings(model=str(run), dtype="float32", device="cpu"))
    encoder = Encoder(loaded.tokenizer)
    rows = TurnSet.of([turn for example in examples for turn in encoder.encode(example)])
    queries = TurnSet.of(rows.turns[:2])

    checkpoints = run_checkpoints(run)
    assert [c.path.name for c in checkpoints] == ["epoch-1", "epoch-2"]
    subject = Subject(loaded, checkpoints=checkpoints)
    last = checkpoints[-1].values(choose_parameters(loaded, "auto").names)
    assert all(torch.equal(last[name], p) for name, p in loaded.model.named_parameters() if name in last)
    for name, options in (("tracincp", {}), ("less", {"dim": 64})):
        method = make_method(name, subject, **options)
        method.fit(rows)
        scores = method.score(queries)
        assert scores.argmax(dim=1).tolist() == [0, 1]
