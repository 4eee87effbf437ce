"""The sentence about bfloat16: only where it helps, and where no dtype was asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import torch

from whence.model import LoadedModel, bfloat16_speedup, dtype_note, matmul_rate


def model(hidden: int = 576, dtype: str = "auto", device: str = "cpu") -> LoadedModel:
    settings = SimpleNamespace(dtype=dtype)
    found = SimpleNamespace(settings=settings, device=torch.device(device), dtype=torch.float32, hidden_size=hidden)
    return cast(LoadedModel, found)


def test_it_is_said_where_bfloat16_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_rate, "bfloat16_speedup", lambda hidden: 3.96)
    assert dtype_note(model()) == (
        "Computing in float32; this processor multiplies matrices 4.0 times faster in bfloat16 (--dtype bfloat16)"
    )
    assert dtype_note(model(hidden=64)) == ""
    assert dtype_note(model(dtype="float32")) == ""
    assert dtype_note(model(device="cuda")) == ""
    monkeypatch.setattr(matmul_rate, "bfloat16_speedup", lambda hidden: 1.2)
    assert dtype_note(model()) == ""


def test_the_speed_is_a_ratio_of_times() -> None:
    assert 0 < bfloat16_speedup(64) < 1000
