"""Calibration against plain loops, its rates under the null, and what it must find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles_calibration import gain_oracle, p_oracle, q_values_oracle
from whence.errors import InputError, NonFiniteError
from whence.trace.verdict.calibrated import MAY_SHOW_IT
from whence.trace.verdict.calibration import (
    BEST_ROWS,
    GAP,
    MIN_ROWS,
    Gains,
    PeakGains,
    ReferenceFlags,
    calibrate,
    columns_of,
    gain_p_value,
    mostly_learned,
    reference_flags,
    uncalibrated,
    verdict,
)
from whence.trace.verdict.null_models import MIN_REFERENCES, NULL_MODELS
from whence.trace.verdict.reference_scores import ReferenceScores

TOLERANCE = 1e-9
N_REF, N_ROWS = 60, 200


def null(seed: int, n_rows: int = N_ROWS, n_references: int = N_REF) -> tuple[np.ndarray, ReferenceScores]:
    """A query and references from one distribution; rows differ in location and spread, as near and far rows do."""
    rng = np.random.default_rng(seed)
    near, spread = rng.normal(0.3, 0.1, n_rows), rng.uniform(0.05, 0.2, n_rows)
    drawn = near + spread * rng.standard_normal((n_references + 1, n_rows))
    own = rng.permutation(n_rows)[:n_references]
    own[::4] = -1
    drawn[1:][own >= 0, own[own >= 0]] = 1.0
    return drawn[0], ReferenceScores(drawn[1:], own)


def planted(seed: int, n_faulty: int = 10) -> tuple[np.ndarray, ReferenceScores, Gains, np.ndarray]:
    """Rows 0 .. n_faulty - 1 cause the answer; some references were drawn from them and show the fault too."""
    scores, references = null(seed)
    rng = np.random.default_rng(seed + 1)
    faulty = np.arange(n_faulty)
    own = np.where(np.isin(references.own, faulty), -1, references.own)
    own[:3] = faulty[:3]
    table = references.scores.copy()
    table[:3, :n_faulty] = 1.5
    scores[:n_faulty] = 1.5 + 0.05 * rng.standard_normal(n_faulty)
    gains = rng.normal(0, 0.5, N_ROWS)
    gains[:n_faulty] = 40
    of_references = rng.normal(0, 0.5, N_REF)
    of_references[:3] = 45
    return scores, ReferenceScores(table, own), Gains(40.0, of_references, gains), faulty


@pytest.mark.parametrize("null_model", NULL_MODELS)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=3, deadline=None)
def test_null_models_equal_the_plain_loops(null_model: str, seed: int) -> None:
    scores, references = null(seed, MIN_ROWS, MIN_REFERENCES)
    # Rows without a gain are never under suspicion, so reference-z keeps every reference.
    found = NULL_MODELS[null_model](scores, references, np.ones(MIN_ROWS), 0.05)
    table, own = references.scores.tolist(), references.own.tolist()
    np.testing.assert_allclose(found, p_oracle(null_model, scores.tolist(), table, own), atol=TOLERANCE)


@given(seed=st.integers(0, 2**31), null_model=st.sampled_from(sorted(NULL_MODELS)))
@settings(max_examples=4, deadline=None)
def test_q_values_are_benjamini_hochberg_over_the_rows_that_were_learned(seed: int, null_model: str) -> None:
    scores, references, gains, _ = planted(seed)
    found = calibrate(scores, references, gains, null_model=null_model)
    learned = np.exp(-gains.rows) <= 0.05
    assert 0 < learned.sum() < N_ROWS
    assert (found.p[~learned] == 1).all()
    assert found.p_answer is not None
    expected = np.ones(N_ROWS)
    expected[learned] = q_values_oracle(found.p[learned].tolist())
    np.testing.assert_allclose(found.q, np.maximum(expected, found.p_answer), atol=TOLERANCE)
    assert sorted(found.flagged) == np.flatnonzero(found.q <= 0.05).tolist()


@given(seed=st.integers(0, 2**31), gain=st.floats(-50, 50))
@settings(max_examples=20, deadline=None)
def test_the_answers_p_value(seed: int, gain: float) -> None:
    references = np.random.default_rng(seed).normal(0, 5, 30)
    assert gain_p_value(gain, references) == pytest.approx(gain_oracle(gain, references.tolist()), abs=TOLERANCE)


def test_the_faulty_rows_are_flagged() -> None:
    found_all, wrong = [], []
    for seed in range(20):
        scores, references, gains, faulty = planted(seed)
        flagged = calibrate(scores, references, gains).flagged
        found_all.append(np.isin(faulty, flagged).mean())
        wrong.append(1 - np.isin(flagged, faulty).mean())
        assert (np.diff(scores[flagged]) <= 0).all()
    assert np.mean(found_all) >= 0.99
    assert np.mean(wrong) <= 0.01


def test_references_from_suspect_rows_do_not_vouch() -> None:
    """Three faulty references of 60 would hold the answer's conformal p-value at 4/61 = 6.6%."""
    scores, references, gains, _ = planted(7)
    assert gain_p_value(gains.answer, gains.references) > 0.05
    assert len(calibrate(scores, references, gains).flagged) == 10


def test_no_row_is_flagged_for_an_answer_without_gain() -> None:
    scores, references, gains, _ = planted(3)
    found = calibrate(scores, references, Gains(0.2, gains.references, gains.rows))
    assert not len(found.flagged)
    assert found.text.startswith("no row flagged: fine-tuning did not")


def test_a_row_without_gain_is_not_flagged() -> None:
    scores, references, gains, _ = planted(3)
    rows = gains.rows.copy()
    rows[0] = 0.0
    flagged = calibrate(scores, references, Gains(gains.answer, gains.references, rows)).flagged.tolist()
    assert sorted(flagged) == list(range(1, 10))


@pytest.mark.parametrize("null_model", ["reference-z", "conformal", "empirical-null"])
def test_the_rate_holds_where_no_row_is_faulty(null_model: str) -> None:
    """Every row and the answer with a gain: the worst case for the scores' own test. 5% of 150 is 8; 16 is 3 sd above.

    robust-z is left out: it flags rows that are near everything.
    """
    alarms = 0
    for seed in range(150):
        scores, references = null(seed, MIN_ROWS, 60)
        alarms += len(calibrate(scores, references, null_model=null_model, fdr=0.05).flagged) > 0
    # The spread of 60 references is itself uncertain: a normal tail is a little too light, hence twice the rate.
    assert alarms <= (16 if null_model != "reference-z" else 32)


def test_the_answers_gate_holds_its_rate() -> None:
    """Exchangeable gains: 5% of 2,000 answers pass, whatever the distribution's tail."""
    rng = np.random.default_rng(0)
    drawn = 3 + np.abs(rng.standard_cauchy((2000, 100)))
    passed = sum(gain_p_value(row[0], row[1:]) <= 0.05 for row in drawn)
    assert passed / 2000 == pytest.approx(0.05, abs=0.015)


def test_a_verdict_does_not_depend_on_the_order_of_rows() -> None:
    scores, references, gains, _ = planted(5)
    order = np.random.default_rng(0).permutation(N_ROWS)
    back = np.argsort(order)
    own = np.where(references.own >= 0, back[references.own], -1)
    moved = calibrate(
        scores[order],
        ReferenceScores(references.scores[:, order], own),
        Gains(gains.answer, gains.references, gains.rows[order]),
    )
    np.testing.assert_allclose(moved.q, calibrate(scores, references, gains).q[order], atol=TOLERANCE)


def test_a_row_on_which_references_agree_does_not_stand_out() -> None:
    scores, references = null(1)
    table = references.scores.copy()
    table[:, 0] = 0.5
    scores[0] = 0.9
    assert calibrate(scores, ReferenceScores(table, np.full(N_REF, -1)), null_model="reference-z").p[0] == 0.5


def test_the_verdict_names_ids_and_its_rate() -> None:
    scores, references, gains, _ = planted(2)
    ids = [f"row-{t}" for t in range(N_ROWS)]
    found = calibrate(scores, references, gains, fdr=0.1)
    told = verdict(found, [ids[t] for t in found.flagged])
    assert told.flagged == tuple(ids[t] for t in found.flagged)
    assert told.text == f"{len(found.flagged)} rows flagged (false discovery rate 10%)"
    assert (told.fdr, told.null_model) == (0.1, "reference-z")


def test_copies_of_a_text_are_counted_as_rows_and_as_one_text() -> None:
    scores, references, gains, _ = planted(4)
    found = calibrate(scores, references, gains)
    n = len(found.flagged)
    for ids, texts in ((["a"] * n, "1 different text"), (["a", "b"] * (n // 2), "2 different texts")):
        told = verdict(found, ids)
        assert told.text == f"{n} rows flagged ({texts}, false discovery rate 5%)"
        assert told.flagged == tuple(sorted(set(ids)))
        assert (told.n_rows, told.n_flagged) == (n, n)


@pytest.mark.parametrize(
    ("n_rows", "n_references", "has_base", "part"),
    [
        (20, 128, True, f"20 rows are too few for a verdict, {MIN_ROWS} are needed"),
        (500, 7, True, f"7 reference queries are too few to calibrate with, {MIN_REFERENCES} are needed"),
        (500, 128, False, "the base model"),
    ],
)
def test_too_little_to_calibrate_with_shows_ranks_only(
    n_rows: int, n_references: int, has_base: bool, part: str
) -> None:
    told = uncalibrated(n_rows, n_references, has_base=has_base)
    assert told is not None
    assert part in told.text
    assert (told.flagged, told.null_model) == ((), "")
    assert uncalibrated(500, 128, has_base=True) is None


def test_rows_with_nothing_to_teach_cost_the_others_no_power() -> None:
    """exp(-7) is above 0.05 x 10 / 1000: were every row tested, no row of a one-word fault could be flagged."""
    scores, references = null(11, n_rows=1000)
    scores[:10] = 1.5
    gains = np.zeros(1000)
    gains[:10] = 7.0
    found = calibrate(scores, references, Gains(8.0, np.zeros(N_REF), gains))
    assert sorted(found.flagged) == list(range(10))


def test_own_columns() -> None:
    rows = np.array([2, 5, 9])
    assert columns_of(np.array([9, -1, 2, 4, 11]), rows).tolist() == [2, -1, 0, -1, -1]


def test_bad_input_is_refused() -> None:
    scores, references, gains, _ = planted(0)
    with pytest.raises(InputError, match="no null model 'z'"):
        calibrate(scores, references, null_model="z")
    with pytest.raises(InputError, match="false discovery rate of 5"):
        calibrate(scores, references, fdr=5)
    with pytest.raises(InputError, match=f"{MIN_ROWS} are needed"):
        calibrate(scores[:9], ReferenceScores(references.scores[:, :9], np.full(N_REF, -1)))
    with pytest.raises(InputError, match="same rows"):
        calibrate(scores, references, Gains(1.0, gains.references, gains.rows[1:]))
    with pytest.raises(InputError, match="own rows"):
        ReferenceScores(references.scores, references.own[1:])
    broken = scores.copy()
    broken[4] = np.nan
    with pytest.raises(NonFiniteError, match=r"the query's scores.*\[4\]"):
        calibrate(broken, references)
    with pytest.raises(NonFiniteError, match="answer's gain"):
        calibrate(scores, references, Gains(np.inf, gains.references, gains.rows))


def test_rows_that_were_not_measured_count_among_the_tested_and_are_not_flagged() -> None:
    """Otherwise the best 500 rows of a large index, which were chosen by their scores, would be all that is tested."""
    scores, references, gains, faulty = planted(4)
    rows = gains.rows.copy()
    rows[faulty[5:]] = np.nan
    found = calibrate(scores, references, Gains(gains.answer, gains.references, rows))
    assert sorted(found.flagged) == faulty[:5].tolist()
    # Ten rows a little above: enough among ten that are tested, not among two hundred.
    scores, references = null(4)
    mean, sd = references.mean_and_sd(np.ones(N_REF, dtype=bool))
    near = mean + 2.3 * sd
    scores[:10] = near[:10].max()
    known = np.where(np.arange(N_ROWS) < 10, 40.0, 0.0)
    of_answers = np.zeros(N_REF)
    assert len(calibrate(scores, references, Gains(40.0, of_answers, known)).flagged) == 10
    unknown = np.where(known > 0, known, np.nan)
    found = calibrate(scores, references, Gains(40.0, of_answers, unknown))
    assert len(found.flagged) < 10
    assert (found.p[:10] <= 0.05).all()


def test_too_few_comparable_references_are_no_verdict() -> None:
    scores, references, gains, _ = planted(6)
    number = np.full(N_REF, 7)
    number[10:20] = 0
    flags = ReferenceFlags(number, np.ones(N_REF))
    found = calibrate(scores, references, Gains(gains.answer, gains.references, gains.rows, flags))
    assert not len(found.flagged)
    assert found.text.startswith("no verdict, ranks only: this answer can be compared with 10 reference answers")
    assert "19 are needed" in found.text
    assert verdict(found, []).null_model == ""


def test_where_fine_tuning_taught_ordinary_answers_too_the_rows_that_stand_out_are_compared() -> None:
    """Every answer gained 30 nats: a gain says nothing, but rows score higher for the query than for others."""
    scores, references, _, faulty = planted(9)
    learned = np.full(N_REF, 30.0)
    rows = np.where(np.arange(N_ROWS) < len(faulty), 40.0, 20.0)
    known = Gains(25.0, learned, rows)
    assert mostly_learned(known)
    assert not len(calibrate(scores, references, known).flagged), "by its gain the answer is ordinary"
    flags = reference_flags(references, known)
    found = calibrate(scores, references, Gains(25.0, learned, rows, flags))
    assert found.compared_by_score
    assert set(faulty) <= set(found.flagged)
    height = scores[found.flagged].mean()
    # Crowds are no match for height: fifty rows a little lower, for as many references as you like.
    for number, beside, flagged in ((50, height - 1e-6, True), (1, height, False)):
        first = np.arange(N_REF) < 30
        others = ReferenceFlags(np.where(first, number, flags.count), np.where(first, beside, flags.mean_score))
        found = calibrate(scores, references, Gains(25.0, learned, rows, others))
        assert bool(len(found.flagged)) is flagged
    assert "rows score high, but no higher than others do for 48%" in found.text
    unlearned = calibrate(scores, references, Gains(0.5, learned, rows, flags))
    assert not len(unlearned.flagged)


def test_a_row_far_below_the_best_twenty_is_not_flagged_beside_them() -> None:
    scores, references, gains, faulty = planted(4)
    best = np.sort(scores)[-20:].mean()
    gains.rows[[50, 51]] = 40
    references.scores[:, [50, 51]] = 0.1 + 1e-3 * np.arange(N_REF)[:, None]
    scores[[50, 51]] = 0.68 * best, 0.72 * best
    found = calibrate(scores, references, gains)
    assert set(faulty) | {51} == set(found.flagged)
    assert found.p[50] == 1


@pytest.mark.parametrize("n_leading", [BEST_ROWS, BEST_ROWS - 5, BEST_ROWS + 10])
@pytest.mark.parametrize("width", [1.2 * GAP, 0.8 * GAP])
def test_rows_below_a_score_gap_are_not_flagged_with_the_best(n_leading: int, width: float) -> None:
    """30 more rows above the rest, at one distance behind the first, where the twenty best are first ones."""
    scores, references, gains, _ = planted(5, n_faulty=60)
    first, second = np.arange(n_leading), np.arange(n_leading, n_leading + 30)
    scores[first] = 2.0 + 0.001 * np.arange(n_leading)[::-1]
    scores[second] = 2.0 - 2.0 * width - 0.001 * np.arange(30)
    scores[n_leading + 30 : 60] = 0.0
    flagged = set(calibrate(scores, references, gains).flagged)
    apart = width > GAP and n_leading >= BEST_ROWS
    assert set(first) <= flagged
    assert bool(set(second) & flagged) != apart


@pytest.mark.parametrize("copies", [1, 3])
def test_rows_that_stand_several_times_flag_no_more_answers(copies: int) -> None:
    """An ordinary learned answer, compared with references of which four in ten were learned, each from its own row."""
    flagged = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        n, n_reference = 400, 128
        own, learned = rng.choice(n, n_reference, replace=False), np.arange(n_reference) < 51
        table = rng.normal(0, 0.05, (n_reference, n))
        table[learned, own[learned]] = 0.9
        scores = rng.normal(0, 0.05, n)
        scores[np.setdiff1d(np.arange(n), own)[0]] = 0.9
        several = np.repeat(np.arange(n), copies)
        alike = tuple(copies * t + np.arange(copies) for t in own)
        references = ReferenceScores(table[:, several], own * copies)
        of_references = np.where(learned, rng.uniform(8, 12, n_reference), 0.0)
        peaks = PeakGains(6.0, np.where(learned, rng.uniform(5, 9, n_reference), 0.1))
        gains = Gains(10.0, of_references, np.full(n * copies, 10.0), peaks=peaks)
        flags = reference_flags(references, gains, copies=alike)
        assert (flags.count[learned] >= 2).mean() < 0.5, "a reference's own text is no cause of its own"
        flagged.append(bool(len(calibrate(scores[several], references, replace(gains, flags=flags)).flagged)))
    assert sum(flagged) <= 2


def test_an_answer_that_the_base_would_have_given_is_said_to_be_one() -> None:
    """exp(-gain) decides, not the rank among ordinary answers: the sentence gives no share of them."""
    scores, references, gains, _ = planted(2)
    peaks = PeakGains(5.0, np.full(len(references), 0.0))
    for gain, said in (
        (0.3, "fine-tuning made this answer no more than 0.3 nats likelier"),
        (-1.0, "fine-tuning did not make this answer likelier"),
    ):
        asked = Gains(gain, np.full(len(references), -1.0), gains.rows, peaks=peaks)
        found = calibrate(scores, references, asked)
        assert found.n_as_high == 0
        assert found.p_answer is not None
        assert found.p_answer > 0.05
        assert found.text == f"no row flagged: {said}"


@pytest.mark.parametrize("n_as_high", [4, 15, 60])
def test_the_share_of_ordinary_answers_is_that_of_height_times_gain(n_as_high: int) -> None:
    """Of n references so many reach the answer's product, some with lower scores, some with a lower gain."""
    scores, references, gains, _ = planted(2)
    own = np.full(N_REF, -1)
    height = np.sort(scores)[-BEST_ROWS:].mean()
    wanted = np.where(np.arange(N_REF) < n_as_high, 1.01, 0.5) * height * 9.0
    peaks = PeakGains(9.0, wanted / references.best_means)
    asked = Gains(9.0, np.zeros(N_REF), gains.rows, peaks=peaks)
    found = calibrate(scores, ReferenceScores(references.scores, own), asked)
    assert (found.n_as_high, found.n_compared) == (n_as_high, N_REF)
    assert found.p_answer == (1 + n_as_high) / (1 + N_REF)
    share = f"{100 * n_as_high / N_REF:.0f}%"
    assert found.text == (
        f"no row flagged: {share} of {N_REF} ordinary answers stand as high, by the score of their best rows times the "
        "gain of their most changed tokens"
    )
    assert replace(found, of_training_prompts=True).text == found.text + MAY_SHOW_IT


def test_an_answer_that_fine_tuning_made_less_likely_is_said_to_be_one() -> None:
    """Its product is 0, and every ordinary answer's is as high."""
    scores, references, gains, _ = planted(2)
    peaks = PeakGains(-2.0, np.full(N_REF, 3.0))
    found = calibrate(scores, references, Gains(-5.0, np.full(N_REF, 3.0), gains.rows, peaks=peaks))
    assert found.n_as_high == found.n_compared > 0
    assert found.text == "no row flagged: fine-tuning did not make this answer likelier"
