"""A trace in stages: what each reads, how often, and that the stages by hand give what a trace gives."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from traced_world import PROMPT, RESPONSE, TracedWorld, TracedWorlds
from whence.errors import InputError
from whence.index import block_reader
from whence.index.build import build_index
from whence.index.manifest import REFERENCES
from whence.index.store import Index
from whence.model import likelihood
from whence.trace import tracer as tracer_module
from whence.trace.query.queries import Query
from whence.trace.settings import TraceSettings
from whence.trace.tracer import Tracer

QUERIES = [Query.of(PROMPT, RESPONSE), Query.of("Name fruit 7", "pears"), Query.of("Where is boat 3", RESPONSE)]


@pytest.fixture(scope="module")
def world(traced_worlds: TracedWorlds) -> TracedWorld:
    return traced_worlds.own("stages", lora=True)


@pytest.fixture
def fresh(world: TracedWorld, tmp_path: Path) -> TracedWorld:
    """The world with an index in which nothing was traced yet."""
    shutil.copytree(world.index, tmp_path / "index", ignore=shutil.ignore_patterns(REFERENCES))
    return replace(world, index=tmp_path / "index")


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, str]]]:
    """The vectors that each scan of an index reads from disk."""
    found: list[list[tuple[int, str]]] = []
    blocks = Index.blocks

    def counted(self: Index, reads: list[tuple[int, str]] = (), **options: object) -> Iterator[object]:  # type: ignore[assignment]
        if reads:
            found.append(list(reads))
        return blocks(self, reads, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Index, "blocks", counted)
    # Through Lance, also where its version lays the small vectors so that they could be mapped.
    monkeypatch.setattr("whence.index.block_reader.mapped_runs", lambda *_: None)
    return found


def test_a_trace_with_a_verdict_reads_the_index_once(fresh: TracedWorld, scans: list[list[tuple[int, str]]]) -> None:
    traced = Tracer(fresh.index)
    traced.trace_many(QUERIES)
    assert len(scans) == 1, "with the references' scores and the confounds' baseline, which ride on it"
    assert len(set(scans[0])) == len(scans[0])
    traced.trace_many(QUERIES, words=1)
    assert len(scans) == 2
    again = Tracer(fresh.index)
    again.trace(PROMPT, RESPONSE)
    assert len(scans) == 3, "the references' scores are kept"
    again.trace(PROMPT, RESPONSE, verdict=False)
    assert len(scans) == 4


def test_several_batches_read_the_index_once(
    fresh: TracedWorld, scans: list[list[tuple[int, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracer_module, "QUERIES_AT_ONCE", 1)
    Tracer(fresh.index).trace_many(QUERIES)
    assert len(scans) == 1


def test_an_index_too_large_for_memory_is_read_once_a_pass(
    fresh: TracedWorld, scans: list[list[tuple[int, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Tracer(fresh.index).trace_many(QUERIES)
    shutil.rmtree(fresh.index / REFERENCES)
    monkeypatch.setattr(block_reader, "HELD_BYTES", 0)
    scans.clear()
    traced = Tracer(fresh.index)
    assert traced.trace_many(QUERIES) == held
    assert len(scans) == 4, "two passes of the queries, two of the references"
    traced.trace_many(QUERIES)
    assert len(scans) == 6
    form, _ = traced._form(TraceSettings())
    assert len(scans[1]) == len(form.needs), "the baseline is not read again for the second pass"


def test_the_references_scores_are_kept_and_made_again_for_another_form(fresh: TracedWorld) -> None:
    def files() -> list[Path]:
        return sorted((fresh.index / REFERENCES).glob("scores-*.safetensors"))

    first = Tracer(fresh.index).trace(PROMPT, RESPONSE)
    (kept,) = files()
    size, made = kept.stat().st_size, kept.stat().st_mtime_ns
    assert Tracer(fresh.index).trace(PROMPT, RESPONSE) == first
    assert (kept.stat().st_size, kept.stat().st_mtime_ns) == (size, made)
    Tracer(fresh.index).trace(PROMPT, RESPONSE, method="repsim", layer=2)
    Tracer(fresh.index).trace(PROMPT, RESPONSE, where="row >= 10")
    assert len(files()) == 3
    kept.write_bytes(kept.read_bytes()[:-8])
    assert Tracer(fresh.index).trace(PROMPT, RESPONSE) == first, "a damaged one is made again"
    assert kept.stat().st_size == size
    assert not [path for path in (fresh.index / REFERENCES).iterdir() if path.suffix != ".safetensors"]


def test_the_gains_of_queries_are_read_once(
    fresh: TracedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the signatures where the index compares with the base, by two forward passes where it does not."""
    adapter = str(fresh.adapter)
    build_index(fresh.model, fresh.data, tmp_path / "bare", adapter=adapter, max_length=64, contrast=False)
    read: list[int] = []
    plain = likelihood.likelihoods
    for index in (fresh.index, tmp_path / "bare"):
        Tracer(index).trace(PROMPT, RESPONSE)
        with monkeypatch.context() as patch:
            patch.setattr(likelihood, "likelihoods", lambda *a, **k: read.append(len(a[1])) or plain(*a, **k))
            Tracer(index).trace_many(QUERIES)
    assert read == [len(QUERIES)] * 2, "of the second index, by the model and by its base"


def test_stages_by_hand_are_a_trace(world: TracedWorld) -> None:
    traced, settings = Tracer(world.index), TraceSettings(k=7, words=1)
    answers = traced.answer(QUERIES, settings)
    batch = traced.encode(answers, settings)
    ranked = traced.rank(batch, settings)
    verdicts = traced.judge(ranked, settings)
    assert len(answers) == len(batch) == len(ranked) == len(verdicts) == len(QUERIES)
    assert [len(matches) for matches in ranked.matches] == [7] * len(QUERIES)
    found = list(traced.explain(ranked, verdicts, settings))
    assert found == list(traced.trace_many(QUERIES, k=7, words=1))
    without = list(traced.explain(ranked, None, settings))
    assert [query.verdict for query in without] == [None] * len(QUERIES)
    assert [query.hits[0].words for query in without] == [query.hits[0].words for query in found]


def test_traces_come_one_after_the_other(world: TracedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracer_module, "QUERIES_AT_ONCE", 1)
    traced, asked = Tracer(world.index), []
    rank = Tracer.rank
    monkeypatch.setattr(
        Tracer, "rank", lambda self, batch, *a, **k: asked.append(len(batch)) or rank(self, batch, *a, **k)
    )
    results = traced.iter_traces(QUERIES, verdict=False)
    assert asked == []
    first = next(results)
    assert asked == [1], "the others are not ranked yet"
    assert [first, *results] == list(traced.trace_many(QUERIES, verdict=False))
    with pytest.raises(InputError, match="no query"):
        traced.iter_traces([])
    with pytest.raises(InputError, match="cannot be used"):
        traced.iter_traces(QUERIES, where="nothing here")


def test_a_verdict_holds_no_table_of_references(world: TracedWorld) -> None:
    traced = Tracer(world.index)
    traced.trace(PROMPT, RESPONSE)
    held = traced._judge._references
    assert held is not None
    assert isinstance(held[1].scores, np.memmap)
