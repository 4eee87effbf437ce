"""A method is one file; unknown names and options are told apart from known ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import whence.methods
from whence.errors import InputError, NonFiniteError
from whence.methods.base import TurnSet, checked_scores
from whence.methods.registry import REPRESENTATIONS, make_method, method_class, method_names, resolve_names
from whence.scoring.defaults import SCORES

DUMMY = '''
import torch
from whence.methods.base import Method

class Newest(Method):
    """Later training rows rank higher."""

    name = "newest-first"
    version = "1"

    def fit(self, train):
        self.n = len(train)

    def score(self, queries):
        return torch.arange(self.n, dtype=torch.float32).expand(len(queries), -1)
'''


@pytest.fixture
def dummy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of methods beside the package's own, as if the file were in it."""
    monkeypatch.setattr(whence.methods, "__path__", [*whence.methods.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "whence.methods.newest_first", raising=False)
    return tmp_path


def test_one_file_adds_a_method(dummy: Path, problem) -> None:
    assert "newest-first" not in method_names()
    (dummy / "newest_first.py").write_text(DUMMY, "utf-8")
    assert "newest-first" in method_names()
    method = make_method("newest_first", problem.subject)
    method.fit(problem.train)
    scores = checked_scores(method.score(problem.queries), method, problem.queries, problem.train)
    assert scores[0].argmax() == len(problem.train) - 1


def test_a_file_without_its_method_is_refused(dummy: Path) -> None:
    (dummy / "newest_first.py").write_text(DUMMY.replace("newest-first", "other"), "utf-8")
    with pytest.raises(InputError, match="defines 0 methods named 'newest-first'"):
        method_class("newest-first")


@pytest.mark.parametrize(("wrong", "near"), [("trakin", "tracin"), ("datinf", "datainf"), ("rep-t", "rept")])
def test_an_unknown_name_gets_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(InputError, match=f"Did you mean .*{near}"):
        method_class(wrong)


def test_every_listed_method_loads_under_its_name_with_a_version_and_a_formula() -> None:
    for name in method_names():
        kind = method_class(name)
        assert kind.name == name
        assert kind.version
        assert "scores" in (kind.__doc__ or "")


def test_the_score_table_and_the_representation_methods_are_the_same() -> None:
    assert set(REPRESENTATIONS) == set(SCORES)
    for name, form in SCORES.items():
        kind = method_class(name)
        assert (kind.name, kind.version, kind.__doc__) == (name, form.version, form.function.__doc__)


def test_names_resolve_in_order_and_once() -> None:
    assert resolve_names(["tracin_ln", "bm25", "tracin-ln"]) == ["tracin-ln", "bm25"]
    assert resolve_names(["all"]) == method_names()


def test_an_unknown_option_is_named(problem) -> None:
    with pytest.raises(InputError, match="dims"):
        make_method("rapidin", problem.subject, dims=8)


def test_listing_methods_does_not_import_them() -> None:
    code = (
        "import sys; from whence.methods.registry import method_names; names = method_names();"
        "print([m for m in sys.modules if m.startswith('whence.methods.') "
        "and m.rsplit('.')[-1].replace('_', '-') in names])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_scores_of_a_wrong_shape_or_not_finite_are_refused(problem) -> None:
    method = make_method("random-scores", problem.subject)
    names = [f"data.jsonl:{i + 1}" for i in range(len(problem.train))]
    train = TurnSet.of(problem.train.turns, names)
    with pytest.raises(InputError, match="shape"):
        checked_scores(torch.zeros(len(train), len(problem.queries)), method, problem.queries, train)
    scores = torch.zeros(len(problem.queries), len(train))
    scores[1, 2] = float("nan")
    with pytest.raises(NonFiniteError, match=r"data\.jsonl:3 for query row 1"):
        checked_scores(scores, method, problem.queries, train)


def test_an_empty_set_and_wrong_names_are_refused(problem) -> None:
    with pytest.raises(InputError, match="empty"):
        TurnSet.of([])
    with pytest.raises(InputError, match="names"):
        TurnSet.of(problem.train.turns, ["one"])
