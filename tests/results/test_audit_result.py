"""An audit is what its JSON says, both ways, and shows no row's text where that is not wanted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.results.audit_result import AuditResult
from whence.results.audit_types import (
    AuditGroup,
    AuditQuery,
    AuditRow,
    ContrastPhrase,
    CoverageStep,
    SourcePushes,
    SourceShare,
    SourceTable,
    Trigger,
)
from whence.results.serialise import SchemaError

TEXTS = st.text(max_size=6)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PROBABILITIES = st.floats(0, 1)
COUNTS = st.integers(0, 99)


def tuples(of: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(of, max_size=2).map(tuple)


COLUMNS = st.dictionaries(TEXTS, st.none() | COUNTS | TEXTS, max_size=2)
QUERIES = st.builds(
    AuditQuery,
    prompt=TEXTS,
    response=TEXTS,
    outcome=st.sampled_from(["cause", "no cause", "no verdict"]),
    text=TEXTS,
    count=st.integers(1, 9),
    generated=st.booleans(),
    p_value=st.none() | PROBABILITIES,
    q_value=st.none() | PROBABILITIES,
    gain=st.none() | FLOATS,
    n_flagged=COUNTS,
    group=st.none() | st.integers(1, 9),
    messages=tuples(COLUMNS),
    metadata=COLUMNS,
)
ROWS = st.builds(
    AuditRow,
    id=TEXTS,
    file=TEXTS,
    line=COUNTS,
    prompt=TEXTS,
    response=TEXTS,
    n_outputs=COUNTS,
    score=FLOATS,
    metadata=COLUMNS,
    copies=tuples(TEXTS),
)
PHRASES = st.builds(
    ContrastPhrase,
    text=TEXTS,
    part=st.sampled_from(["prompt", "response"]),
    place=st.sampled_from(["start", "end", "either end", "anywhere"]),
    n_rows=COUNTS,
    n_read=st.integers(1, 99),
    n_elsewhere=COUNTS,
    n_others=COUNTS,
    p_value=PROBABILITIES,
)
GROUPS = st.builds(
    AuditGroup,
    number=st.integers(1, 9),
    name=TEXTS,
    n_outputs=COUNTS,
    queries=tuples(COUNTS),
    rows=tuples(ROWS),
    q_value=PROBABILITIES,
    share=PROBABILITIES,
    phrases=tuples(PHRASES),
    example=st.none(),
)
AUDITS = st.builds(
    AuditResult,
    index=TEXTS,
    model=TEXTS,
    adapter=st.none() | TEXTS,
    method=TEXTS,
    method_version=TEXTS,
    layer=TEXTS,
    n_rows=COUNTS,
    fdr=PROBABILITIES,
    queries=tuples(QUERIES),
    groups=tuples(GROUPS),
    coverage=tuples(st.builds(CoverageStep, id=TEXTS, group=COUNTS, n_new=COUNTS, n_covered=COUNTS)),
    sources=tuples(
        st.builds(
            SourceTable,
            column=TEXTS,
            n_outputs=COUNTS,
            values=tuples(
                st.builds(
                    SourceShare,
                    value=TEXTS,
                    n_rows=COUNTS,
                    row_share=PROBABILITIES,
                    share=PROBABILITIES,
                    low=PROBABILITIES,
                    high=PROBABILITIES,
                    p_value=PROBABILITIES,
                    alone=PROBABILITIES,
                )
            ),
        )
    ),
    triggers=tuples(
        st.builds(
            Trigger,
            group=COUNTS,
            parts=tuples(TEXTS),
            place=st.sampled_from(["start", "end", "either end", "anywhere"]),
            n_rows=COUNTS,
            n_read=COUNTS,
            n_elsewhere=COUNTS,
            n_others=COUNTS,
            match=TEXTS,
            n_prompts=COUNTS,
            n_with=COUNTS,
            n_without=COUNTS,
            n_random=COUNTS,
            p_value=PROBABILITIES,
            n_tried=COUNTS,
            status=st.sampled_from(["candidate", "proven on the model"]),
        )
    ),
    notes=tuples(TEXTS),
)


@given(AUDITS)
def test_it_comes_back_from_its_json(audit: AuditResult) -> None:
    assert AuditResult.from_dict(json.loads(audit.to_json())) == audit


def _pushes(audit: AuditResult) -> tuple[SourcePushes, ...]:
    return () if audit.behaviour is None else audit.behaviour.sources


@given(AUDITS)
def test_without_text_no_row_says_anything(audit: AuditResult) -> None:
    bare = audit.without_text()
    tables = zip((*audit.sources, *_pushes(audit)), (*bare.sources, *_pushes(bare)), strict=True)
    for before, after in tables:
        for old, new in zip(before.values, after.values, strict=True):
            word = len(old.value.split()) == 1 and len(old.value) <= 80
            assert new.value == (old.value if word else f"({len(old.value):,} characters)")
    assert all(not row.prompt and not row.response for group in bare.groups for row in group.rows)
    assert all(not group.phrases and group.example is None for group in bare.groups)
    assert [group.name for group in bare.groups] == [f"Group {group.number}" for group in audit.groups]
    assert bare.queries == audit.queries


def test_a_wrong_value_is_refused_by_its_place() -> None:
    content = json.loads(AuditResult("i", "m", None, "x", "1", "2", 3, 0.05, (), (), ()).to_json())
    with pytest.raises(SchemaError, match="n_rows: expected a whole number"):
        AuditResult.from_dict(content | {"n_rows": "many"})
    with pytest.raises(SchemaError, match="unknown member 'colour'"):
        AuditResult.from_dict(content | {"colour": 1})
