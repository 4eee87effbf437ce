"""Responsibility by source: shares that are known beforehand, intervals, the null, and columns that cannot be used."""

from __future__ import annotations

import numpy as np
import pytest

from whence.audit.flagged import FlaggedRows
from whence.audit.outputs import Output
from whence.audit.sources import ColumnValues, column_values, source_table
from whence.errors import InputError
from whence.trace.query.queries import Query
from worlds import World

N_ROWS = 800
VALUES = {row: f"vendor_{'abcdefgh'[row % 8]}" for row in range(N_ROWS)}


def output(count: int = 1) -> Output:
    return Output(Query.of("a", "b"), count)


def flagged_of(outputs: list[list[int]]) -> FlaggedRows:
    rows = sorted({row for own in outputs for row in own})
    weights = [dict.fromkeys(own, 1 / len(set(own))) if own else {} for own in outputs]
    return FlaggedRows({}, {row: row for row in rows}, weights, weights)


def drawn(rng: np.random.Generator, n: int, bad: float) -> list[list[int]]:
    """n outputs with 20 flagged rows each, a share `bad` of them from vendor_c."""
    own = [row for row in range(N_ROWS) if VALUES[row] == "vendor_c"]
    pool = [*rng.choice(own, round(60 * bad), replace=False), *rng.choice(N_ROWS, round(60 * (1 - bad)), replace=False)]
    return [[int(row) for row in rng.choice(pool, 20, replace=False)] for _ in range(n)]


def test_a_source_that_delivered_most_is_first_and_its_share_is_right() -> None:
    rows = drawn(np.random.default_rng(0), 60, 0.7)
    table = source_table(ColumnValues("vendor", VALUES), [output()] * 60, flagged_of(rows))
    first = table.values[0]
    expected = np.mean([np.mean([VALUES[row] == "vendor_c" for row in set(own)]) for own in rows])
    assert first.value == "vendor_c"
    assert first.share == pytest.approx(expected)
    assert first.low < expected < first.high
    assert first.row_share == pytest.approx(1 / 8)
    assert first.p_value <= 0.001
    assert all(one.p_value > 0.05 for one in table.values[1:])
    assert sum(one.share for one in table.values) == pytest.approx(1)


def test_where_the_column_says_nothing_no_value_is_named() -> None:
    named = 0
    for seed in range(40):
        rows = drawn(np.random.default_rng(seed), 12, 0.0)
        table = source_table(ColumnValues("vendor", VALUES), [output()] * 12, flagged_of(rows), seed=seed)
        named += table.values[0].p_value <= 0.05
    assert named <= 6


def test_outputs_count_as_often_as_the_log_has_them_and_hang_on_one_source() -> None:
    flagged = flagged_of([[2, 10], [2, 3], []])
    table = source_table(ColumnValues("vendor", VALUES), [output(3), output(1), output(9)], flagged)
    by_value = {one.value: one for one in table.values}
    assert table.n_outputs == 4
    assert by_value["vendor_c"].share == pytest.approx((3 * 1.0 + 1 * 0.5) / 4)
    assert by_value["vendor_c"].alone == pytest.approx(3 / 4)
    assert by_value["vendor_d"].alone == 0


def test_near_duplicates_share_one_weight_between_their_sources() -> None:
    flagged = FlaggedRows({}, {2: 2, 3: 2, 4: 4}, [{2: 0.5, 4: 0.5}], [{2: 0.5, 4: 0.5}])
    by_value = {one.value: one.share for one in source_table(ColumnValues("v", VALUES), [output()], flagged).values}
    assert by_value["vendor_c"] == by_value["vendor_d"] == pytest.approx(0.25)
    assert by_value["vendor_e"] == pytest.approx(0.5)


def test_no_flagged_row_is_an_empty_table() -> None:
    assert source_table(ColumnValues("v", VALUES), [output()], flagged_of([[]])).values == ()


def test_columns_are_read_and_refused(world: World) -> None:
    index = world.open()
    (column,) = column_values(index, ["source"], None)
    assert set(column.of_row.values()) == {"vendor_a", "vendor_b"}
    with pytest.raises(InputError, match="No row has a column 'sorce'") as told:
        column_values(index, ["sorce"], None)
    assert "Did you mean source?" in told.value.fix


def test_a_column_that_names_rows_is_refused_and_days_become_months(monkeypatch: pytest.MonkeyPatch) -> None:
    class Row:
        def __init__(self, row: int) -> None:
            self.row = row
            self.metadata = {"id": f"row {row}", "date": f"2026-{1 + row % 3:02d}-{1 + row % 28:02d}", "gap": None}

    class Index:
        def texts(self, where: str | None) -> list[Row]:
            return [Row(row) for row in range(300)]

    (column,) = column_values(Index(), ["date"], None)  # type: ignore[arg-type]
    assert set(column.of_row.values()) == {"2026-01", "2026-02", "2026-03"}
    with pytest.raises(InputError, match="'id' has 300 values in 300 rows"):
        column_values(Index(), ["id"], None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="No row has a column 'gap'"):
        column_values(Index(), ["gap"], None)  # type: ignore[arg-type]


def test_an_output_that_a_log_repeats_is_one_trial() -> None:
    flagged = flagged_of([[1], [2]])
    column = ColumnValues("v", {1: "a", 2: "b"})
    often, once = (source_table(column, [output(n), output(n)], flagged) for n in (500, 1))
    for table in (often, once):
        assert [(value.low, value.high) for value in table.values] == [(0.0, 1.0)] * 2
