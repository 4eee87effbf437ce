"""What commands say: on a terminal nothing of the data steers it, and any locale can show it."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def say(text: str, *, err: bool = False) -> None:
    """Prints lines in which every character that nobody sees is named. err: on standard error."""
    from whence.report import visible

    typer.echo(visible(text, lines=True), err=err)


def printer() -> Console:
    """A console on standard output whose texts, as they are given to `print`, are made visible as by `say`."""
    from rich.console import Console

    from whence.report import visible

    class Printer(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            super().print(*(visible(one, lines=True) if isinstance(one, str) else one for one in objects), **options)

    return Printer(highlight=False)


def any_locale() -> None:
    """Lets standard output show what its encoding has no sign for, as an escape, in place of an error."""
    with suppress(AttributeError, ValueError):  # a stream of another kind has its own ways
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def print_json(text: str) -> None:
    """Writes the text to standard output in UTF-8, whatever the locale. Raises OSError where it cannot."""
    sys.stdout.flush()
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:
        sys.stdout.write(text)
    else:
        binary.write(text.encode("utf-8"))
        binary.flush()
    sys.stdout.flush()


__all__ = ["any_locale", "print_json", "printer", "say"]
