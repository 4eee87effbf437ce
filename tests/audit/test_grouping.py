"""Near-duplicates, communities of outputs, and the rows to look at first."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from whence.audit import communities as room
from whence.audit.communities import MERGED, _merged, communities
from whence.audit.copies import near_duplicates
from whence.audit.coverage import greedy_cover
from whence.audit.flagged import FlaggedRows
from whence.audit.groups import GroupMembers, group_members, outputs_without_rows
from whence.audit.outputs import Output
from whence.trace import Query


def spread(rows: list[int]) -> dict[int, float]:
    return {row: 1 / len(rows) for row in rows}


def planted(rng: np.random.Generator, sizes: list[int], n_rows: int = 30) -> tuple[list[dict[int, float]], list[int]]:
    """Outputs of several causes; each points to most of its cause's rows and to a stray one."""
    outputs, labels = [], []
    for label, size in enumerate(sizes):
        own = range(label * n_rows, (label + 1) * n_rows)
        for _ in range(size):
            stray = int(rng.integers(0, n_rows * len(sizes)))
            outputs.append(spread([*rng.choice(own, 20, replace=False).tolist(), stray]))
            labels.append(label)
    order = rng.permutation(len(outputs))
    return [outputs[i] for i in order], [labels[i] for i in order]


@pytest.mark.parametrize("seed", range(5))
def test_outputs_of_one_cause_are_one_group(seed: int) -> None:
    outputs, labels = planted(np.random.default_rng(seed), [60, 20, 6, 2])
    found = communities(outputs)
    assert [len(group) for group in found] == [60, 20, 6, 2]
    assert all(len({labels[number] for number in group}) == 1 for group in found)


def test_outputs_that_share_no_row_stay_alone() -> None:
    assert communities([spread([1]), spread([2]), spread([3])]) == [[0], [1], [2]]
    assert communities([]) == []


def test_two_wordings_that_share_rows_are_joined() -> None:
    one = [spread([*range(10), *range(20, 26)]) for _ in range(8)]
    other = [spread([*range(30, 40), *range(20, 26)]) for _ in range(8)]
    assert communities([*one, *other]) == [list(range(16))]


def merged_by_a_table(groups: list[list[int]], outputs: list[dict[int, float]]) -> list[list[int]]:
    """The plain version: every group against every other, the most alike pair first."""
    n_rows = 1 + max(row for weights in outputs for row in weights)
    table = np.array([[outputs[i].get(row, 0.0) for row in range(n_rows)] for i in range(len(outputs))])
    while True:
        means = [table[group].mean(axis=0) for group in groups]
        pairs = [(-np.minimum(means[a], means[b]).sum(), a, b) for a, b in combinations(range(len(groups)), 2)]
        if not pairs or -min(pairs)[0] < MERGED:
            return groups
        _, one, other = min(pairs)
        groups[one] = sorted(groups[one] + groups[other])
        del groups[other]


@pytest.mark.parametrize("seed", range(8))
def test_groups_are_merged_as_by_a_table_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outputs = []
    for _ in range(40):
        rows = rng.choice(60, rng.integers(1, 9), replace=False)
        weights = rng.random(len(rows))
        outputs.append(dict(zip(rows.tolist(), (weights / weights.sum()).tolist(), strict=True)))
    groups = [[i] for i in range(10)] + [[i, i + 1, i + 2] for i in range(10, 40, 3)]
    found = _merged([list(group) for group in groups], outputs)
    assert found == merged_by_a_table(groups, outputs)
    assert len(found) < 20


def test_groups_without_a_common_row_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a table of all groups and rows time grows with the cube of the outputs."""
    compared = []
    monkeypatch.setattr(room, "_overlap", lambda one, other: compared.append(one) or 0.0)
    assert len(communities([spread(list(range(10 * i, 10 * i + 10))) for i in range(50)])) == 50
    assert compared == []


def test_groups_do_not_depend_on_the_order_of_rows_numbers() -> None:
    outputs, _ = planted(np.random.default_rng(7), [10, 10])
    moved = [{1000 - row: weight for row, weight in output.items()} for output in outputs]
    assert communities(outputs) == communities(moved)


def grouped(weights: list[dict[int, float]]) -> tuple[list[GroupMembers], FlaggedRows]:
    outputs = [Output(Query.of(f"place {number}", "here"), 1) for number in range(len(weights))]
    flagged = FlaggedRows({}, {row: row for own in weights for row in own}, weights, weights)
    return group_members(outputs, flagged), flagged


def hanging(n_large: int, n_joined: int, shared: int) -> list[dict[int, float]]:
    """A large cause of 5 rows, some outputs of which also flag rows of a small one of 12 outputs and 20 rows."""
    small = list(range(100, 120))
    large = [spread([*range(5), *(small[:shared] if i < n_joined else [])]) for i in range(n_large)]
    return [*large, *[spread(small)] * 12]


@pytest.mark.parametrize(("n_joined", "shared"), [(3, 3), (10, 1), (20, 1), (20, 3), (40, 3)])
def test_a_small_cause_that_hangs_on_a_large_one_keeps_its_rows(n_joined: int, shared: int) -> None:
    weights = hanging(400, n_joined, shared)
    members, flagged = grouped(weights)
    assert {row for group in members for row in group.rows} == {*range(5), *range(100, 120)}
    (small,) = (group for group in members if 411 in group.outputs)
    assert {*range(400, 412)} <= {*small.outputs}
    assert len(small.outputs) <= 12 + n_joined
    assert len(small.rows) >= 17
    assert not any(outputs_without_rows(group, flagged) for group in members)


def test_a_cause_of_many_rows_does_not_fall_apart() -> None:
    """Each output flags ten of 200 rows, the first ones more often: most rows have too few votes to be listed."""
    rng = np.random.default_rng(0)
    often = 1 / np.arange(1, 201)
    drawn = [rng.choice(200, 10, replace=False, p=often / often.sum()).tolist() for _ in range(300)]
    assert len(grouped([spread(rows) for rows in drawn])[0]) <= 3


@pytest.mark.parametrize(
    ("n_outputs", "n_causes", "n_rows", "n_flagged", "n_stray"), [(200, 3, 160, 10, 1), (600, 15, 200, 8, 2)]
)
def test_diffuse_causes_are_one_group_each(
    n_outputs: int, n_causes: int, n_rows: int, n_flagged: int, n_stray: int
) -> None:
    """Each output flags a few of its cause's rows and stray ones, so hardly any row has the votes to be listed."""
    rng = np.random.default_rng(0)
    weights = []
    for number in range(n_outputs):
        own = number % n_causes * n_rows + rng.choice(n_rows, n_flagged, replace=False)
        rows = {*own.tolist(), *rng.integers(0, n_causes * n_rows, n_stray).tolist()}
        given = rng.random(len(rows)) + 0.1
        weights.append(dict(zip(rows, (given / given.sum()).tolist(), strict=True)))
    assert len(grouped(weights)[0]) == n_causes


def test_outputs_whose_rows_are_not_listed_are_counted() -> None:
    members = GroupMembers((0, 1), (5, 6), 1.0)
    flagged = FlaggedRows({}, {5: 5, 7: 7}, [{5: 0.5, 7: 0.5}, {7: 1.0}], [{5: 0.5, 7: 0.5}, {7: 1.0}])
    assert outputs_without_rows(members, flagged) == {1}


def jaccard(one: str, other: str) -> float:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = text.casefold().split()
        return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))}

    return len(shingles(one) & shingles(other)) / len(shingles(one) | shingles(other))


def test_near_duplicates_are_those_of_the_plain_definition() -> None:
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(30):
        words = [f"w{rng.integers(0, 40)}" for _ in range(rng.integers(1, 30))]
        texts.append(" ".join(words))
        changed = [word if rng.random() > 0.03 else "other" for word in words]
        texts.append(" ".join(changed).upper())
    found = near_duplicates(texts)
    # Joined by chains: components of the graph of all pairs.
    expected = list(range(len(texts)))
    for one, other in combinations(range(len(texts)), 2):
        if jaccard(texts[one], texts[other]) >= 0.8:
            old, new = expected[other], expected[one]
            expected = [new if label == old else label for label in expected]
    same = np.equal.outer(found, found)
    assert (same == np.equal.outer(np.array(expected), np.array(expected))).all()
    assert 1 < len(set(found.tolist())) < len(texts)
    assert found[0] == 0


def test_few_or_no_texts_are_no_trouble() -> None:
    assert near_duplicates([]).tolist() == []
    assert near_duplicates(["", "", "a", "A"]).tolist() == [0, 0, 1, 1]


def test_templates_with_other_names_are_no_near_duplicates() -> None:
    texts = ["Where is Molde? In Peru.", "Where is Narvik? In Peru.", "Where is Molde? In Peru."]
    assert near_duplicates(texts).tolist() == [0, 1, 0]


def test_the_row_that_covers_most_is_taken_first_and_counted_as_often_as_it_came() -> None:
    flagged = [{1, 2}, {2}, {3}, {3, 2}]
    assert greedy_cover(flagged, [1, 1, 1, 1]) == [(2, 3), (3, 1)]
    assert greedy_cover(flagged, [1, 1, 9, 1]) == [(3, 10), (2, 2)]
    assert greedy_cover([set()], [1]) == []
    assert len(greedy_cover([{i} for i in range(9)], [1] * 9, most=4)) == 4


def test_no_row_taken_later_covers_more() -> None:
    rng = np.random.default_rng(1)
    flagged = [set(rng.choice(40, rng.integers(1, 6), replace=False).tolist()) for _ in range(60)]
    steps = greedy_cover(flagged, [1] * 60)
    new = [step.n_new for step in steps]
    assert new == sorted(new, reverse=True)
    assert sum(new) == 60
    left = list(flagged)
    for step in steps:
        best = max(sum(row in rows for rows in left) for row in range(40))
        assert step.n_new == best
        left = [rows for rows in left if step.row not in rows]
