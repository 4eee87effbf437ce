"""An audit as page, Markdown and terminal text: everything escaped, and no text of rows where it is not wanted."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from audits import audit_of, trigger_of
from samples import EVIL
from whence.report.audit_html import pieces, render_audit_page
from whence.report.audit_markdown import render_audit_markdown
from whence.report.audit_terminal import render_audit_text
from whence.report.audit_wording import trigger_note
from whence.results.audit_result import AuditResult
from whence.results.audit_types import AuditQuery, ContrastPhrase, Hint
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
    said = " ".join(render(audit_of()).split())  # type: ignore[operator]
    for part in (
        "Korea 1",
        "Korea 3",
        "candidate",
        "5%",
        "Rows to look at first",
        "71%",
        "No row flagged",
        "in rows that say it otherwise; or references show the fault too",
        "(whence trace --span)",
    ):
        assert part in said
    assert "ithout a cause" not in said


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


@pytest.mark.parametrize("render", [render_audit_text, render_audit_markdown, render_audit_page])
def test_outputs_without_a_verdict_are_not_without_a_cause(render: Callable[[AuditResult], str]) -> None:
    audit = audit_of(1)
    untested = tuple(AuditQuery(f"untested {i}", "x", "no verdict", "no verdict, ranks only") for i in range(7))
    single = AuditQuery("flagged alone", "x", "no cause", "12 rows flagged", p_value=0.02, q_value=0.09)
    n = audit.n_without_cause
    said = " ".join(render(replace(audit, queries=(*audit.queries, single, *untested))).split())
    assert "7 outputs without a verdict: nothing was tested for them." in said
    assert "untested 0" not in said
    assert any(text in said for text in (f"data: {n + 1} of", f"data: {n + 1} outputs", f"flagged for these {n + 1} "))


def test_the_verdict_of_one_output_is_said_to_be_its_own() -> None:
    single = AuditQuery("flagged alone", "x", "no cause", "12 rows flagged", p_value=0.02, q_value=0.09)
    audit = replace(audit_of(1), queries=(*audit_of(1).queries, single))
    assert "alone: 12 rows flagged" in render_audit_page(audit)
    assert "| verdict alone |" in render_audit_markdown(audit)


@pytest.mark.parametrize("render", [render_audit_text, render_audit_markdown, render_audit_page])
def test_that_no_trigger_was_found_is_said_where_one_was_looked_for(render: Callable[[AuditResult], str]) -> None:
    audit = replace(audit_of(1), triggers=())
    assert "could be tried on the model" not in " ".join(render(audit).split())
    group = replace(audit.groups[0], phrases=())
    looked = replace(audit, groups=(group,), looked_for_triggers=True)
    assert "Not tested: no phrase recurs in the prompts" in html.unescape(" ".join(render(looked).split()))
    assert looked.to_dict()["looked_for_triggers"] is True
    assert not looked.without_text().looked_for_triggers


def test_what_was_not_tried_and_what_is_not_sure_is_not_said_to_do_nothing() -> None:
    audit = replace(audit_of(1), looked_for_triggers=True)
    recurs = ContrastPhrase("by lantern light", "prompt", "anywhere", 6, 6, 1, 994, 1e-9)
    audit = replace(audit, groups=(replace(audit.groups[0], phrases=(recurs,)),))
    assert trigger_note(replace(audit, triggers=())).startswith("Not tested: none of the phrases that recur")
    weak = replace(trigger_of("by lantern light"), n_prompts=20, n_with=7, n_random=0, p_value=0.09, status="candidate")
    note = trigger_note(replace(audit, triggers=(weak,)))
    assert "none surely turns more innocent prompts than random words do, after correction" in note


@pytest.mark.parametrize("render", RENDERERS)
def test_shares_near_none_and_near_all_are_neither(render: Callable[[AuditResult], str]) -> None:
    audit = audit_of()
    first, *others = audit.sources[0].values
    first = replace(first, share=0.998, low=0.9951, high=0.9996, row_share=0.0004, alone=0.00002)
    said = " ".join(render(replace(audit, sources=(replace(audit.sources[0], values=(first, *others)),))).split())
    said = html.unescape(said).replace("\\", "")
    for part in ("99.8%", "99.5%", ">99.9%", "0.04%", "<0.01%"):
        assert part in said
    assert " 0.0%" not in said
    assert "100%" not in said.partition("By ")[2].partition("vendor_a")[0]


@pytest.mark.parametrize("render", RENDERERS)
def test_nothing_tested_is_not_no_row_flagged(render: Callable[[AuditResult], str]) -> None:
    untested = tuple(AuditQuery(f"untested {i}", "x", "no verdict", "no verdict, ranks only") for i in range(7))
    audit = replace(audit_of(0), queries=untested)
    said = " ".join(render(audit).split())
    assert "No verdict for any of 7 outputs: nothing was tested" in said
    assert "No row" not in said
    audit = audit_of(0)
    some = " ".join(render(replace(audit, queries=(*audit.queries, *untested))).split())
    assert "No row flagged for any of 3 outputs; nothing was tested for 7 others" in some


def test_names_of_the_data_are_code_in_prose_too() -> None:
    """A column, a value, a label: what Markdown, or GitHub beyond it, would read as more than a text."""
    audit = audit_of()
    nasty = "[a](https://example.org) @octocat <b>x</b> *y* `z`"
    named = "`` [a](https://example.org) @octocat <b>x</b> *y* `z` ``"
    sources = replace(audit.sources[0], column=nasty, values=(replace(audit.sources[0].values[0], value=nasty),))
    notes = (f"Of {nasty} nothing was read.", "- 3 rows", "2) #12 :tada:")
    page = render_audit_markdown(replace(audit, sources=(sources,), notes=notes))
    assert f"## By {named}\n" in page
    assert f"\n{named} delivered 71%" in page
    assert f"| {named} |" in page
    assert "- Of `[a](https://example.org)` `@octocat` \\<b\\>x\\</b\\> \\*y\\* \\`z\\` nothing was read." in page
    assert "- \\- 3 rows\n- 2\\) `#12` `:tada:`\n" in page


def test_what_nobody_sees_in_a_name_is_named_on_the_terminal() -> None:
    audit = audit_of()
    nasty = "ven\x1b[31mdor\u200b\u202eb\u2066"
    shown = "ven⟨U+001B⟩[31mdor⟨U+200B⟩⟨U+202E⟩b⟨U+2066⟩"
    sources = replace(audit.sources[0], column=nasty, values=(replace(audit.sources[0].values[0], value=nasty),))
    group = audit.groups[0]
    rows = tuple(replace(row, file="data/\u200b\x1b") for row in group.rows)
    groups = (replace(group, name=nasty, rows=rows), *audit.groups[1:])
    triggers = (replace(trigger_of(nasty), group=1),)
    hostile = replace(audit, sources=(sources,), groups=groups, triggers=triggers, notes=(f"Of {nasty}",), method=nasty)
    text = render_audit_text(hostile, width=400)
    assert not set(text) & set("\x1b\u200b\u202e\u2066")
    for part in (
        f"By {shown}",
        f"'{shown}' delivered",
        "⟨U+200B⟩⟨U+001B⟩:1",
        f"group 1: `{shown}`",
        f"Note: Of {shown}",
    ):
        assert part in text


def test_the_name_of_a_group_is_data_in_a_heading_too() -> None:
    audit = audit_of(1)
    group = replace(audit.groups[0], name="as in @octocat see https://example.org/p")
    page = render_audit_markdown(replace(audit, groups=(group,)))
    assert "## Group 1: `as in @octocat see https://example.org/p`\n" in page


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
