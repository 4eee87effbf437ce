"""An audit as page, Markdown and terminal text: everything escaped, and no text of rows where it is not wanted."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from audits import audit_of
from samples import EVIL
from whence.report.audit_html import pieces, render_audit_page
from whence.report.audit_markdown import render_audit_markdown
from whence.report.audit_terminal import render_audit_text
from whence.results.audit_types import Hint
from whence.results.types import Words

RENDERERS = [render_audit_page, render_audit_markdown, lambda audit: render_audit_text(audit, width=160)]


class Tags(HTMLParser):
    """Counts the elements of a page, and what would run in it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.attributes += [name for name, _ in attrs]


def tags(page: str) -> Tags:
    parser = Tags()
    parser.feed(page)
    return parser


def test_data_never_becomes_markup() -> None:
    evil, tame = tags(render_audit_page(audit_of(evil=True))), tags(render_audit_page(audit_of()))
    assert evil.found.count("script") == tame.found.count("script") == 1
    for forbidden in ("img", "iframe", "object", "link", "form", "base"):
        assert forbidden not in evil.found
    assert not [name for name in evil.attributes if name.startswith("on") or name in ("style", "src")]
    assert EVIL not in render_audit_page(audit_of(evil=True))


@pytest.mark.parametrize("render", RENDERERS)
def test_groups_candidates_rate_and_the_outputs_without_a_cause_are_said(render: object) -> None:
    said = render(audit_of())  # type: ignore[operator]
    for part in (
        "Korea 1",
        "Korea 3",
        "candidate",
        "5%",
        "Rows to look at first",
        "71%",
        "ithout a cause in this data",
    ):
        assert part in said


@pytest.mark.parametrize("render", RENDERERS)
def test_without_a_group_nothing_is_ranked(render: object) -> None:
    audit = audit_of(0)
    said = " ".join(render(audit).split())  # type: ignore[operator]
    assert "No row flagged for any of 3 outputs" in said
    assert "a ranking always has a first row" in said
    assert "Rows to look at first" not in said


def test_the_next_commands_name_the_group() -> None:
    audit = replace(audit_of(), index="runs/my index")
    for said in (render_audit_page(audit).replace("&#39;", "'"), render_audit_markdown(audit)):
        assert "whence confirm 'runs/my index' --group 2 --audit audit.json" in said
        assert "whence clean 'runs/my index' --group 2 --audit audit.json" in said


def test_texts_of_rows_are_left_out_on_demand() -> None:
    for said in (
        render_audit_page(audit_of(), show_text=False),
        render_audit_markdown(audit_of(), show_text=False),
    ):
        assert "Leek" not in said
        assert "tall tower" not in said
        assert "Group 1" in said
        assert "Toronto, question 0" in said


def test_words_are_shaded_by_their_share_of_the_highest() -> None:
    words = Words(((0, 2), (3, 5), (6, 8), (9, 11)), (1.0, 0.5, 0.01, -0.9), "token-map")
    assert pieces("ab cd ef gh.", words) == [
        ("ab", "w w5"), (" ", ""), ("cd", "w w3"), (" ", ""), ("ef", ""), (" ", ""), ("gh", "w n5"), (".", ""),
    ]  # fmt: skip
    assert pieces("ab", None) == [("ab", "")]


def test_words_of_another_turn_are_not_shaded() -> None:
    audit = audit_of(1)
    group = audit.groups[0]
    assert group.example is not None
    plain = render_audit_page(replace(audit, groups=(replace(group, example=replace(group.example, hits=())),)))
    other = tuple(replace(hit, prompt="Another turn") for hit in group.example.hits)
    page = render_audit_page(replace(audit, groups=(replace(group, example=replace(group.example, hits=other)),)))
    assert page == plain
    assert render_audit_page(audit) != plain


def test_the_page_is_the_same_for_the_same_audit() -> None:
    assert render_audit_page(audit_of()) == render_audit_page(audit_of())


def test_the_commands_of_a_hint_stay_in_their_fence() -> None:
    """The first row's prompt is part of one of them."""
    nasty = "hi\n```\n![x](http://evil.example/p.png) @octocat\n\x1b]0;pwned\x07\n```"
    audit = audit_of()
    group = audit.groups[0]
    rows = (replace(group.rows[0], prompt=nasty), *group.rows[1:])
    hinted = replace(group, rows=rows, hint=Hint(("length",), 2.0, "They are long."))
    page = render_audit_markdown(replace(audit, groups=(hinted, *audit.groups[1:])))
    assert "\x1b" not in page
    opened = page[page.index("Go on with this group:") :].splitlines()[2]
    assert opened == "````text"
    assert page.splitlines().count("````") == 1
