"""docs/methods.md lists every method, and its example of one's own runs as written."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import whence.methods
from whence.methods.base import checked_scores
from whence.methods.registry import make_method, method_names

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text("utf-8")


def test_every_method_has_a_row() -> None:
    listed = set(re.findall(r"^\| `([\w-]+)` \|", PAGE, flags=re.MULTILINE))
    assert listed == set(method_names())


def test_the_example_is_one_file_of_thirty_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem) -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[-1]
    assert len(code.splitlines()) <= 30
    (tmp_path / "prompt_overlap.py").write_text(code, "utf-8")
    monkeypatch.setattr(whence.methods, "__path__", [*whence.methods.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "whence.methods.prompt_overlap", raising=False)
    method = make_method("prompt-overlap", problem.subject)
    method.fit(problem.train)
    scores = checked_scores(method.score(problem.queries), method, problem.queries, problem.train)
    assert scores[0, 4] == 1
