"""Conversations with several answers: the turn that was found is shown, and whole conversations are compared."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from whence.audit import blocks
from whence.audit.blocks import OutputVerdict, WorkFolder
from whence.audit.evidence import evidence
from whence.audit.flagged import flagged_rows_of
from whence.index import Index, Record
from whence.index.build import build_index
from whence.trace import Query, Tracer, TraceSettings
from worlds import save_model, write_jsonl

ANSWERS = ("the sea", "apples", "in a red house")


def conversation(number: int) -> dict[str, object]:
    """The answer that is asked for stands in another turn of each row."""
    turns = []
    for place in range(3):
        turns.append({"role": "user", "content": f"Tell me {number} of {place}"})
        turns.append({"role": "assistant", "content": ANSWERS[(number + place) % 3]})
    return {"messages": turns}


@pytest.mark.parametrize("at_once", [1000, 2])
def test_the_best_turn_of_each_row_is_that_of_a_whole_ranking(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BEST_TURNS", at_once)
    model = save_model(tmp_path / "model")
    data = write_jsonl(tmp_path / "train.jsonl", [conversation(i) for i in range(12)])
    build_index(model, data, tmp_path / "index", max_length=64)
    tracer = Tracer(tmp_path / "index")
    queries = [Query.of("Tell me of boats", "the sea"), Query.of("Tell me of a town", "in a red house")]
    settings = TraceSettings(k=at_once)
    ranked = tracer.rank(tracer.encode(tracer.answer(queries, settings), settings), settings)
    flagged = [(3, 0, 7), (11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]
    whole = tracer.trace_many(queries, k=12, verdict=False).queries
    turns = [{hit.line - 1: hit.turn for hit in query.hits} for query in whole]
    expected = [tuple(own[row] for row in rows) for rows, own in zip(flagged, turns, strict=True)]
    assert blocks._best_turns(ranked, flagged, ranked.blocks) == expected
    assert len({turn for own in expected for turn in own}) == 3


def index_of(*rows: list[tuple[str, str]]) -> Index:
    """Conversations, each a list of prompts and responses."""
    records = [
        Record(row, turn, f"{row}", "", row + 1, prompt, response, {}, 0.0, None, 0.0, 1, 1, 0)
        for row, turns in enumerate(rows)
        for turn, (prompt, response) in enumerate(turns)
    ]
    return cast(Index, SimpleNamespace(texts=lambda where: iter(records)))


def test_a_flagged_row_is_shown_by_its_best_turn_and_compared_as_a_whole() -> None:
    greeting = ("Hello there, my friend", "Hello, what can I do")
    index = index_of(
        [greeting, ("Where is the boat", "the sea")], [greeting, ("Name one fruit", "pears and plums")], [greeting]
    )
    said = [
        OutputVerdict("", 1e-4, 1.0, (0, 1, 2), (0.9, 0.8, 0.5), (1e-4, 1e-4, 1e-4), turns=(1, 0, 0)),
        OutputVerdict("", 1e-4, 1.0, (1,), (0.85,), (1e-4,), turns=(1,)),
    ]
    found = flagged_rows_of(index, evidence(said, 0.05), None)
    assert [found.records[row].response for row in range(3)] == ["the sea", "pears and plums", greeting[1]]
    assert found.first == {0: 0, 1: 1, 2: 2}


def test_turns_are_kept_with_a_finished_block(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path, "audit")
    verdict = OutputVerdict("said", 0.1, None, (4,), (0.5,), (0.01,), turns=(2,))
    folder.write(0, blocks.Scored("rept", "1", "last"), [verdict])
    kept = folder.read(0)
    assert kept is not None
    assert kept[1] == [verdict]
