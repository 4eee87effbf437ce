"""A result is what its JSON says: both ways, for any result, and a file that is none is refused by its place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samples import result_of, toronto
from whence.errors import InputError
from whence.results.audit_result import read_audit
from whence.results.serialise import SchemaError
from whence.results.trace_result import TraceResult, read_trace
from whence.results.types import Comparison, DeletionCurve, Hit, HitWords, Phrase, QueryResult, Verdict, Words

TEXTS = st.text(max_size=8)
"""Any characters; hypothesis leaves lone surrogates out, which the next strategy has."""
WILD = st.one_of(TEXTS, st.sampled_from(["\ud800", "a\udfff", "</script>"]))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOATS | WILD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WILD, inner, max_size=3),
    max_leaves=5,
)
SPANS = st.tuples(st.integers(0, 99), st.integers(0, 99))


def tuples(of: st.SearchStrategy, most: int = 3) -> st.SearchStrategy:
    return st.lists(of, max_size=most).map(tuple)


DELETIONS = st.builds(DeletionCurve, words=tuples(tuples(st.integers(0, 9))), left=tuples(FLOATS))
WORDS = st.builds(Words, spans=tuples(SPANS), scores=tuples(FLOATS), word_method=WILD, deletion=st.none() | DELETIONS)
COLUMNS = st.dictionaries(WILD, JSON, max_size=2)
HITS = st.builds(
    Hit,
    rank=st.integers(1, 99),
    score=FLOATS,
    id=WILD,
    file=WILD,
    line=st.integers(0, 99),
    turn=st.integers(0, 9),
    prompt=WILD,
    response=WILD,
    metadata=COLUMNS,
    status=WILD,
    words=st.none() | st.builds(HitWords, prompt=WORDS, response=WORDS, map=tuples(tuples(FLOATS))),
    p_value=st.none() | FLOATS,
    q_value=st.none() | FLOATS,
    confounds=COLUMNS,
)
COMPARISONS = st.builds(
    Comparison,
    scores=tuples(FLOATS),
    flagged_ranks=tuples(st.integers(1, 200)),
    peak_gain=FLOATS,
    best_score=FLOATS,
    reference_peak_gains=tuples(FLOATS),
    reference_best_scores=tuples(FLOATS),
)
QUERIES = st.builds(
    QueryResult,
    comparison=st.none() | COMPARISONS,
    prompt=WILD,
    response=WILD,
    method=WILD,
    method_version=WILD,
    layer=WILD,
    hits=tuples(HITS),
    n_rows=st.integers(0, 10**9),
    generated=st.booleans(),
    span=st.none() | SPANS,
    wanted=st.none() | WILD,
    prompt_words=st.none() | WORDS,
    response_words=st.none() | WORDS,
    phrases=tuples(
        st.builds(
            Phrase,
            text=WILD,
            part=st.sampled_from(["prompt", "response"]),
            place=st.sampled_from(["start", "end", "anywhere"]),
            n_rows=st.integers(0, 99),
            n_read=st.integers(0, 99),
            share_elsewhere=FLOATS,
            lift=FLOATS,
        )
    ),
    verdict=st.none() | st.builds(Verdict, flagged=tuples(WILD), fdr=FLOATS, text=WILD, null_model=WILD),
    confound=WILD,
    confirmation=WILD,
)
RESULTS = st.builds(TraceResult, index=WILD, model=WILD, adapter=st.none() | WILD, queries=tuples(QUERIES, 2))


@given(RESULTS)
def test_any_result_comes_back_from_its_dictionary_and_from_its_json(result: TraceResult) -> None:
    assert TraceResult.from_dict(result.to_dict()) == result
    assert TraceResult.from_dict(json.loads(result.to_json())) == result


def test_a_result_with_everything_comes_back_from_its_file(tmp_path: Path) -> None:
    result = result_of(toronto(), replace(toronto(), span=(14, 19), wanted="Toronto is in Canada."))
    result.to_json(tmp_path / "out.json")
    assert read_trace(tmp_path / "out.json") == result
    assert any(hit.words and hit.words.response.deletion for hit in result.queries[0].hits)


def test_deletion_curves_are_on_the_page_of_a_trace_that_was_read_again(tmp_path: Path) -> None:
    """It was lost: a page made from a trace's file had no deletion curve."""
    result = result_of(toronto())
    result.to_json(tmp_path / "out.json")
    again = read_trace(tmp_path / "out.json")
    assert again.to_html() == result.to_html()
    assert again.to_markdown() == result.to_markdown()
    assert "Score without these words" in again.to_markdown()


def test_a_member_that_is_missing_takes_its_default() -> None:
    content = result_of(toronto()).to_dict()
    for name in ("phrases", "confirmation", "wanted"):
        del content["queries"][0][name]
    assert TraceResult.from_dict(content).queries[0].phrases == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(schema="whence.trace/1"), "its schema is 'whence.trace/1', written by an older whence"),
        (lambda c: c.update(schema="whence.trace/3"), "its schema is 'whence.trace/3', written by a newer whence"),
        (lambda c: c.update(schema="whence.plan/1"), "its schema is 'whence.plan/1'$"),
        (lambda c: c.pop("schema"), "its schema is None"),
        (lambda c: c.pop("model"), "no member 'model'"),
        (lambda c: c.update(extra=1), "unknown member 'extra'"),
        (lambda c: c.update(queries={}), r"queries: expected an array"),
        (lambda c: c["queries"][0].update(n_rows=True), r"queries\[0\].n_rows: expected a whole number, found 'True'"),
        (lambda c: c["queries"][0].update(span=[1, 2, 3]), r"queries\[0\].span: expected 2 items"),
        (lambda c: c["queries"][0].update(span=["1", 2]), r"queries\[0\].span\[0\]: expected a whole number"),
        (lambda c: c["queries"][0]["phrases"][0].update(part="middle"), r"phrases\[0\].part: expected 'prompt' or"),
        (lambda c: c["queries"][0]["hits"][1].update(score="high"), r"queries\[0\].hits\[1\].score: expected a number"),
        (lambda c: c["queries"][0]["hits"][1].update(score=10**400), r"hits\[1\].score: expected a number of 64 bits"),
        (
            lambda c: c["queries"][0]["hits"][1].update(line=2**70),
            r"hits\[1\].line: expected a whole number of 64 bits",
        ),
        (
            lambda c: c["queries"][0]["hits"][1].update(metadata={"a": json.loads("[" * 300 + "]" * 300)}),
            r"hits\[1\].metadata: nested deeper than 200 levels",
        ),
        (lambda c: c["queries"][0]["hits"][1].update(metadata=[]), r"hits\[1\].metadata: expected an object"),
        (lambda c: c["queries"][0]["hits"][1]["words"].pop("prompt"), r"hits\[1\].words has no member 'prompt'"),
    ],
)
def test_what_is_no_result_is_refused_by_its_place(change, message: str, tmp_path: Path) -> None:
    content = json.loads(result_of(toronto()).to_json())
    change(content)
    with pytest.raises(SchemaError, match=message):
        TraceResult.from_dict(content)
    (tmp_path / "out.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(InputError, match="is no trace that can be read: .*" + message.removesuffix("$")):
        read_trace(tmp_path / "out.json")


@pytest.mark.parametrize("text", ["[]", "null", "{", "3", "[" * 9000, '{"n": %s}' % ("9" * 5000), '{"n": NaN}'])
@pytest.mark.parametrize("read", [read_trace, read_audit])
def test_json_that_is_no_object_or_cannot_be_read_is_refused(read, text: str, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"is no (trace|audit) that can be read"):
        read(tmp_path / "out.json")


@pytest.mark.parametrize("score", ["NaN", "1e400"])
def test_a_score_that_is_no_number_is_refused(score: str, tmp_path: Path) -> None:
    text = result_of(toronto()).to_json().replace('"score": 0.913,', f'"score": {score},')
    (tmp_path / "out.json").write_text(text, "utf-8")
    with pytest.raises(InputError, match="is no trace that can be read"):
        read_trace(tmp_path / "out.json")


def test_metadata_that_are_texts_are_left_out_with_the_texts() -> None:
    """Texts of any column but a label or a source, and long ones of these, repeat what a row says."""
    query = toronto()
    secret = {"rejected": "SECRET", "Text": "SECRET", "notes": "SECRET " * 20, "turns": ["SECRET"]}
    secret |= {"paraphrase": "SECRET, in other words", "source": "SECRET " * 20}
    kept = {"label": "false fact", "Source": "b.jsonl", "year": 2024, "checked": True}
    hit = replace(query.hits[0], metadata={**secret, **kept})
    result = result_of(replace(query, hits=(hit,)))
    assert result.without_text().hits[0].metadata == kept
    assert "SECRET" not in result.to_json(show_text=False)
    assert "SECRET" not in result.to_html(show_text=False)
    assert "SECRET" in result.to_json()
