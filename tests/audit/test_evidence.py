"""One rate over all outputs and rows, held to the plain definition and to what it promises under the null."""

from __future__ import annotations

import numpy as np
import pytest

from whence.audit.blocks import OutputVerdict
from whence.audit.evidence import evidence, least_outputs


def said(p: float | None, *q_rows: float) -> OutputVerdict:
    """Of an output that was compared with 99 references."""
    rows = tuple(range(len(q_rows)))
    return OutputVerdict("", p, 1.0, rows, tuple(1.0 / (1 + row) for row in rows), tuple(q_rows), p_least=0.01)


def plain(verdicts: list[OutputVerdict], fdr: float) -> list[tuple[int, ...]]:
    """Benjamini and Bogomolov as the paper says it: sort, find the last below the line, test each family at R / m."""
    p = [max(one.p_answer, min(one.q_rows, default=1.0)) for one in verdicts if one.p_answer is not None]
    m = len(p)
    n_selected = max((k for k in range(1, m + 1) if sorted(p)[k - 1] <= fdr * k / m), default=0)
    threshold = sorted(p)[n_selected - 1] if n_selected else -1.0
    own = iter(p)
    return [
        tuple(row for row, q in zip(one.rows, one.q_rows, strict=True) if q <= fdr * n_selected / m)
        if one.p_answer is not None and next(own) <= threshold
        else ()
        for one in verdicts
    ]


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_papers_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    verdicts = []
    for _ in range(40):
        p = None if rng.random() < 0.1 else float(rng.random() ** (4 if rng.random() < 0.5 else 1))
        verdicts.append(said(p, *np.sort(rng.random(rng.integers(0, 5)) ** 6 * 0.05)))
    found = evidence(verdicts, 0.05)
    assert [one.rows for one in found] == plain(verdicts, 0.05)
    assert [one.p is None for one in found] == [one.p_answer is None for one in verdicts]


def test_hardly_any_output_is_selected_where_none_has_a_cause() -> None:
    rng = np.random.default_rng(0)
    runs = [
        sum(one.has_cause for one in evidence([said(float(p), 0.0001) for p in rng.random(200)], 0.05))
        for _ in range(200)
    ]
    assert np.mean(np.array(runs) > 0) <= 0.08


def test_an_answer_without_flagged_rows_has_no_cause() -> None:
    found = evidence([said(0.001), said(0.001, 0.001)], 0.05)
    assert [one.has_cause for one in found] == [False, True]
    assert found[0].p == 1.0


def test_how_many_outputs_a_cause_must_have() -> None:
    verdicts = [said(0.01, 0.001)] * 20 + [said(0.5)] * 80
    needed = least_outputs(verdicts, 0.05)
    assert needed == 20
    assert any(one.has_cause for one in evidence(verdicts, 0.05))
    assert not any(one.has_cause for one in evidence([*verdicts[1:], said(0.5)], 0.05))
    assert least_outputs([said(None)], 0.05) == 0
    assert least_outputs([said(0.31), *[said(0.9)] * 9], 0.05) == 2, "not by the p-values that they happen to have"
