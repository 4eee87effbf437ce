"""Packages whose names are imported when they are first used, so that one name does not cost the whole room."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def attach(package: str, homes: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package. homes: module of the package -> the names it gives the package.

    No name may be that of a module of the package: once imported, the module would stand in its place.
    """
    modules = {name: f"{package}.{module}" for module, names in homes.items() for name in names}

    def get(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(modules[name]), name)
        # The next time it is found without asking here.
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(modules)
