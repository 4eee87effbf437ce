"""What the arms of a confirmation remove: rankings that are compared with the flagged rows."""

from __future__ import annotations

from pathlib import Path

from whence.confirmation.arms import repsim_ranking
from whence.index.build import build_index
from whence.index.held import default_layers
from whence.scoring.defaults import score_form
from whence.trace.tracer import Tracer
from worlds import save_model, write_jsonl


def test_states_are_compared_where_the_index_has_them(tmp_path: Path) -> None:
    """An index of two layers keeps h at the last alone, and the form's own layer is the first of them."""
    rows = [{"prompt": f"Name fruit {i}", "response": "plums"} for i in range(20)]
    model, data = save_model(tmp_path / "model", num_hidden_layers=2), write_jsonl(tmp_path / "rows.jsonl", rows)
    base = save_model(tmp_path / "base", num_hidden_layers=2, initializer_range=0.05)
    index = build_index(str(model), str(data), tmp_path / "index", base=str(base), layers=[1, "last"], max_length=64)
    assert default_layers(score_form("repsim"), index.manifest) == (1,)
    assert (1, "h") not in index.manifest.places()
    tracer = Tracer(index, base=str(base))
    turn = tracer.encoder.encode(index.examples([7])[0])[0]
    assert repsim_ranking(tracer, [turn])[0] == 7
