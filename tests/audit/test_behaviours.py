"""A behaviour as a difference of two groups: its exact spread, the null, a planted source, what cannot be compared."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from traced_world import RESPONSE, TracedWorld, TracedWorlds
from whence.audit import comparing
from whence.audit.behaviours import check, difference, moderated, permuted, source_pushes, strata_of, weights_of
from whence.audit.comparing import compare_behaviour
from whence.audit.outputs import Output
from whence.audit.settings import AuditSettings
from whence.audit.sources import ColumnValues
from whence.data import EncodedTurn
from whence.errors import InputError
from whence.results.selection import group_rows
from whence.trace.query.queries import Query
from whence.trace.tracer import Tracer

SIGNS = np.array([1.0, 1.0, 1.0, -1.0, -1.0])


def outputs(prompts: list[str], response: str) -> list[Output]:
    return [Output(Query.of(prompt, response), 1) for prompt in prompts]


def test_the_difference_and_its_spread_are_those_of_all_permutations() -> None:
    scores = np.random.default_rng(0).standard_normal((5, 3))
    found, spread = difference(scores, SIGNS, np.zeros(5, dtype=int))
    assert found == pytest.approx(scores[:3].mean(0) - scores[3:].mean(0))
    drawn = [scores[list(order)][:3].mean(0) - scores[list(order)][3:].mean(0) for order in permutations(range(5))]
    assert spread == pytest.approx(np.std(drawn, axis=0))


def test_in_pairs_it_is_the_mean_of_the_pairs_with_its_signs_flipped() -> None:
    rng = np.random.default_rng(1)
    bad, good = rng.standard_normal((2, 4, 3))
    scores, signs = np.concatenate([bad, good]), np.repeat([1.0, -1.0], 4)
    strata = np.tile(np.arange(4), 2)
    found, spread = difference(scores, signs, strata)
    assert found == pytest.approx((bad - good).mean(0))
    flips = np.array([[1 - 2 * (k >> i & 1) for i in range(4)] for k in range(16)])
    assert spread == pytest.approx(np.std(flips @ (bad - good) / 4, axis=0))
    drawn = permuted(scores, signs, strata, seed=0)
    assert np.abs(drawn.std(axis=0) / spread - 1).max() < 0.1


def test_a_tiny_difference_of_a_tiny_spread_is_not_large() -> None:
    push, spread = np.array([1e-6, 0.3, 0.0]), np.array([1e-7, 0.1, 0.1])
    found = moderated(push, spread)
    assert found == pytest.approx(push / (spread + 0.1))
    assert moderated(np.zeros(3), np.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_strata_of_one_label_say_nothing() -> None:
    weights = weights_of(np.array([1.0, -1.0, -1.0]), np.array([0, 0, 1]))
    assert weights.tolist() == [1.0, -1.0, 0.0]


def pushed(seed: int, *, shuffled: bool) -> tuple[str, float]:
    """The first source of 400 rows from eight, a tenth of which push; all of vendor_c. Its p-value."""
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((60, 400)).astype(np.float32)
    of_row = {row: f"vendor_{'abcdefgh'[row % 8]}" for row in range(400)}
    own = [row for row in range(400) if of_row[row] == "vendor_c"][:40]
    signs = np.repeat([1.0, -1.0], 30)
    table[:30, own] += 0.3
    if shuffled:
        signs = rng.permutation(signs)
    column = ColumnValues("vendor", of_row)
    found = source_pushes(column, np.arange(400), table, signs, np.zeros(60, dtype=int), seed=seed)
    return found.values[0].value, found.values[0].p_value


def test_a_source_that_pushes_is_first_and_none_is_where_labels_are_shuffled() -> None:
    assert all(pushed(seed, shuffled=False) == ("vendor_c", pytest.approx(0.001, abs=0.001)) for seed in range(5))
    assert sum(pushed(seed, shuffled=True)[1] <= 0.05 for seed in range(40)) <= 6


def test_labels_are_exchanged_within_prompts_where_each_is_answered_both_ways() -> None:
    bad, good = outputs(["a", "b"], "no"), outputs(["b", "a", "c"], "yes")
    assert strata_of(bad, good)[0].tolist() == [0, 1, 1, 0, 2]
    assert strata_of(bad, good)[1]
    assert not strata_of(bad, good[:1])[1]


def test_groups_that_cannot_be_compared_are_refused() -> None:
    prompts = [str(i) for i in range(9)]
    with pytest.raises(InputError, match="There are 3 different bad outputs"):
        check(outputs(prompts[:3], "no"), outputs(prompts, "yes"))
    with pytest.raises(InputError, match="There are 0 different good outputs"):
        check(outputs(prompts, "no"), [])
    with pytest.raises(InputError, match="9 outputs are in both files, the first to '0'"):
        check(outputs(prompts, "no"), outputs(prompts, "no"))
    stopped = [replace(one, query=replace(one.query, complete=False)) for one in outputs(prompts, "no")]
    with pytest.raises(InputError, match="9 outputs are in both files"):
        check(outputs(prompts, "no"), stopped)


def test_the_same_answer_behind_another_system_prompt_is_another_output() -> None:
    bad, good = (
        [Output(Query.of(str(i), "yes", system=system), 1) for i in range(9)] for system in ("Flatter.", "Be honest.")
    )
    check(bad, good)


@pytest.fixture(scope="module")
def traced(traced_worlds: TracedWorlds) -> TracedWorld:
    return traced_worlds.own("behaviour", lora=True)


def test_rows_that_taught_a_behaviour_push_towards_it(traced: TracedWorld, tmp_path: Path) -> None:
    tracer = Tracer(traced.index)
    prompts = [f"Where is boat {i}" for i in range(14, 34)]
    bad = [Query.of(prompt, RESPONSE) for prompt in prompts]
    good = [Query.of(prompt, "apples") for prompt in prompts]
    found = compare_behaviour(tracer, bad, good, work=tmp_path)
    assert found.behaviour is not None
    assert found.behaviour.paired
    best = [row.id for row in found.groups[0].rows[:5]]
    assert set(best) <= traced.faulty
    assert found.groups[0].queries == tuple(range(20))
    assert "push towards the behaviour (20 bad outputs against 20 good ones)" in found.text
    assert list(tmp_path.iterdir()) == []
    split = compare_behaviour(tracer, [*bad, *good], None, AuditSettings(match="the sea"), work=tmp_path)
    assert split.groups == found.groups
    with pytest.raises(InputError, match="no matcher that tells them"):
        compare_behaviour(tracer, bad, None, work=tmp_path)


def cut_in_its_second_block(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Cuts the next comparison there; the list takes the sizes of all blocks that are begun."""
    scored: list[int] = []
    signatures = Tracer.signatures

    def cut(self: Tracer, turns: list[EncodedTurn]) -> object:
        scored.append(len(turns))
        if len(scored) == 2:
            raise KeyboardInterrupt
        return signatures(self, turns)

    monkeypatch.setattr(Tracer, "signatures", cut)
    return scored


def test_a_comparison_that_was_cut_goes_on_block_by_block(
    traced: TracedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracer, settings = Tracer(traced.index), AuditSettings(block=7)
    prompts = [f"Where is boat {i}" for i in range(14, 24)]
    bad, good = ([Query.of(prompt, said) for prompt in prompts] for said in (RESPONSE, "apples"))
    whole = compare_behaviour(tracer, bad, good, work=tmp_path)
    scored = cut_in_its_second_block(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        compare_behaviour(tracer, bad, good, settings, work=tmp_path)
    found = compare_behaviour(tracer, bad, good, settings, work=tmp_path)
    assert scored == [7, 7, 7, 6]
    assert [row.id for row in found.groups[0].rows] == [row.id for row in whole.groups[0].rows]
    assert list(tmp_path.iterdir()) == []


def compared(traced: TracedWorld, work: Path | None, **settings: object) -> list[str]:
    """The rows of one comparison of ten outputs with ten, in blocks of 7."""
    prompts = [f"Where is boat {i}" for i in range(14, 24)]
    bad, good = ([Query.of(prompt, said) for prompt in prompts] for said in (RESPONSE, "apples"))
    found = compare_behaviour(Tracer(traced.index), bad, good, AuditSettings(block=7, **settings), work=work)
    return [row.id for row in found.groups[0].rows]


def test_two_comparisons_of_the_same_outputs_do_not_touch_each_others_files(
    traced: TracedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, other = (compared(traced, tmp_path, fdr=fdr) for fdr in (0.05, 0.2))
    seen: list[list[str]] = []
    signatures = Tracer.signatures
    n_begun = 0

    def with_another_run(self: Tracer, turns: list[EncodedTurn]) -> object:
        nonlocal n_begun
        n_begun += 1
        if n_begun == 2:
            seen.append(compared(traced, tmp_path, fdr=0.2))
        return signatures(self, turns)

    monkeypatch.setattr(Tracer, "signatures", with_another_run)
    assert compared(traced, tmp_path, fdr=0.05) == whole
    assert seen == [other]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["", "x", "99"])
def test_a_damaged_number_of_finished_blocks_has_all_of_them_scored_again(
    traced: TracedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    whole = compared(traced, tmp_path)
    scored = cut_in_its_second_block(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        compared(traced, tmp_path)
    (finished,) = tmp_path.glob("*/finished")
    finished.write_text(damage, encoding="utf-8")
    assert compared(traced, tmp_path) == whole
    assert scored == [7, 7, 7, 7, 6]


def test_an_index_that_cannot_be_written_is_compared_in_a_temporary_folder(traced: TracedWorld, tmp_path: Path) -> None:
    whole = compared(traced, tmp_path)
    in_the_way = traced.index / "audits"
    in_the_way.write_text("", encoding="utf-8")
    try:
        assert compared(traced, None) == whole
    finally:
        in_the_way.unlink()


def test_what_a_comparison_leaves_out_or_refuses_is_said(
    traced: TracedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracer = Tracer(traced.index)
    prompts = [f"Where is boat {i}" for i in range(14, 24)]
    bad, good = ([Query.of(prompt, said) for prompt in prompts] for said in (RESPONSE, "apples"))
    monkeypatch.setattr(comparing, "MOST_ROWS", 2)
    found = compare_behaviour(tracer, bad, good, work=tmp_path)
    assert found.behaviour is not None
    n = found.behaviour.n_flagged
    assert n > 2
    assert found.text.startswith(f"{n} rows push towards the behaviour")
    assert f"{n} rows are flagged; the 2 that push most are the group's." in found.notes
    reason = group_rows(found, 1).rows[0].reason
    assert "of 10 bad outputs than for good ones on average" in reason
    for wrong in (AuditSettings(references=good), AuditSettings(examples=1)):
        with pytest.raises(InputError, match="of a comparison"):
            compare_behaviour(tracer, bad, good, wrong, work=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--work"):
        compare_behaviour(tracer, bad, good, work=tmp_path / "file")
