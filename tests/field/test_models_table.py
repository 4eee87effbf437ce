"""docs/compatibility.md lists what PEFT and transformers have, no more and no less, and names tests that exist."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

from peft import PeftType
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from adapters import REFUSED
from whence.model.checkpoint import READ_QUANTISED

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "compatibility.md").read_text("utf-8")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(title: str) -> dict[str, str]:
    """What stands in the second column, by the name in the first; a name stands in one row."""
    found = re.findall(r"^\| `([^`]+)` \| ([\w ]+?) \|.*?\| `(\w+)\[\1\]` \|$", section(title), re.MULTILINE)
    assert len({name for name, _, _ in found}) == len(found)
    return {name: verdict for name, verdict, _ in found}


def holds(listed: dict[str, str], own: dict[str, str], library: str, gone: frozenset[str] = frozenset()) -> None:
    """The page lists what the version that it names has, and what is gone since an older one."""
    named = re.findall(rf"{library} (\d+\.\d+)", PAGE)
    assert own.items() <= listed.items()
    if version(library).startswith(f"{named[0]}."):
        assert own.keys() | gone == listed.keys()


def test_adapter_types() -> None:
    own = {kind.value: "refused" if kind.value in REFUSED else "read" for kind in PeftType}
    holds(table("Adapters"), own, "peft", gone=frozenset({"BONE"}))


def test_stored_quantisations() -> None:
    read = {name: "read on CUDA" if name in READ_QUANTISED else "refused" for name in AUTO_QUANTIZATION_CONFIG_MAPPING}
    holds(table("Stored quantisations"), read, "transformers")


def test_the_tests_that_the_page_names_are_there() -> None:
    named = set(re.findall(r"`(test_\w+)[`\[]", PAGE))
    written = {
        name for path in TESTS.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert named
    assert named <= written
