"""An extension of griffe: lines of a docstring that describe one name each become a list."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

ENTRY = re.compile(r"^(\w+(?:, \w+)*): +(?=\S)")


def as_list(text: str) -> str:
    """`name: what it is`, continued on indented lines, becomes `- **name:** what it is`."""
    lines: list[str] = []
    in_list = False
    for line in text.splitlines():
        entry = ENTRY.match(line)
        if entry and not in_list and lines and lines[-1]:
            lines.append("")
        in_list = bool(entry) or (in_list and line.startswith("    "))
        lines.append(ENTRY.sub(r"- **\1**: ", line) if entry else line)
    return "\n".join(lines)


class NamesAsList(Extension):
    """Rewrites the docstrings of whence before they are rendered."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Changes one object's docstring in place."""
        if obj.docstring:
            obj.docstring.value = as_list(obj.docstring.value)
