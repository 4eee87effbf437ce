"""The command line in this process, as every test of a command uses it."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from whence.cli import main as entry


@pytest.fixture
def whence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """The command line as a function of its words: exit status, standard output and standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["whence", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out = capsys.readouterr()
        return int(ended.value.code or 0), out.out, out.err

    return run
