"""Verdicts of whole traces: the faulty rows are flagged, an ordinary answer has no cause, and the cost is paid once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from traced_world import N_CLEAN, N_FAULTY, PROMPT, RESPONSE, TracedWorld, TracedWorlds
from whence.errors import EncodingError, InputError, MismatchError, ModelError, WhenceWarning
from whence.index.build import build_index
from whence.index.manifest import REFERENCES
from whence.index.store import Index
from whence.trace import tracer
from whence.trace.query.queries import Query
from whence.trace.tracer import Tracer
from whence.trace.verdict import calibration_data, judge, references
from whence.trace.verdict.calibrated import Calibrated
from whence.trace.verdict.calibration import MIN_ROWS, verdict
from whence.trace.verdict.confounds import Confounds
from whence.trace.verdict.null_models import MIN_REFERENCES
from worlds import World, save_model


@pytest.fixture(scope="module")
def lora(traced_worlds: TracedWorlds) -> TracedWorld:
    return traced_worlds.own("lora", lora=True)


@pytest.fixture(scope="module")
def full(traced_worlds: TracedWorlds) -> TracedWorld:
    return traced_worlds.own("full", lora=False)


@pytest.fixture
def fresh(lora: TracedWorld, tmp_path: Path) -> TracedWorld:
    """The LoRA world with an index of its own, in which nothing was traced yet."""
    shutil.copytree(lora.index, tmp_path / "index", ignore=shutil.ignore_patterns(REFERENCES))
    return replace(lora, index=tmp_path / "index")


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_planted_rows_stand_out_and_no_others(kind: str, request: pytest.FixtureRequest) -> None:
    world: TracedWorld = request.getfixturevalue(kind)
    traced = Tracer(world.index, base=None if kind == "lora" else str(world.base))
    (result,) = traced.trace(PROMPT, RESPONSE, k=20)
    assert result.verdict is not None
    assert set(result.verdict.flagged) == world.faulty
    assert len(result.verdict.flagged) == N_FAULTY
    assert result.verdict.text == f"{N_FAULTY} rows flagged (false discovery rate 5%)"
    for hit in result.hits:
        assert hit.p_value is not None
        assert hit.q_value is not None
        assert (hit.q_value <= 0.05) == (hit.id in world.faulty)
        assert hit.p_value <= hit.q_value
        assert {"length", "format", "bm25_rank", "repsim_rank"} <= set(hit.confounds)
    content = json.loads(traced.trace(PROMPT, RESPONSE).to_json())["queries"][0]
    assert set(content["verdict"]) == {"flagged", "fdr", "text", "null_model", "n_rows"}


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_an_ordinary_answer_has_no_confident_cause(kind: str, request: pytest.FixtureRequest) -> None:
    world: TracedWorld = request.getfixturevalue(kind)
    traced = Tracer(world.index, base=None if kind == "lora" else str(world.base))
    (result,) = traced.trace("Name fruit 7", "pears")
    assert result.verdict is not None
    assert result.verdict.flagged == ()
    assert result.verdict.text.startswith("no row flagged")


def test_answers_without_a_gain_are_counted(lora: TracedWorld, world: World) -> None:
    index = Index.open(lora.index)
    gains = index.dataset.to_table(columns=["log_likelihood_gain"])["log_likelihood_gain"].to_pylist()
    n_without = sum(not gain > 0 for gain in gains)
    assert 0 < n_without < index.n_records
    assert index.n_records_without_gain() == n_without
    assert Index.open(world.index).n_records_without_gain() is None


def test_the_base_given_beside_an_adapter_says_the_same(lora: TracedWorld) -> None:
    (alone,) = Tracer(lora.index).trace(PROMPT, RESPONSE)
    (given,) = Tracer(lora.index, base=str(lora.base)).trace(PROMPT, RESPONSE)
    assert given.verdict == alone.verdict


def test_references_and_gains_are_made_once(fresh: TracedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    measured: list[int] = []
    answer, gains = references.generate, calibration_data.response_gains
    monkeypatch.setattr(references, "generate", lambda *a, **k: made.append(len(a[1])) or answer(*a, **k))
    monkeypatch.setattr(
        calibration_data, "response_gains", lambda *a, **k: measured.append(len(a[1])) or gains(*a, **k)
    )
    first = Tracer(fresh.index).trace(PROMPT, RESPONSE)
    assert made == [N_CLEAN + N_FAULTY]
    assert measured == [], "the rows' gains are in the index, the query's were read with it"
    again = Tracer(fresh.index).trace(PROMPT, RESPONSE)
    assert again == first
    assert (len(made), measured) == (1, [])
    Tracer(fresh.index).trace(PROMPT, RESPONSE, seed=1, n_references=50)
    assert made == [N_CLEAN + N_FAULTY, 50], "other references are asked for when others are wanted"


def test_without_a_verdict_nothing_is_generated(fresh: TracedWorld) -> None:
    (result,) = Tracer(fresh.index).trace(PROMPT, RESPONSE, verdict=False)
    assert (result.verdict, result.confound, result.hits[0].p_value) == (None, "", None)
    assert result.hits[0].confounds == {}
    assert not (fresh.index / REFERENCES).exists()


def test_a_folder_that_cannot_be_written_costs_the_cache_only(
    fresh: TracedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("whence.trace.verdict.reference_cache.write_atomically", refused)
    (result,) = Tracer(fresh.index).trace(PROMPT, RESPONSE)
    assert result.verdict is not None
    assert set(result.verdict.flagged) == fresh.faulty


def test_gains_that_the_index_does_not_have_are_measured_once(
    fresh: TracedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = built_without_contrast(fresh, tmp_path)
    measured: list[int] = []
    gains = calibration_data.response_gains
    monkeypatch.setattr(
        calibration_data, "response_gains", lambda *a, **k: measured.append(len(a[1])) or gains(*a, **k)
    )
    (first,) = Tracer(bare).trace(PROMPT, RESPONSE)
    assert measured == [N_CLEAN + N_FAULTY]
    assert first.method == "rept-centred"
    assert first.verdict is not None
    assert set(first.verdict.flagged) == fresh.faulty
    Tracer(bare).trace(PROMPT, RESPONSE)
    assert measured[1:] == []
    Tracer(fresh.index).trace(PROMPT, RESPONSE)
    (stored, later) = (Tracer(fresh.index).index.log_likelihood_gains(), Tracer(bare)._judge.data)
    np.testing.assert_allclose(later._cache.read_gains(), stored, atol=1e-3)


def built_without_contrast(world: TracedWorld, folder: Path) -> Path:
    """An index of the world that keeps no log-likelihood gains."""
    adapter = str(world.adapter) if world.adapter else None
    build_index(
        world.model, world.data, folder / "bare", adapter=adapter, layers=[1, "last"], max_length=64, contrast=False
    )
    return folder / "bare"


@pytest.mark.parametrize("contrast", [True, False])
def test_a_damaged_cache_is_made_again(fresh: TracedWorld, tmp_path: Path, contrast: bool) -> None:
    index = fresh.index if contrast else built_without_contrast(fresh, tmp_path)
    (first,) = Tracer(index).trace(PROMPT, RESPONSE)
    kept = list((index / REFERENCES).glob("*.safetensors"))
    assert len(kept) == (3 if contrast else 4)
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    (again,) = Tracer(index).trace(PROMPT, RESPONSE)
    assert again == first


def test_a_reference_that_cannot_be_used_is_left_out_and_named(
    fresh: TracedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = calibration_data.answer_references

    def refuses_one(drawn, *rest, **options):
        if any(one.query.prompt == "Name fruit 5" for one in drawn):
            raise EncodingError("this prompt cannot be rendered", "", "")
        return answer(drawn, *rest, **options)

    monkeypatch.setattr(calibration_data, "answer_references", refuses_one)
    traced = Tracer(fresh.index)
    with pytest.warns(WhenceWarning, match=r"left out, 'Name fruit 5': this prompt cannot be rendered"):
        (result,) = traced.trace(PROMPT, RESPONSE)
    assert result.verdict is not None
    assert set(result.verdict.flagged) == fresh.faulty


def test_joined_references_are_those_made_together(fresh: TracedWorld) -> None:
    traced = Tracer(fresh.index)
    drawn = references.draw_references(traced.index, n=9)
    parts = [
        references.answer_references(part, traced.loaded, traced.encoder, traced.models.extractor)
        for part in (drawn, drawn[:4], drawn[4:])
    ]
    joined = parts[1].joined(parts[2])
    assert (joined.turns, joined.rows.tolist()) == (parts[0].turns, parts[0].rows.tolist())
    np.testing.assert_allclose(joined.gains, parts[0].gains, atol=1e-4)
    for layer, one in parts[0].signatures.items():
        assert one.named()
        for name, raw in one.named().items():
            np.testing.assert_allclose(joined.signatures[layer].get(name), raw, atol=1e-4)


def test_of_a_large_index_only_the_first_rows_are_measured(
    fresh: TracedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration_data, "ALL_ROWS", 50)
    monkeypatch.setattr(calibration_data, "FIRST_ROWS", 30)
    traced = Tracer(built_without_contrast(fresh, tmp_path))
    (result,) = traced.trace(PROMPT, RESPONSE)
    assert result.verdict is not None
    assert set(result.verdict.flagged) == fresh.faulty
    gains = traced._judge.data._gains
    assert gains is not None
    assert np.isfinite(gains).sum() == 30
    traced.trace("Name fruit 7", "pears")
    assert 30 < np.isfinite(gains).sum() <= 60


def test_given_references_calibrate_too(fresh: TracedWorld) -> None:
    given = [Query.of(f"Name fruit {i}") for i in range(MIN_REFERENCES)]
    traced = Tracer(fresh.index)
    (result,) = traced.trace(PROMPT, RESPONSE, references=given)
    assert result.verdict is not None
    assert set(result.verdict.flagged) == fresh.faulty
    (few,) = traced.trace(PROMPT, RESPONSE, references=given[:-1])
    assert few.verdict is not None
    assert few.verdict.flagged == ()
    assert "39 reference queries are too few to calibrate with, 40 are needed" in few.verdict.text
    assert few.hits[0].q_value is None


def test_only_references_of_the_training_data_are_said_to_be_training_prompts(
    lora: TracedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Calibrated] = []
    monkeypatch.setattr(judge, "verdict", lambda one, ids: found.append(one) or verdict(one, ids))
    traced = Tracer(lora.index)
    traced.trace("Name fruit 7", "pears")
    traced.trace("Name fruit 7", "pears", references=[Query.of(f"Name fruit {i}") for i in range(MIN_REFERENCES)])
    assert [one.of_training_prompts for one in found] == [True, False]


def test_too_few_rows_and_no_base_leave_ranks_only(world: World, full: TracedWorld, tmp_path: Path) -> None:
    (small,) = Tracer(world.index).trace("Where?", "Canada.")
    assert small.verdict is not None
    said = (
        f"no verdict, ranks only: 24 rows are too few for a verdict, {MIN_ROWS} are needed; --span sharpens the order"
    )
    assert small.verdict.text.startswith(said)
    assert "--remove top:N tests its first rows" in small.verdict.text
    bare = built_without_contrast(full, tmp_path)
    (alone,) = Tracer(bare).trace(PROMPT, RESPONSE, fdr=0.1)
    assert alone.verdict is not None
    assert "log-likelihood gains cannot be measured without the base model" in alone.verdict.text
    assert (alone.verdict.fdr, alone.verdict.null_model) == (0.1, "")
    assert sorted(hit.confounds["bm25_rank"] for hit in alone.hits)[-1] <= N_FAULTY, "they share the query's words"
    (filtered,) = Tracer(full.index, base=str(full.base)).trace(PROMPT, RESPONSE, where="row < 99")
    assert filtered.verdict is not None
    assert "99 rows are too few" in filtered.verdict.text
    (none,) = Tracer(bare).trace(PROMPT, RESPONSE, where="row < 0")
    assert none.hits == ()


def test_a_filter_judges_its_own_rows(fresh: TracedWorld) -> None:
    (result,) = Tracer(fresh.index).trace(PROMPT, RESPONSE, k=20, where="row >= 10")
    assert result.n_rows == N_CLEAN + N_FAULTY - 10
    assert result.verdict is not None
    assert set(result.verdict.flagged) == fresh.faulty


def test_the_sentence_and_its_confounds_are_of_the_ranking(lora: TracedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    of = Confounds.of

    def heard(self: Confounds, text: str, response: str, *rest: object) -> object:
        asked.append(text)
        return of(self, text, response, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Confounds, "of", heard)
    (result,) = Tracer(lora.index).trace(PROMPT, RESPONSE)
    assert asked == [f"{PROMPT} {RESPONSE}"]
    assert result.confound.removeprefix("These rows are also ") in (
        "the 10 longest.",
        "BM25's first 10.",
        "RepSim's first 10.",
    )


def test_bases_that_cannot_be(lora: TracedWorld, full: TracedWorld, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="is the fine-tuned model itself"):
        Tracer(full.index, base=str(full.model))
    with pytest.raises(MismatchError, match=r"not the base that the adapter .* sits on"):
        Tracer(lora.index, base=str(full.model))
    with pytest.raises(InputError, match="no model folder"):
        Tracer(full.index, base=str(tmp_path / "none"))
    other = save_model(tmp_path / "other", num_hidden_layers=2, vocab_size=390)
    with pytest.raises(ModelError, match="10 tokens without an embedding"):
        Tracer(full.index, base=str(other))


def test_several_queries_have_verdicts_of_their_own(lora: TracedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracer, "QUERIES_AT_ONCE", 2)
    queries = [Query.of(PROMPT, RESPONSE), Query.of("Name fruit 7", "pears"), Query.of("Where is boat 15", RESPONSE)]
    stages: list[str] = []
    found = Tracer(lora.index).trace_many(queries, progress=lambda stage, done, total: stages.append(stage))
    assert [len(query.verdict.flagged) if query.verdict else None for query in found] == [N_FAULTY, 0, N_FAULTY]
    assert stages[-3:] == ["tracing", "tracing", "tracing"]
