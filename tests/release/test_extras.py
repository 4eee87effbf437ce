"""Extras: each is known by name wherever it is spoken of, bounded below, and what is installed of it is new enough."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from extras import user_extras

ROOT = Path(__file__).parents[2]
EXTRAS = user_extras(ROOT / "pyproject.toml")
NAMED = re.compile(r"(?:whence\[|install_extra\(['\"])([\w,-]+)")
SPOKEN_OF = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_an_extra_names_can_be_resolved(extra: str) -> None:
    """The real installation is `make test-extras`."""
    assert EXTRAS[extra]
    for need in map(Requirement, EXTRAS[extra]):
        assert [one.operator for one in need.specifier][:1] == [">="], f"{need} has no lower bound"
        try:
            found = version(need.name)
        except PackageNotFoundError:
            continue
        assert need.specifier.contains(found, prereleases=True), f"{need} asks for another than {found}"


def test_names_are_spelled_as_pip_reads_them() -> None:
    assert [canonicalize_name(name) for name in EXTRAS] == list(EXTRAS)


def test_every_extra_that_is_spoken_of_exists_and_every_one_is_spoken_of() -> None:
    spoken = {
        name for path in SPOKEN_OF for found in NAMED.findall(path.read_text("utf-8")) for name in found.split(",")
    }
    assert spoken == set(EXTRAS)
