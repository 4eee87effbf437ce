"""A hook of mkdocs: the page of the command line is made from the commands themselves."""

from __future__ import annotations

import re

import typer.main
from typer.cli import get_docs_for_click

from whence.cli.main import app

PLACE = "<!-- commands -->"


def commands() -> str:
    """Every command with its arguments and options, as Markdown."""
    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="whence")
    text = get_docs_for_click(obj=group, ctx=context, name="whence")
    text = re.sub(r"^# .*\n", "", text, count=1)
    return text.replace("* `-h, --help`", "* `--help`")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Puts the commands where a page asks for them."""
    return markdown.replace(PLACE, commands()) if PLACE in markdown else markdown
