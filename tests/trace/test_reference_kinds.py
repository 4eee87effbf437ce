"""References of a kind that is itself out of the ordinary, against a plain loop and in a verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from whence.trace.verdict.calibration import Gains, PeakGains, calibrate, heights_times_gains
from whence.trace.verdict.reference_kinds import KIND_SHARE, kinds, outlying
from whence.trace.verdict.reference_scores import ReferenceScores

N_ROWS, N_REFERENCES, N_BEST = 400, 100, 20
FAULTS = {"first": range(0, 30), "second": range(30, 60)}
"""Rows of two faults; 16 references show each."""


def two_faults(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Best rows and v of 16 references of each fault and 68 ordinary ones."""
    faulty = [np.tile(np.arange(rows.start, rows.start + N_BEST), (16, 1)) for rows in FAULTS.values()]
    ordinary = np.sort(np.stack([rng.choice(np.arange(60, N_ROWS), N_BEST, replace=False) for _ in range(68)]), axis=1)
    v = np.concatenate([rng.uniform(12, 16, 16), rng.uniform(6, 9, 16), np.exp(rng.normal(0, 0.5, 68))])
    return np.concatenate([*faulty, ordinary]), v


@pytest.mark.parametrize("seed", range(5))
def test_kinds_are_the_components_of_shared_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    best = np.sort(np.stack([rng.choice(60, N_BEST, replace=False) for _ in range(30)]), axis=1)
    found = list(range(30))
    for _ in range(30):
        for i in range(30):
            for j in range(30):
                if len(set(best[i]) & set(best[j])) >= KIND_SHARE * N_BEST:
                    found[i] = found[j] = min(found[i], found[j])
    told = kinds(best)
    assert [[told[i] == told[j] for j in range(30)] for i in range(30)] == [[a == b for b in found] for a in found]


@pytest.mark.parametrize("seed", range(5))
def test_both_of_two_faults_are_found_and_no_ordinary_answer(seed: int) -> None:
    best, v = two_faults(np.random.default_rng(seed))
    assert outlying(best, v, 0.05).tolist() == [True] * 32 + [False] * 68


def test_two_faults_of_one_height_stay_hidden() -> None:
    """Neither is out of the ordinary beside the other: that is the limit the docs state."""
    best, v = two_faults(np.random.default_rng(0))
    v[:32] = np.random.default_rng(1).uniform(8, 12, 32)
    assert not outlying(best, v, 0.05).any()


def test_kinds_of_ordinary_answers_stay() -> None:
    """Ten kinds of answers whose heights differ as those of single answers do: few sets have one far above the rest."""
    n_found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        best = np.repeat(np.arange(10)[:, None] * 40 + np.arange(N_BEST), 10, axis=0)
        v = np.exp(np.repeat(rng.normal(0, 0.6, 10), 10) + rng.normal(0, 0.3, N_REFERENCES))
        n_found += outlying(best, v, 0.05).any()
    assert n_found <= 3


def test_most_references_are_never_left_out() -> None:
    best, v = two_faults(np.random.default_rng(0))
    best[:60], v[:60] = np.arange(N_BEST), np.random.default_rng(2).uniform(50, 60, 60)
    assert not outlying(best, v, 0.05).any()


def test_a_fault_is_flagged_beside_a_higher_one_where_most_answers_were_learned() -> None:
    rng = np.random.default_rng(3)
    table = rng.normal(0.1, 0.05, (N_REFERENCES, N_ROWS))
    peaks = np.concatenate([np.full(16, 20.0), np.full(16, 15.0), rng.uniform(3, 8, 68)])
    for number, rows in enumerate(FAULTS.values()):
        table[16 * number : 16 * (number + 1), rows] += 0.8 - 0.2 * number
    references = ReferenceScores(table, np.full(N_REFERENCES, -1))
    scores = rng.normal(0.1, 0.05, N_ROWS)
    scores[FAULTS["second"]] += 0.6
    gains = Gains(
        answer=20.0,
        references=np.full(N_REFERENCES, 20.0),
        rows=np.full(N_ROWS, 20.0),
        peaks=PeakGains(15.0, peaks),
    )
    assert gains.peaks is not None
    hidden = calibrate(scores, references, gains)
    assert not len(hidden.flagged)
    assert hidden.p_answer == pytest.approx(17 / 85)
    beside = outlying(references.best_rows, heights_times_gains(references, gains.peaks), 0.05)
    found = calibrate(scores, references, replace(gains, outlying=beside))
    assert found.p_answer == pytest.approx(1 / 69)
    assert set(found.flagged) <= set(FAULTS["second"])
    assert len(found.flagged) >= 25
