"""The commands: exit status 2, one message in three parts, no traceback, no warning, and nothing written is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from adapters import make_adapter
from worlds import World, rows, save_model, write_jsonl


def in_a_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it, warnings shown."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "default"}
    return subprocess.run(
        [sys.executable, "-c", "from whence.cli.main import main; main()", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def ended_in_three_parts(status: int, said: str, words: str) -> None:
    assert status == 2, said
    assert "Traceback" not in said
    message = said[said.index("Error: ") :].strip().splitlines()
    assert len(message) == 3, message
    assert words in message[0]


def no_layer(folder: Path) -> None:
    path = folder / "model.safetensors"
    kept = {name: weight for name, weight in load_file(path).items() if "layers.1." not in name}
    save_file(kept, path, metadata={"format": "pt"})


def cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def stored_quantised(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": {"quant_method": "gptq"}}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_layer, "9 are missing (model.layers.1."),
        (cut_off, "model.safetensors is damaged"),
        (stored_quantised, "is stored quantised with gptq"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.json is damaged"),
    ],
    ids=["no layer", "cut off", "quantised", "tokenizer"],
)
def test_index_refuses_model_and_base(
    whence: Callable[..., tuple[int, str, str]],
    damage: Callable[[Path], object],
    words: str,
    world: World,
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(world.model, broken)
    damage(broken)
    for model in ((broken,), (world.model, "--base", broken)):
        status, _, said = whence("index", model[0], world.data, "-o", tmp_path / "index", *model[1:])
        ended_in_three_parts(status, said, words)
    assert not (tmp_path / "index").exists()


def test_an_adapter_is_indexed_and_traced_in_silence_and_a_move_is_said(
    whence: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    base, data = save_model(tmp_path / "base"), write_jsonl(tmp_path / "train.jsonl", rows(8))
    make_adapter(base, tmp_path / "lora", "LORA")
    index = tmp_path / "index"
    done = in_a_process("index", tmp_path / "lora", data, "-o", index, "--max-length", 64)
    assert done.returncode == 0, done.stderr
    assert "is_gradient_checkpointing" not in done.stderr
    (tmp_path / "lora").rename(tmp_path / "moved")
    asked = ("trace", index, "--prompt", "Where is place 1?", "--response", "It is in Canada.", "--no-verdict")
    status, _, said = whence(*asked)
    ended_in_three_parts(status, said, f"the adapter {tmp_path / 'lora'}, which is not there any more")
    done = in_a_process(*asked, "--adapter", tmp_path / "moved")
    assert done.returncode == 0, done.stderr
    moved = tmp_path / "moved"
    status, _, said = whence("index", moved, data, "--adapter", moved, "-o", tmp_path / "other")
    ended_in_three_parts(status, said, "is an adapter itself, and --adapter gives")
