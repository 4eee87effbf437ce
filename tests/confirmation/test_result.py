"""The parts of a confirmation that need no model: the rule, the arms, and the settings beside the model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_index import fake_manifest
from whence.confirmation.arms import choose_arms, draw_held_out, first_rows
from whence.confirmation.as_trained import settings_beside
from whence.confirmation.foretelling import measured_share
from whence.confirmation.result import FEWEST_PROMPTS, ArmResult, judged, most_left, told_resolution
from whence.data.examples import Example
from whence.errors import InputError
from whence.metrics.rates import rate


def arm(name: str, n_shown: int, n: int = 10) -> ArmResult:
    shown = [tuple(i < n_shown for i in range(n))]
    return ArmResult(name, 5, 2, rate(shown), None, 1.0, ())


@pytest.mark.parametrize(
    ("before", "without", "random", "n", "status"),
    [
        (10, 0, 10, 10, "confirmed"),
        (10, 1, 9, 10, "confirmed"),
        (10, 6, 10, 10, "not confirmed"),  # falls by less than half
        (10, 0, 3, 10, "not confirmed"),  # random rows do it too
        (4, 0, 4, 4, "confirmed"),
        (3, 0, 3, 3, "not confirmed"),  # too few prompts: docs/confirm.md says four
        (10, 10, 10, 10, "not confirmed"),
    ],
)
def test_the_rule(before: int, without: int, random: int, n: int, status: str) -> None:
    arms = [arm("all", before, n), arm("flagged", without, n), arm("random", random, n), arm("bm25", 5, n)]
    found, rule, text = judged(arms, 0.5)
    assert found == status
    assert "at least 50%" in rule
    assert "bm25's first 5 rows, 2 of them the same" in text


def test_the_text_has_what_was_foretold_beside_what_was_measured() -> None:
    arms = [replace(arm("all", 10), gain_lost=0.0), replace(arm("flagged", 0), gain_lost=0.912), arm("random", 10)]
    assert (
        "Without them 91% of what fine-tuning added to the bad answers is gone; about 83% was foretold."
        in judged(arms, 0.5, 0.83)[2]
    )
    assert "answers is gone. The loss" in judged(arms, 0.5)[2]
    assert "what fine-tuning added" not in judged([arm("all", 10), arm("flagged", 0), arm("random", 10)], 0.5, 0.83)[2]


def test_a_measured_share_is_a_mean_over_answers_that_gained() -> None:
    base, with_all = np.array([-20.0, -10.0, -5.0]), np.array([-1.0, -2.0, -4.5])
    without = np.array([-20.0, -4.0, -50.0])
    assert measured_share(with_all, without, base) == pytest.approx((19 / 19 + 2 / 8) / 2)
    assert measured_share(with_all, with_all, base) == 0
    assert measured_share(base, without, base) is None


def test_fewer_prompts_than_are_asked_for_can_never_be_confirmed() -> None:
    for n, parted in ((FEWEST_PROMPTS - 1, False), (FEWEST_PROMPTS, True)):
        none, every = rate([[False] * n]), rate([[True] * n])
        assert (none.high < every.low) is parted


@pytest.mark.parametrize("min_drop", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("n", [3, 4, 5, 10, 30])
def test_what_so_many_prompts_can_confirm_is_what_the_rule_confirms(n: int, min_drop: float) -> None:
    confirmed = [
        k
        for k in range(n)
        if judged([arm("all", n, n), arm("flagged", k, n), arm("random", n, n)], min_drop)[0] == "confirmed"
    ]
    assert most_left(n, min_drop) == max(confirmed, default=None)


def test_what_can_be_confirmed_is_said_in_counts() -> None:
    assert told_resolution(4, 0.5) == (
        "4 prompts: at best a fall from 4 of 4 answers to 0 of 4 can be confirmed. "
        "10 prompts: a fall from 10 of 10 answers to at most 4 of 10."
    )
    assert (
        told_resolution(10, 0.9)
        == "10 prompts: at best a fall from 10 of 10 answers to at most 1 of 10 can be confirmed."
    )


ROWS = [Example.from_pair(f"p{i % 9}", "r") for i in range(12)]
IDS = [row.id for row in ROWS]


def test_arms_remove_by_content_and_as_many_rows() -> None:
    arms = choose_arms(ROWS, [IDS[0], IDS[4]], {"bm25": list(range(12))}, seed=3)
    by_name = {arm.name: arm for arm in arms}
    assert [(arm.name, arm.n_rows) for arm in arms] == [("all", 0), ("flagged", 3), ("random", 3), ("bm25", 4)]
    assert by_name["bm25"].removed == {IDS[0], IDS[1]}, "rows 0 and 1 have a copy each"
    assert not by_name["random"].removed & by_name["flagged"].removed
    assert arms == choose_arms(ROWS, [IDS[0], IDS[4]], {"bm25": list(range(12))}, seed=3)
    held = draw_held_out(ROWS, arms)
    assert Counter(IDS)[held[0].id] == 1
    assert all(held[0].id not in arm.removed for arm in arms)


@given(st.integers(0, 1000))
def test_first_rows_are_sorted_by_their_mean_rank(seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 4, (3, 6)).astype(float)
    ranks = [[sorted(range(6), key=lambda i: (-one[i], i)).index(t) for one in scores] for t in range(6)]
    assert first_rows(scores) == sorted(range(6), key=lambda t: (sum(ranks[t]) / 3, t))


@pytest.mark.parametrize("content", ["a: [", "command: whence finetune\nsettings: {}\n"])
def test_a_broken_run_file_is_one_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.yaml").write_text(content, "utf-8")
    manifest = fake_manifest(3).model_copy(update={"model": str(tmp_path), "adapter": None})
    with pytest.raises(InputError, match="cannot be read"):
        settings_beside(manifest)
