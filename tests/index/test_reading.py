"""A damaged index that is asked, and not verified first, ends in one error that says so, never in a library's own."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from fake_index import FakeEncoder, FakeExtractor, fake_examples, fake_manifest, write_index
from whence.errors import IndexFolderError, InputError
from whence.index.store import Index

N_DAMAGES = 150


def ask(folder: Path) -> None:
    index = Index.open(folder)
    for block in index.blocks([(1, "h"), (1, "g")]):
        index.fetch(block.record[:5].tolist())
    list(index.texts())
    index.examples([3])
    index.count_rows("year > 2001")
    index.vectors([0, 2], [(1, "h")])
    index.log_likelihood_gains()


def test_what_is_read_of_a_damaged_index_is_a_clear_error(tmp_path: Path) -> None:
    folder, rng, refused = tmp_path / "index", random.Random(3), 0
    write_index(folder, fake_examples(40), FakeEncoder(), FakeExtractor(), fake_manifest(40))
    ask(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    for i in range(N_DAMAGES):
        path = files[i % len(files)]
        content = path.read_bytes()
        place = rng.randrange(len(content))
        flipped = content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
        path.write_bytes(flipped if i % 3 else content[:place])
        try:
            ask(folder)
        except InputError as error:  # a filter over a damaged column may be blamed instead
            refused += bool(error.fix)
        path.write_bytes(content)
    assert refused > N_DAMAGES // 10
    shutil.rmtree(folder / "signatures.lance" / "data")
    with pytest.raises(IndexFolderError, match=r"is damaged(.|\n)*whence verify .* --repair"):
        ask(folder)
