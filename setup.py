"""The description on a package index: the README without links into the repository, which lead nowhere there."""

from __future__ import annotations

import re
from pathlib import Path

LINE_OF_IMAGE = re.compile(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n+", re.MULTILINE)
RELATIVE_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:)[^)]*\)")


def described(readme: str) -> str:
    """Markdown without images of the repository, and with the words alone of a link into it."""
    return RELATIVE_LINK.sub(r"\1", LINE_OF_IMAGE.sub("", readme))


if __name__ == "__main__":
    from setuptools import setup

    text = described(Path(__file__).with_name("README.md").read_text("utf-8"))
    setup(long_description=text, long_description_content_type="text/markdown")
