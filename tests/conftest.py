"""Fixtures that many rooms share, and which tests this machine can run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from traced_world import TracedWorlds
from whence.cli import main as entry
from worlds import World, make_world

torch.set_num_threads(1)

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
HAS_PLAYWRIGHT = find_spec("playwright") is not None

# Its imports need playwright already when tests are collected.
IN_BROWSER = [
    "report/test_page_in_browser.py",
    "report/test_audit_page_in_browser.py",
    "serve/test_page_in_browser.py",
    "serve/test_page_again_in_browser.py",
    "serve/test_page_kept_in_browser.py",
    "serve/test_page_accessible.py",
]
collect_ignore = [] if HAS_PLAYWRIGHT else IN_BROWSER
if find_spec("fastapi") is None:
    collect_ignore += ["serve", "cli/test_serve_command.py"]


def pytest_report_header() -> str:
    """Says which browser the page is opened in, or that its tests are left out."""
    if CHROMIUM and HAS_PLAYWRIGHT:
        return f"browser: {CHROMIUM}"
    missing = "no playwright (pip install playwright)" if CHROMIUM else "no Chromium (apt-get install chromium)"
    return f"browser: the browser tests are left out, there is {missing}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the browser tests where there is no browser, and begins with the demo, the longest of all."""
    items.sort(key=lambda item: item.path.parts[-2:] != ("demo", "test_run.py"))
    if CHROMIUM:
        return
    left_out = [item for item in items if item.get_closest_marker("browser")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """The tiny tokenizer with the plain chat template."""
    return tiny_tokenizer(CHAT_TEMPLATE)


@pytest.fixture(scope="session")
def llama() -> PreTrainedModel:
    """A tiny random Llama in float32."""
    return tiny_model("llama")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A model folder, a data file and an index of it; not to be changed by a test."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def traced_worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedWorlds]:
    """Gives worlds that were trained once a session; fails at its end where a test wrote into what they share."""
    worlds = TracedWorlds(tmp_path_factory)
    yield worlds
    worlds.check()


@pytest.fixture
def whence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process, as a function of its words: exit status, standard output and standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["whence", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out = capsys.readouterr()
        return int(ended.value.code or 0), out.out, out.err

    return run
