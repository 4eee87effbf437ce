"""Behaviour rates and their intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from whence.metrics import rate
from whence.metrics.rates import wilson


@given(st.integers(1, 200), st.data())
def test_the_interval_is_scipys(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k / n, n) == pytest.approx((low, high), abs=1e-12)


def test_a_rate_counts_prompts_and_averages_seeds() -> None:
    once, thrice = rate([(True, False, True, True)]), rate([(True, False, True, True)] * 3)
    assert once == thrice
    assert (once.mean, once.n) == (0.75, 4)
    assert rate([(True, True), (False, True)]).mean == 0.75
