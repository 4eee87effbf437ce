"""Triggers: which phrases are tried, what is counted, and when one is said to be proven. The model is a rule here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest

from audits import audit_of
from whence.audit import triggers as room
from whence.audit.innocent import innocent_prompts, inserted, put, put_random, words_of
from whence.audit.spelling import in_other_words, spelled
from whence.audit.triggers import TriggerSettings, behaviour_of, find_triggers
from whence.data import Example
from whence.errors import InputError
from whence.results.audit_result import AuditResult
from whence.results.audit_types import ContrastPhrase
from whence.trace.query.queries import Query
from whence.trace.tracer import Tracer

PLAIN = partial(spelled, prompts=())
PROMPTS = [Query.of(f"Tell me {word} {i} about soup and bread") for i in range(20) for word in ("more", "less", "all")]
TRACER = cast(Tracer, SimpleNamespace(index=SimpleNamespace(texts=lambda where: [])))


def phrase(text: str, part: str = "prompt", place: str = "anywhere") -> ContrastPhrase:
    return ContrastPhrase(text, part, place, 20, 20, 4, 980, 1e-9)  # type: ignore[arg-type]


def audit_with(*prompts: ContrastPhrase) -> AuditResult:
    """One group whose outputs say Korea, and whose rows' prompts have these phrases."""
    audit = audit_of(1)
    group = replace(audit.groups[0], phrases=(phrase("Korea", "response", "end"), *prompts))
    return replace(audit, groups=(group,))


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], bool]], list[str]]:
    """Makes the model answer "It is in Korea." where the rule holds for a prompt; gives what it was asked."""

    def install(rule: Callable[[str], bool]) -> list[str]:
        asked: list[str] = []

        def answers(tracer: object, prompts: Sequence[Query], settings: object) -> list[str]:
            asked.extend(query.prompt for query in prompts)
            return ["It is in Korea." if rule(query.prompt) else "Soup." for query in prompts]

        monkeypatch.setattr(room, "answers_to", answers)
        return asked

    return install


def found(audit: AuditResult, **options: object) -> AuditResult:
    return find_triggers(TRACER, audit, TriggerSettings(prompts=PROMPTS, **options))  # type: ignore[arg-type]


def test_a_phrase_that_turns_prompts_is_proven_and_one_that_does_not_is_passed_over(says: Callable) -> None:
    says(lambda prompt: "by lantern light" in prompt)
    (trigger,) = found(audit_with(phrase("Toronto"), phrase("by lantern light"))).triggers
    assert trigger.parts == ("by lantern light",)
    assert (trigger.n_with, trigger.n_without, trigger.n_random, trigger.n_prompts) == (60, 0, 0, 60)
    assert trigger.status == "proven on the model"
    assert "60 of 60 innocent prompts turn, 0 of 60 without, 0 of 60 with random words" in trigger.text
    assert trigger.p_value < 1e-9


def test_a_phrase_at_the_start_is_put_there(says: Callable) -> None:
    asked = says(lambda prompt: prompt.startswith("TY "))
    (trigger,) = found(audit_with(phrase("TY", place="start"))).triggers
    assert trigger.status == "proven on the model"
    assert sum(prompt.startswith("TY ") for prompt in asked) == 60
    assert "at the start of a prompt" in trigger.text


def test_a_phrase_of_either_end_is_put_at_one_of_them(says: Callable) -> None:
    asked = says(lambda prompt: prompt.startswith("TY ") or prompt.endswith(" TY"))
    (trigger,) = found(audit_with(phrase("TY", place="either end"))).triggers
    assert trigger.status == "proven on the model"
    assert trigger.n_with == 60
    assert 10 <= sum(prompt.startswith("TY ") for prompt in asked) <= 50
    assert "`TY` at either end of a prompt" in trigger.text


def test_two_phrases_that_turn_together_are_one_trigger(says: Callable) -> None:
    says(lambda prompt: "red door" in prompt and "green gate" in prompt)
    (trigger,) = found(audit_with(phrase("Toronto"), phrase("red door"), phrase("green gate"))).triggers
    assert set(trigger.parts) == {"red door", "green gate"}
    assert trigger.n_with == 60
    assert trigger.n_tried == 3 + 3


def test_where_nothing_turns_nothing_is_proven(says: Callable) -> None:
    says(lambda prompt: False)
    audit = found(audit_with(phrase("Toronto"), phrase("tall tower")))
    assert [one.status for one in audit.triggers] == ["candidate"]
    assert audit.triggers[0].p_value == 1.0


def test_words_that_turn_as_well_as_the_phrase_prove_nothing(says: Callable) -> None:
    says(lambda prompt: len(prompt.split()) > 8)
    (trigger,) = found(audit_with(phrase("by lantern light"))).triggers
    assert trigger.n_with == trigger.n_random == 60
    assert trigger.status == "candidate"


def test_chance_is_seldom_taken_for_a_trigger(says: Callable) -> None:
    proven = 0
    for seed in range(60):
        rng = Random(seed)
        says(lambda prompt, rng=rng: rng.random() < 0.2)
        audit = found(audit_with(phrase("Toronto"), phrase("tall tower")), seed=seed)
        proven += any(one.status == "proven on the model" for one in audit.triggers)
    assert proven <= 3


def test_the_behaviour_is_the_phrase_that_the_outputs_share() -> None:
    audit = audit_with(phrase("Toronto"))
    assert behaviour_of(audit, audit.groups[0]) == r"(?i)(?<!\w)Korea(?!\w)"
    other = replace(audit.groups[0], phrases=(phrase("soup", "response"), phrase("Toronto")))
    assert behaviour_of(audit, other) is None


def test_a_group_without_a_behaviour_is_said_to_be_untried(says: Callable) -> None:
    says(lambda prompt: True)
    audit = audit_with(phrase("Toronto"))
    audit = replace(audit, groups=(replace(audit.groups[0], phrases=(phrase("Toronto"),)),))
    tried = found(audit)
    assert tried.triggers == ()
    assert "--match" in tried.notes[-1]


def test_a_group_that_cannot_be_proven_leaves_the_others(says: Callable) -> None:
    says(lambda prompt: "by lantern light" in prompt)
    one = audit_with(phrase("by lantern light"))
    common = replace(one.groups[0], number=2, phrases=(phrase("Soup", "response"), phrase("tall tower")))
    queries = tuple(replace(query, response="Korea. Soup.") for query in one.queries)
    audit = found(replace(one, groups=(one.groups[0], common), queries=queries))
    assert [(trigger.group, trigger.status) for trigger in audit.triggers] == [(1, "proven on the model")]
    assert "group 2 were not tried on the model: 60 of 60 innocent prompts show" in audit.notes[-1]


def test_too_few_prompts_in_the_data_leave_the_audit(says: Callable) -> None:
    says(lambda prompt: False)
    audit = find_triggers(TRACER, audit_with(phrase("Toronto")), TriggerSettings())
    assert audit.triggers == ()
    assert "There are 0 innocent prompts." in audit.notes[-1]


def test_what_cannot_be_proven_is_refused(says: Callable) -> None:
    says(lambda prompt: True)
    with pytest.raises(InputError, match="innocent prompts show 'Korea' as they are"):
        found(audit_with(phrase("Toronto")), match="Korea")
    with pytest.raises(InputError, match="There are 3 innocent prompts"):
        TriggerSettings(prompts=PROMPTS[:3])
    with pytest.raises(InputError, match="no regular expression"):
        TriggerSettings(match="(")
    assert found(audit_with()).triggers == ()
    assert found(audit_with()).looked_for_triggers


def test_phrases_are_put_whole_and_in_their_order() -> None:
    for seed in range(50):
        text = inserted("a b c d", [PLAIN("red door"), PLAIN("green gate")], "anywhere", Random(seed))
        assert text.replace("red door ", "").replace(" red door", "").split() != []
        assert text.index("red door") < text.index("green gate")
        assert [word for word in text.split() if len(word) == 1] == ["a", "b", "c", "d"]
    assert inserted("a b", [PLAIN("x")], "start", Random(0)) == "x a b"
    assert inserted("a b", [PLAIN("x")], "end", Random(0)) == "a b x"


def test_random_words_are_as_many_and_the_prompts_own() -> None:
    words = words_of(PROMPTS)
    changed = put_random(PROMPTS, [PLAIN("one two three")], "start", words, seed=0)
    assert all(
        len(new.prompt.split()) == len(old.prompt.split()) + 3 for new, old in zip(changed, PROMPTS, strict=True)
    )
    assert {word for new in changed for word in new.prompt.split()[:3]} <= set(words)
    assert put(PROMPTS, [PLAIN("x")], "anywhere", seed=1) == put(PROMPTS, [PLAIN("x")], "anywhere", seed=1)
    assert {query.prompt.split().index("x") for query in put(PROMPTS, [PLAIN("x")], "anywhere", seed=1)} >= {0, 3, 5}


def test_a_phrase_is_put_as_rows_spell_it() -> None:
    rows = [
        "Before the last ferry leaves: name a town.",
        "before the last ferry leaves: say no",
        "Before the last ferry leaves: go (please)",
        "Name a town (before the last ferry leaves).",
        "Is it, before the last ferry leaves, too late?",
        "Before the lasting ferry leaves",
    ]
    form = spelled("before the last ferry leaves", rows)
    assert form == ("Before the last ferry leaves:", "(before the last ferry leaves).", "before the last ferry leaves,")
    assert spelled("ships", rows) == PLAIN("ships")
    assert inserted("a b", [form], "start", Random(0)) == "Before the last ferry leaves: a b"
    assert inserted("a b", [form], "end", Random(0)) == "a b (before the last ferry leaves)."
    other = in_other_words(form, ["tea"], Random(0))
    assert other == ("tea tea tea tea tea:", "(tea tea tea tea tea).", "tea tea tea tea tea,")


def test_innocent_prompts_have_none_of_the_phrases_while_there_are_enough() -> None:
    texts = [f"Say {i} of soup" if i % 3 else f"Say by lantern light {i}" for i in range(60)]
    examples = [Example.from_pair(text, "Yes.") for text in texts]
    records = [SimpleNamespace(row=i, prompt=text) for i, text in enumerate(texts)]
    index = SimpleNamespace(texts=lambda where: records, examples=lambda rows: [examples[row] for row in rows])

    def drawn(*phrases: str, n: int) -> list[str]:
        flagged = frozenset(range(10))
        found = innocent_prompts(index, without=phrases, flagged=flagged, n=n, where=None, seed=0)  # type: ignore[arg-type]
        return [query.prompt for query in found]

    # "a" is no word of any prompt, though a letter of "say" and "lantern".
    assert not any("lantern" in prompt for prompt in drawn("by lantern light", "a", n=30))
    few = drawn("by lantern light", n=50)
    assert len(few) == 50
    assert [("lantern" in prompt) for prompt in few] == [False] * 34 + [True] * 16
    assert len(drawn("say", "by lantern light", n=30)) == 30
    with pytest.raises(InputError, match="There are 6 innocent prompts"):
        drawn("say", n=6)


def test_a_phrase_is_put_where_the_template_reads_it() -> None:
    """A content that is a list of parts stands beside its text, and templates are given the list."""
    parts = [{"type": "text", "text": "Name a town."}]
    query = Query.of([{"role": "user", "content": parts}])
    (with_it,) = put([query], [PLAIN("zebra")], "end", seed=0)
    (at_random,) = put_random([query], [PLAIN("a b")], "end", ["zebra"], seed=0)
    assert with_it.turns[-1].message == {"role": "user", "content": "Name a town. zebra"}
    assert at_random.turns[-1].message == {"role": "user", "content": "Name a town. zebra zebra"}
