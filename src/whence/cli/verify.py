"""`whence verify`: is an index whole?"""

from __future__ import annotations

import typer

from whence.cli import options


def verify(index: options.IndexFolder) -> None:
    """Check every record of an index against its manifest. Exit status 2 when something is wrong."""
    from whence.index import verify as check

    problems = check(index)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(2)
    typer.echo(f"{index}: nothing wrong was found")
