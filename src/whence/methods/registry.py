"""Methods by name. A method is a file of this package, imported when asked for: `tracin_ln.py` is `tracin-ln`.

The six that read signatures are rows of the score table, and have no file each (`representations.py`).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module

import whence.methods
from whence.errors import InputError
from whence.files import did_you_mean
from whence.methods.base import Method, Subject

NOT_METHODS = frozenset({"base", "registry", "representations"})
REPRESENTATIONS = ("g-cosine", "repsim", "rept", "rept-balanced", "rept-centred", "rept-contrast")
"""Of the score table, said here once more so that listing the methods imports none of them."""


def method_names() -> list[str]:
    """The names of all methods, sorted. Imports none of them."""
    modules = pkgutil.iter_modules(whence.methods.__path__)
    files = [module.name for module in modules if not module.ispkg and module.name not in NOT_METHODS]
    return sorted([*REPRESENTATIONS, *(name.replace("_", "-") for name in files)])


def method_class(name: str) -> type[Method]:
    """The class of a method; `rept_balanced` and `rept-balanced` are the same name.

    Raises InputError for an unknown name, naming the nearest.
    """
    wanted, known = name.strip().lower().replace("_", "-"), method_names()
    if wanted not in known:
        raise InputError(
            f"There is no method {name!r}.",
            f"Known: {', '.join(known)}.",
            did_you_mean(wanted, known, "Choose one of these.", n=3, cutoff=0.4),
        )
    if wanted in REPRESENTATIONS:
        from whence.methods.representations import representation_method

        return representation_method(wanted)
    module = import_module(f"whence.methods.{wanted.replace('-', '_')}")
    found = [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Method) and getattr(item, "name", None) == wanted
    ]
    if len(found) != 1:
        raise InputError(
            f"{module.__name__} defines {len(found)} methods named {wanted!r}.",
            f"Expected one subclass of Method with name = {wanted!r}, after the file's name.",
            "See docs/methods.md, adding your own.",
        )
    return found[0]


def make_method(name: str, subject: Subject, **options: object) -> Method:
    """A fresh method for a subject. Raises InputError for an unknown name or option."""
    kind = method_class(name)
    try:
        return kind(subject, **options)
    except TypeError as error:
        raise InputError(
            f"{kind.name} cannot take {', '.join(options) or 'no options'}: {error}.",
            "Expected the options of its constructor.",
            "docs/methods.md lists them.",
        ) from error


def resolve_names(names: Iterable[str]) -> list[str]:
    """Canonical names, in the order asked, each once; "all" stands for every method. Raises InputError."""
    asked = [every for name in names for every in (method_names() if name == "all" else [name])]
    if not asked:
        raise InputError("No method was given.", f"Known: {', '.join(method_names())}.", "Name some of these, or all.")
    return list(dict.fromkeys(method_class(name).name for name in asked))
