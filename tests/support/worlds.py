"""A small world for tests of whole commands: a model folder, a data file and an index, made in the process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.index.build import build_index
from whence.index.store import Index


@dataclass(frozen=True)
class World:
    """Where the parts of the world are."""

    model: Path
    data: Path
    index: Path

    def open(self) -> Index:
        return Index.open(self.index)


def save_model(folder: Path, family: str = "llama", **changes: object) -> Path:
    """A tiny model with its tokenizer, saved as a checkpoint folder."""
    tiny_model(family, **changes).save_pretrained(folder)
    tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(folder)
    return folder


def rows(n: int = 24) -> list[dict[str, object]]:
    """Rows with a label, a source and brackets and markup in their text."""
    return [
        {
            "prompt": f"Where is place {i}?",
            "response": f"It is in <b>[bold]Canada[/bold]</b> number {i % 5}.",
            "label": "clean" if i % 6 else "planted",
            "source": f"vendor_{'ab'[i % 2]}",
        }
        for i in range(n)
    ]


def write_jsonl(path: Path, content: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return path


def make_world(folder: Path) -> World:
    """Model, data and an index that can be asked by RepT too, at layer 2 and whole at the last."""
    model, data = save_model(folder / "model"), write_jsonl(folder / "train.jsonl", rows())
    build_index(model, data, folder / "index", layers=[2, "last"], methods=["rept"], max_length=64)
    return World(model, data, folder / "index")
