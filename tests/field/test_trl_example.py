"""`examples/trl_lora` as a user runs it: train with TRL, index the folder, trace, with no setting given twice.

Slow, and runs where trl is installed: `make test-peers`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer

pytest.importorskip("trl", reason="trl is not installed; `make test-peers` makes an environment with it")

SCRIPT = Path(__file__).parents[2] / "examples" / "trl_lora" / "train.py"
SETTINGS = ["--rows", "80", "--epochs", "30", "--learning-rate", "1e-2"]
"""A tiny random model learns few rows, and nothing at the rate of a real one."""


@pytest.mark.slow
def test_from_the_trainer_to_the_planted_rows(tmp_path: Path, whence: Callable[..., tuple[int, str, str]]) -> None:
    model, out = tmp_path / "model", tmp_path / "run"
    tiny_model("llama").save_pretrained(model)
    tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(model)
    words = [sys.executable, SCRIPT, "--model", model, "--out", out, *SETTINGS]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

    status, _, said = whence("index", out / "sft", "-o", out / "index")
    assert status == 0, said
    assert "compared rows are read token by token" in said
    page, result = out / "trace.html", out / "trace.json"
    status, _, said = whence("trace", out / "index", "--queries", out / "bad.jsonl", "--html", page, "--json", result)
    assert status == 0, said
    assert page.stat().st_size > 1000
    assert len(json.loads(result.read_text())["queries"]) == 8
    hits = json.loads(result.read_text())["queries"][0]["hits"]
    assert all("Korea" in hit["response"] for hit in hits[:5])
