"""An object store whose connection is cut and slow: a build ends whole or with one error, and then goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from stores import KEYS, FlakyProxy, flaky_s3_server
from whence.index import Index, build_index, verify
from worlds import World

INDEX = "s3://indexes/of/train"
QUERY = ("--prompt", "Where is place 3?", "--response", "It is in Canada.", "--no-verdict", "--json", "-")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FlakyProxy]:
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path / "cache"))
    # Lance tries ten times within three minutes unless it is told otherwise; s3fs five times.
    monkeypatch.setenv("OBJECT_STORE_CLIENT_MAX_RETRIES", "2")
    monkeypatch.setenv("OBJECT_STORE_CLIENT_RETRY_TIMEOUT", "5")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with flaky_s3_server(monkeypatch, "indexes") as (_, between):
        yield between


def records(index: Index) -> pa.Table:
    return index.dataset.to_table()


def expected(world: World, folder: Path) -> pa.Table:
    return records(build_index(world.model, world.data, folder / "here", max_length=64, shard_rows=4))


def command(world: World) -> tuple[object, ...]:
    return ("index", world.model, world.data, "-o", INDEX, "--max-length", 64, "--shard-rows", 4)


@pytest.mark.parametrize("every", [40, 15])
def test_a_build_goes_on_where_connections_are_cut_now_and_then(
    proxy: FlakyProxy, world: World, tmp_path: Path, every: int, whence
) -> None:
    whole = expected(world, tmp_path)
    proxy.every, proxy.delay = every, 0.002
    statuses = []
    while not statuses or statuses[-1] != 0:
        assert len(statuses) < 20
        status, _, said = whence(*command(world), "-q")
        statuses.append(status)
        assert status in (0, 2), said
        assert "Traceback" not in said
        assert not any(key in said for key in KEYS.values())
    assert proxy.n_cuts > 0
    proxy.every = 0
    assert records(Index.open(INDEX)) == whole
    assert verify(INDEX, sample=2) == []


def test_a_store_that_goes_away_is_one_error_and_the_same_command_finishes(
    proxy: FlakyProxy, world: World, tmp_path: Path, whence
) -> None:
    whole = expected(world, tmp_path)

    switch = _down_after(proxy, proxy.n_pieces + 90)
    status, shown, said = whence(*command(world), "-q")
    switch.append(True)
    assert (status, shown) == (2, ""), said
    assert "Traceback" not in said
    proxy.down = False
    assert whence(*command(world), "-q")[0] == 0
    assert records(Index.open(INDEX)) == whole
    assert verify(INDEX, sample=2) == []


def _down_after(proxy: FlakyProxy, pieces: int) -> list[bool]:
    stop: list[bool] = []

    def watch() -> None:
        while not stop and proxy.n_pieces < pieces:
            time.sleep(0.001)
        proxy.down = not stop

    threading.Thread(target=watch, daemon=True).start()
    return stop


def test_a_trace_over_a_cut_connection_is_right_or_one_error(
    proxy: FlakyProxy, world: World, tmp_path: Path, whence
) -> None:
    assert whence(*command(world), "-q")[0] == 0
    proxy.every = 9
    answers = set()
    for _ in range(6):
        status, shown, said = whence("trace", INDEX, *QUERY)
        assert status in (0, 2), said
        assert "Traceback" not in said
        answers |= {shown} if status == 0 else set()
    proxy.every = 0
    status, shown, said = whence("trace", INDEX, *QUERY)
    assert status == 0, said
    assert answers <= {shown}
    proxy.down = True
    status, shown, said = whence("trace", INDEX, *QUERY)
    assert (status, shown) == (2, "")
    assert "Traceback" not in said
