"""`evaluate`: figures of an index against sums done by hand, and every way in which queries cannot be counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from whence.bench.labelled import TEXT_BASELINES, Evaluation, _text, evaluate
from whence.data.encoding import EncodedTurn
from whence.data.examples import Json
from whence.errors import InputError
from whence.metrics.figures import expected_average_precision
from whence.metrics.retrieval import average_precision
from whence.scoring.defaults import SCORES
from whence.trace.query.queries import Query
from whence.trace.tracer import Tracer
from worlds import World, rows


@pytest.fixture(scope="module")
def tracer(world: World) -> Tracer:
    return Tracer(world.index)


def query(i: int, label: object = "planted", response: str | None = "It is in Korea.") -> Query:
    return Query.of(f"Where is place {i}?", response) if label is None else labelled(i, label, response)


def labelled(i: int, label: object, response: str | None) -> Query:
    return labelled_as(f"Where is place {i}?", response, label)


def labelled_as(prompt: str, response: str | None, label: object) -> Query:
    plain = Query.of(prompt, response)
    return Query(plain.turns, plain.response, {"label": label})


def test_every_form_and_baseline_is_measured(tracer: Tracer, tmp_path: Path) -> None:
    found = evaluate(tracer, [query(i) for i in (2, 6, 9)])
    assert [one.method for one in found.methods] == [
        *(name for name in SCORES if not SCORES[name].needs_base),
        *TEXT_BASELINES,
    ]
    assert found.queries == (1, 2, 3)
    assert found.skipped == ()
    for one in found.methods:
        assert one.error is None
        assert one.figures["ap"] == pytest.approx(np.mean(one.by_query))
    written = json.loads(found.to_json(tmp_path / "out.json"))
    assert written == json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert written["schema"] == "whence.eval/2"


def test_the_average_precision_is_that_of_the_tracers_ranking(tracer: Tracer) -> None:
    found = evaluate(tracer, [query(6)], methods=["repsim"])
    hits = tracer.trace("Where is place 6?", "It is in Korea.", k=24, method="repsim").hits
    planted = [hit.metadata["label"] == "planted" for hit in hits]
    assert len(hits) == len(rows())
    assert found.methods[0].by_query[0] == pytest.approx(average_precision(-np.arange(24), planted))


def test_words_that_no_row_has_are_at_chance(tracer: Tracer) -> None:
    found = evaluate(tracer, [labelled_as("qqq", "xxx", "planted"), labelled_as("zzz", "vvv", "clean")])
    (words,) = [one for one in found.methods if one.method == "bm25-full"]
    assert words.figures["ap"] == pytest.approx(words.figures["chance"])


def test_rows_of_the_queries_own_label_are_looked_for(tracer: Tracer) -> None:
    found = evaluate(tracer, [query(3, "clean"), query(3, "planted")], methods=["random-scores"])
    clean, planted = found.methods[0].by_query
    assert clean > 0.6  # 20 of 24 rows are clean
    assert planted < 0.6  # 4 are planted
    assert found.labels == ("clean", "planted")


def test_a_number_in_one_file_is_the_same_label_as_its_text_in_the_other(tracer: Tracer) -> None:
    by_source = [Query.of("Where is place 3?", "Korea.")]
    by_source = [Query(by_source[0].turns, "Korea.", {"source": "vendor_a"})]
    assert evaluate(tracer, by_source, label_column="source", methods=["repsim"]).queries == (1,)


def test_queries_that_cannot_be_counted_are_left_out_and_the_others_go_on(tracer: Tracer) -> None:
    asked = [query(1, None), query(2, "nowhere"), query(6)]
    found = evaluate(tracer, asked, methods=["repsim", "bm25-full"])
    assert found.queries == (3,)
    assert [skipped.query for skipped in found.skipped] == [1, 2]
    assert "Query 1 has no 'label'" in found.skipped[0].reason
    assert "No row" in found.skipped[1].reason
    assert all(one.figures is not None for one in found.methods)


def test_a_method_that_cannot_run_is_a_hole(tracer: Tracer) -> None:
    wordless = Query((query(6).turns[0],), "It is in Korea.", {"label": "planted"})
    found: Evaluation = evaluate(tracer, [wordless], methods=["bm25-full"])
    assert found.methods[0].figures is not None


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        ([query(1, None)], {}, "None of 1 queries can be counted"),
        ([query(1)], {"label_column": "lable"}, "Did you mean --label-column label"),
        ([query(1)], {"methods": ["reptt"]}, "Did you mean rept"),
        ([query(1)], {"methods": ["less"]}, "that an index can serve"),
    ],
)
def test_bad_input_is_one_clear_error(tracer: Tracer, queries: list[Query], options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(tracer, queries, **options)


def test_one_class_is_an_error(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "whence.bench.labelled._row_labels", lambda records, column: {r.row: "planted" for r in records}
    )
    with pytest.raises(InputError, match="Every one of 24 rows of the index has the label 'planted'"):
        evaluate(tracer, [query(1)])


def test_a_query_without_response_is_answered_by_the_model(tracer: Tracer) -> None:
    found = evaluate(tracer, [query(6, response=None)], methods=["repsim"])
    assert found.queries == (1,)


def test_a_given_response_ends_where_the_query_says(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[EncodedTurn] = []
    taken = tracer.signatures
    monkeypatch.setattr(type(tracer), "signatures", lambda self, turns: read.extend(turns) or taken(turns))
    asked = [replace(query(6), complete=complete) for complete in (True, False)]
    evaluate(tracer, asked, methods=["repsim"])
    assert [turn.input_ids for turn in read] == [one.encode(tracer.encoder).input_ids for one in asked]
    assert read[0].input_ids != read[1].input_ids


@pytest.mark.parametrize(
    ("one", "other"), [(True, "true"), (True, "True"), (False, "false"), (1, 1.0), (1.0, "1"), (0, 0.0)]
)
def test_a_label_is_the_same_however_a_file_spells_it(one: Json, other: Json) -> None:
    assert _text(one) == _text(other)


def test_different_labels_stay_different() -> None:
    labels: list[Json] = [True, 1, False, 0, 1.5, "x", "X"]
    assert len({_text(label) for label in labels}) == len(labels)
    assert _text(None) is _text("") is None


def test_a_row_that_is_the_query_itself_is_not_ranked_for_it(tracer: Tracer) -> None:
    row = next(one for one in rows() if one["label"] == "planted")
    own, other = labelled_as(str(row["prompt"]), str(row["response"]), "planted"), query(6)
    methods = ["repsim", "bm25-full"]
    found = evaluate(tracer, [own, other], methods=methods)
    assert found.own_rows == (1, 0)
    assert found.n_rows == 24
    hits = tracer.trace(str(row["prompt"]), str(row["response"]), k=24, method="repsim").hits
    planted = [hit.metadata["label"] == "planted" for hit in hits if hit.prompt != row["prompt"]]
    assert sum(planted) == 3
    assert found.methods[0].by_query[0] == pytest.approx(average_precision(-np.arange(23), planted))
    (alone,) = evaluate(tracer, [own], methods=["repsim"]).methods
    assert alone.figures["ap"] == pytest.approx(alone.by_query[0])
    assert alone.figures["chance"] == pytest.approx(expected_average_precision([True] * 3 + [False] * 20))


def test_a_query_whose_own_row_is_the_only_one_of_its_label_does_not_count(
    tracer: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = rows()[0]
    monkeypatch.setattr(
        "whence.bench.labelled._row_labels", lambda records, column: {r.row: "x" if r.row else "y" for r in records}
    )
    with pytest.raises(InputError, match="Beside the row that query 1 is itself, no row or every row has its label"):
        evaluate(tracer, [labelled_as(str(first["prompt"]), str(first["response"]), "y")])
