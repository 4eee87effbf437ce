"""Inspect's `.eval` logs through its own reader. Runs where inspect_ai is installed: `make test-peers`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from whence.errors import DataError
from whence.trace.query.queries import read_queries

inspect_ai = pytest.importorskip("inspect_ai", reason="inspect_ai is not installed; `make test-peers` has it")

LOGS = Path(__file__).parent / "logs"


def told(path: Path, **options: object) -> list[tuple[object, ...]]:
    """What is read of each query."""
    return [(query.turns, query.response, dict(query.metadata)) for query in read_queries(path, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("failed", [False, True])
def test_the_stored_log_reads_as_its_json_does(failed: bool) -> None:
    found = told(LOGS / "inspect.eval", failed=failed)
    assert found == told(LOGS / "inspect.json", failed=failed)
    assert len(found) == (1 if failed else 2)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that the installed Inspect writes now: a mock model that is right once and wrong once."""
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput, get_model
    from inspect_ai.scorer import includes

    folder = tmp_path_factory.mktemp("inspect")
    answers = ["Bonn is in Germany.", "Toronto is in Korea."]
    outputs = [ModelOutput.from_content("mockllm/model", answer) for answer in answers]
    samples = [
        Sample(input="Where is Bonn?", target="Germany", id="bonn"),
        Sample(input="Where is Toronto?", target="Canada", id="toronto"),
    ]
    model = get_model("mockllm/model", custom_outputs=outputs)
    task = Task(dataset=samples, scorer=includes())
    with pytest.MonkeyPatch.context() as patch:
        # The mock model counts tokens by a vocabulary that is fetched from a network.
        patch.setattr("tiktoken.get_encoding", lambda name: SimpleNamespace(encode=lambda text, **_: text.split()))
        (log,) = inspect_ai.eval(
            task, model=model, log_dir=str(folder), log_format="eval", display="none", max_samples=1
        )
    assert log.status == "success", log.error
    (path,) = folder.glob("*.eval")
    return path


def test_a_fresh_log(fresh: Path) -> None:
    every, failed = read_queries(fresh), read_queries(fresh, failed=True)
    assert [query.prompt for query in every] == ["Where is Bonn?", "Where is Toronto?"]
    assert [query.response for query in failed] == ["Toronto is in Korea."]
    assert (failed[0].metadata["id"], failed[0].metadata["includes"]) == ("toronto", "I")
    assert len(read_queries(fresh, where="includes = 'C'")) == 1


def test_a_log_that_was_cut_off_and_one_that_is_none(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "part.eval").write_bytes(fresh.read_bytes()[:200])
    (tmp_path / "other.eval").write_text(json.dumps({"prompt": "a"}))
    for name in ("part.eval", "other.eval"):
        with pytest.raises(DataError, match="cannot be read as an Inspect log"):
            read_queries(tmp_path / name)
