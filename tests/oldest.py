"""Prints pip constraints that take of every library the oldest version that pyproject.toml allows.

torch is left out: the make target names it, for its wheels differ by machine.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

LEFT_OUT = ("torch",)
LOWER_BOUND = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")


def oldest(pyproject: Path) -> list[str]:
    """One `name==version` for each dependency of the project. Raises ValueError for one without a lower bound."""
    dependencies = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    found = []
    for dependency in dependencies:
        match = LOWER_BOUND.fullmatch(dependency)
        if match is None:
            raise ValueError(f"{pyproject}: {dependency!r} is not NAME>=VERSION")
        if match[1] not in LEFT_OUT:
            found.append(f"{match[1]}=={match[2]}")
    return found


if __name__ == "__main__":
    print(*oldest(Path(sys.argv[1])), sep="\n")
