"""What steers a display is replaced, one for one; what writing needs stays."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import unicodedata
from importlib.resources import files

import pytest

from whence.report.printable import HARMLESS, REPLACEMENT, printable, visible

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
BIDI = [*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x2070))]
"""Embeddings, overrides, isolates and the deprecated ones behind them."""
NODE = shutil.which("node")


@pytest.mark.parametrize(
    "text", [FAMILY, PERSIAN, SCOTLAND, "co\u00adoperate", "\u200fshalom\u200e", "\ufeffa", "क्\u200dष"]
)
def test_what_writing_needs_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("character", [*BIDI, "\x1b", "\x07", "\x9b", "\x7f", "\x00", "\ud800", "\ue000", "\U000e0041"])
def test_what_steers_is_replaced(character: str) -> None:
    assert printable(f"a{character}b", lines=True) == f"a{REPLACEMENT}b"


def test_line_breaks_stay_only_where_a_text_has_lines() -> None:
    assert printable("a\n\tb\u2028c", lines=True) == "a\n\tb\u2028c"
    assert printable("a\n\tb") == f"a{REPLACEMENT}{REPLACEMENT}b"


def test_no_control_character_of_all_of_unicode_passes() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        shown = printable(character)
        if character.isprintable() or character in HARMLESS:
            assert shown == character
        else:
            assert shown == REPLACEMENT
    assert {unicodedata.category(character) for character in HARMLESS} == {"Cf"}
    assert not HARMLESS & set(BIDI)


SEEN = [
    (FAMILY, FAMILY),
    (PERSIAN, PERSIAN),
    ("a\u202eb\x1bc", "a⟨U+202E⟩b⟨U+001B⟩c"),
    ("\u2066x\u2069\n", "⟨U+2066⟩x⟨U+2069⟩⟨U+000A⟩"),
    ("\u200d", "⟨U+200D⟩"),
    ("a\u200b\ufeff", "a⟨U+200B⟩⟨U+FEFF⟩"),
    ("\udc80", "⟨U+DC80⟩"),
]


@pytest.mark.parametrize(("text", "shown"), SEEN)
def test_what_nobody_sees_is_named_as_on_the_page(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert NODE is None or _in_page("visible", text) == shown


def test_lines_stay_where_they_are_wanted() -> None:
    assert visible("a\n\tb\r", lines=True) == "a\n\tb⟨U+000D⟩"
    assert visible(SCOTLAND) == SCOTLAND


def _in_page(function: str, text: str) -> str:
    """What the page's own `safe` or `visible` makes of a text, by node."""
    script = (files("whence.report") / "templates" / "shading.js").read_text("utf-8")
    (found,) = re.findall(r"(?s)  const safe = .*?;\n(?=  const level)", script)
    show = f"process.stdout.write({function}(JSON.parse(process.argv[1])))"
    ran = subprocess.run(
        [str(NODE), "-e", f"{found}\n{show}", _json(text)], capture_output=True, check=True, timeout=60
    )
    return ran.stdout.decode("utf-8")


def _json(text: str) -> str:
    from json import dumps

    return dumps(text)


@pytest.mark.skipif(NODE is None, reason="no node")
@pytest.mark.parametrize(
    ("text", "safe", "visible"),
    [
        (FAMILY, FAMILY, FAMILY),
        (PERSIAN, PERSIAN, PERSIAN),
        ("a\u202eb\x1bc", "a\ufffdb\ufffdc", "a⟨U+202E⟩b⟨U+001B⟩c"),
        ("\u2066x\u2069\n", "\ufffdx\ufffd\n", "⟨U+2066⟩x⟨U+2069⟩⟨U+000A⟩"),
        ("\u200d", "\u200d", "⟨U+200D⟩"),
        ("a\u200b", "a\u200b", "a⟨U+200B⟩"),
    ],
)
def test_the_page_does_the_same_and_names_what_cannot_be_seen(text: str, safe: str, visible: str) -> None:
    assert _in_page("safe", text) == safe
    assert _in_page("visible", text) == visible
