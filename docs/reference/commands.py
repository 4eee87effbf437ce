"""A hook of mkdocs: the command line's page is made from the commands, the changelog's from CHANGELOG.md."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main
from typer.cli import get_docs_for_click

from whence.cli.main import app

PLACE = "<!-- commands -->"
CHANGELOG = "<!-- changelog -->"


def commands() -> str:
    """Every command with its arguments and options, as Markdown."""
    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="whence")
    text = get_docs_for_click(obj=group, ctx=context, name="whence")
    text = re.sub(r"^# .*\n", "", text, count=1)
    return text.replace("* `-h, --help`", "* `--help`")


def changelog() -> str:
    """CHANGELOG.md, with its links to pages as they are from the site's pages."""
    return (Path(__file__).parents[2] / "CHANGELOG.md").read_text("utf-8").replace("](docs/", "](")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Puts the commands and the changelog where a page asks for them."""
    for place, made in ((PLACE, commands), (CHANGELOG, changelog)):
        if place in markdown:
            markdown = markdown.replace(place, made())
    return markdown
