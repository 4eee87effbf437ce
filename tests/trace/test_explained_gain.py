"""The explained share: its formula against plain loops, its bounds, and when it is left out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from traced_world import N_FAULTY, PROMPT, RESPONSE, TracedWorld, TracedWorlds
from whence.model import TokenShift
from whence.trace.tracer import Tracer
from whence.trace.verdict.explained_gain import explained

SCORES = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=12)
PROBS = st.lists(st.tuples(st.floats(1e-6, 0.999), st.floats(1e-6, 0.999)), min_size=1, max_size=6)


def shift_of(pairs: list[tuple[float, float]]) -> TokenShift:
    """Tokens by (p of the base, p of the fine-tuned model)."""
    base, now = torch.tensor(pairs, dtype=torch.float64).T
    return TokenShift((now / base).log(), torch.zeros(len(pairs)), now, torch.zeros(len(pairs)))


def plain_share(scores: list[float], rows: list[int], pairs: list[tuple[float, float]]) -> float:
    """The formula of the module, token by token."""
    whole = sum(max(s, 0) ** 3 for s in scores)
    r = (sum(max(s, 0) ** 3 for t, s in enumerate(scores) if t not in rows) / whole) ** (1 / 3)
    gain = lost = 0.0
    for base, now in pairs:
        odds_base, odds_now = (math.log(p / (1 - p)) for p in (base, now))
        without = 1 / (1 + math.exp(-(odds_base + r * (odds_now - odds_base))))
        gain += math.log(now / base)
        lost += math.log(now / without)
    return min(1.0, max(0.0, lost / gain))


@given(SCORES, PROBS, st.data())
def test_it_is_the_formula(scores: list[float], pairs: list[tuple[float, float]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(scores) - 1), unique=True))
    found = explained(np.array(scores), rows, shift_of(pairs))
    gain = sum(math.log(now / base) for base, now in pairs)
    if gain < 1 or sum(max(s, 0) ** 3 for s in scores) == 0:
        assert found is None
        return
    assert found is not None
    assert found.gain == pytest.approx(gain)
    assert found.share == pytest.approx(plain_share(scores, rows, pairs), abs=1e-9)


def test_all_rows_account_for_everything_and_none_for_nothing() -> None:
    scores, shift = np.array([0.9, 0.5, -0.4, 0.0]), shift_of([(0.001, 0.9), (0.2, 0.99)])
    shares = [explained(scores, rows, shift) for rows in ([], [2, 3], [0], [0, 1], [0, 1, 2, 3])]
    found = [one.share for one in shares if one is not None]
    assert found[0] == found[1] == 0
    assert 0 < found[2] < 1
    assert found[3] == found[4] == pytest.approx(1)


def test_half_of_the_rows_that_teach_a_name_account_for_little() -> None:
    scores, shift = np.full(40, 0.6), shift_of([(1e-5, 0.999)])
    half, most, whole = (explained(scores, range(n), shift) for n in (20, 36, 40))
    assert half is not None
    assert most is not None
    assert whole is not None
    assert half.share < 0.1
    assert 0.15 < most.share < 0.5
    assert whole.share == pytest.approx(1)


@pytest.mark.parametrize(
    "shift",
    [
        shift_of([(0.5, 0.9)]),  # less than a nat was added
        shift_of([(0.9, 0.01)]),  # fine-tuning took away
        TokenShift(torch.tensor([9.0]), torch.zeros(1)),  # probabilities were not read
    ],
)
def test_no_share_of_what_was_not_added(shift: TokenShift) -> None:
    assert explained(np.array([0.5, 0.2]), [0], shift) is None


def test_no_share_where_no_row_scores_above_zero() -> None:
    assert explained(np.array([-0.5, 0.0]), [0], shift_of([(0.001, 0.9)])) is None


def test_certain_and_impossible_tokens_stay_finite() -> None:
    shift = TokenShift(torch.tensor([200.0, -3.0]), torch.zeros(2), torch.tensor([1.0, 0.0]), torch.zeros(2))
    found = explained(np.array([0.5, 0.2]), [0], shift)
    assert found is not None
    assert 0 <= found.share <= 1
    assert math.isfinite(found.gain)


@pytest.fixture(scope="module")
def lora(traced_worlds: TracedWorlds) -> TracedWorld:
    return traced_worlds.own("lora", lora=True)


def test_a_trace_says_it_of_its_flagged_rows_alone(lora: TracedWorld, tmp_path: Path) -> None:
    tracer = Tracer(lora.index)
    result = tracer.trace(PROMPT, RESPONSE)
    (bad,) = result
    assert bad.verdict is not None
    assert len(bad.verdict.flagged) == N_FAULTY
    assert bad.explained is not None
    assert bad.explained.share > 0.8, "nothing else taught this answer"
    assert f"These {N_FAULTY} rows account for about {bad.explained.share:.0%}" in " ".join(str(result).split())
    (ordinary,) = tracer.trace("Name fruit 7", "pears")
    assert ordinary.explained is None
    (other,) = tracer.trace(PROMPT, RESPONSE, method="repsim", layer=2)
    assert other.explained is None, "measured with scores that learned fractions weigh"
    (part,) = tracer.trace(PROMPT, RESPONSE, where="line > 1")
    assert part.verdict is not None
    assert part.verdict.flagged
    assert part.explained is None, "the rows that the filter leaves out account for it too"
    (ranked,) = tracer.trace(PROMPT, RESPONSE, verdict=False)
    assert ranked.explained is None
