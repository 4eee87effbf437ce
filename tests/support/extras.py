"""The extras of pyproject.toml that users ask for. With the name of one: imports what it names, in this environment.

python tests/support/extras.py pyproject.toml           their names, one a line
python tests/support/extras.py pyproject.toml trl       imports trl
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

OURS = ("dev", "docs")
"""For those who work on whence."""
NAME = re.compile(r"[A-Za-z0-9._-]+")


def user_extras(pyproject: Path) -> dict[str, list[str]]:
    """Extra -> its requirements."""
    extras = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return {name: needs for name, needs in extras.items() if name not in OURS}


def packages_of(requirements: list[str]) -> list[str]:
    """The names of the packages, each in its normal spelling."""
    return [re.sub(r"[-_.]+", "-", match[0]).lower() for need in requirements if (match := NAME.match(need))]


def modules_of(package: str) -> Iterator[str]:
    """What can be imported of an installed package, its public top-level modules."""
    for module, homes in packages_distributions().items():
        if package in packages_of(homes) and not module.startswith("_"):
            yield module


def main(pyproject: Path, extra: str | None) -> None:
    """Prints the names, or imports what one extra names. Raises ImportError, or SystemExit for what is not there."""
    extras = user_extras(pyproject)
    if extra is None:
        print(*extras, sep="\n")
        return
    if extra not in extras:
        raise SystemExit(f"There is no extra {extra}; there are {', '.join(extras)}.")
    for package in packages_of(extras[extra]):
        modules = sorted(modules_of(package))
        if not modules:
            raise SystemExit(f"{package}, which whence[{extra}] names, is not installed.")
        import_module(modules[0])
        print(f"whence[{extra}]: {package} ({modules[0]})")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
