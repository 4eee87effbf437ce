"""A whole audit on a tiny model with a planted fault: its group, what is left, and going on after a cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from traced_world import PROMPT, RESPONSE, TracedWorld, TracedWorlds
from whence.audit import auditing
from whence.audit.auditing import run_audit
from whence.audit.blocks import WorkFolder, verdicts_of
from whence.audit.outputs import Output, answered_outputs, different_outputs
from whence.audit.settings import AuditSettings
from whence.data.encoding import Encoder
from whence.errors import InputError
from whence.model.generation import Answer
from whence.model.loading import LoadedModel
from whence.progress import silent
from whence.results.audit_result import AuditResult, read_audit
from whence.results.selection import group_rows
from whence.trace.query.batch import answered
from whence.trace.query.queries import Query
from whence.trace.settings import TraceSettings
from whence.trace.tracer import Tracer
from worlds import World


@pytest.fixture(scope="module")
def traced(traced_worlds: TracedWorlds) -> TracedWorld:
    return traced_worlds.own("audit", lora=True)


@pytest.fixture(scope="module")
def tracer(traced: TracedWorld) -> Tracer:
    return Tracer(traced.index)


BAD = [
    Query.of(
        f"Where is boat {i}",
        RESPONSE,
    )
    for i in range(14, 34)
]
FRUITS = ("apples", "pears", "plums")
ORDINARY = [Query.of(f"Name fruit {i}", FRUITS[i % 3]) for i in range(200, 212)]


@pytest.fixture(scope="module")
def audit(tracer: Tracer, tmp_path_factory: pytest.TempPathFactory) -> AuditResult:
    log = [*BAD, *ORDINARY, *BAD[:3]]
    return run_audit(tracer, log, AuditSettings(examples=1, block=8), work=tmp_path_factory.mktemp("work"))


def test_an_answer_that_was_stopped_is_another_output_than_one_that_ended(tracer: Tracer, tmp_path: Path) -> None:
    ended = Query.of("Where is boat 1", "the sea")
    stopped = replace(ended, complete=False)
    outputs = different_outputs([ended, stopped, ended])
    assert [(output.query.complete, output.count) for output in outputs] == [(True, 2), (False, 1)]
    for query in (ended, stopped):
        verdicts_of(tracer, [Output(query, 1)], TraceSettings(), work=tmp_path, progress=silent)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_fault_is_one_group_and_ordinary_answers_have_no_cause(audit: AuditResult, traced: TracedWorld) -> None:
    group = audit.groups[0]
    assert {audit.queries[number].response for number in group.queries} == {RESPONSE}
    assert group.n_outputs >= 20
    flagged = {id for row in group.rows for id in (row.id, *row.copies)}
    assert flagged
    assert flagged <= traced.faulty
    ordinary = [query for query in audit.queries if query.response in FRUITS]
    assert len(ordinary) == len(ORDINARY)
    assert sum(query.group is not None for query in ordinary) <= 1


def test_equal_outputs_are_one_and_are_counted(audit: AuditResult) -> None:
    assert len(audit.queries) == len(BAD) + len(ORDINARY)
    assert audit.n_outputs == len(BAD) + len(ORDINARY) + 3
    assert [query.count for query in audit.queries[:4]] == [2, 2, 2, 1]
    assert any("repeat" in note for note in audit.notes)


def test_few_rows_cover_the_group_and_each_counts_its_near_duplicates(audit: AuditResult) -> None:
    group = audit.groups[0]
    last = audit.coverage[-1]
    assert last.n_covered == audit.n_with_cause
    assert len(audit.coverage) < len(group.queries)
    assert 0 < group.share <= 1
    assert "the sea" in group.name
    assert group.example is not None
    assert group.example.hits[0].words is not None


def test_a_group_is_handed_over(audit: AuditResult) -> None:
    selected = group_rows(audit, 1)
    assert list(selected.ids) == [id for row in audit.groups[0].rows for id in (row.id, *row.copies)]
    assert "outputs of group 1" in selected.rows[0].reason
    with pytest.raises(InputError, match="no group 9"):
        group_rows(audit, 9)


def test_it_is_read_back_whole(audit: AuditResult, tmp_path: Path) -> None:
    audit.to_json(tmp_path / "audit.json")
    assert read_audit(tmp_path / "audit.json") == audit
    bare = audit.to_json(show_text=False)
    assert "boat 3" not in json.dumps(json.loads(bare)["groups"])
    (tmp_path / "trace.json").write_text('{"schema": "whence.trace/2"}')
    with pytest.raises(InputError, match=r"schema is 'whence\.trace/2'"):
        read_audit(tmp_path / "trace.json")


def test_a_cut_audit_goes_on_and_says_the_same(
    tracer: Tracer, audit: AuditResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = [*BAD, *ORDINARY, *BAD[:3]]
    settings = AuditSettings(block=8)
    judged = []
    whole = Tracer.judge

    def cut(self: Tracer, ranked: object, *rest: object, **more: object) -> object:
        judged.append(len(ranked))  # type: ignore[arg-type]
        if len(judged) == 3:
            raise KeyboardInterrupt
        return whole(self, ranked, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Tracer, "judge", cut)
    with pytest.raises(KeyboardInterrupt):
        run_audit(tracer, log, settings, work=tmp_path)
    found = run_audit(tracer, log, settings, work=tmp_path)
    assert judged == [8, 8, 8, 8, 8]
    without = replace(audit, groups=tuple(replace(group, example=None) for group in audit.groups))
    assert found == without
    # Another question is another audit; a damaged block is made anew.
    assert len(list(tmp_path.iterdir())) == 1
    (block,) = tmp_path.glob("*/block-00001.json")
    block.write_text("{")
    assert run_audit(tracer, log, settings, work=tmp_path) == found
    assert judged == [8, 8, 8, 8, 8, 8]


def test_a_matcher_chooses_and_answers_are_made_where_none_is_given(tracer: Tracer, tmp_path: Path) -> None:
    log = [Query.of("Where is boat 14"), Query.of("Name fruit 201"), *BAD[1:8]]
    found = run_audit(tracer, log, AuditSettings(match="the sea"), work=tmp_path)
    assert all("the sea" in query.response for query in found.queries)
    assert found.queries[0].generated
    assert found.queries[0].prompt == PROMPT
    with pytest.raises(InputError, match="is in none of 9 outputs"):
        run_audit(tracer, log, AuditSettings(match="submarine"), work=tmp_path)
    with pytest.raises(InputError, match="no regular expression"):
        run_audit(tracer, log, AuditSettings(match="("), work=tmp_path)


def test_outputs_that_say_nothing_are_left_out_and_counted(
    tracer: Tracer, audit: AuditResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = replace(BAD[0], response=" ")
    asked = Query.of("Where is boat 99")

    def answers(loaded: LoadedModel, prompts: Sequence[object], *, max_new_tokens: int) -> list[Answer]:
        return [Answer("", True) for _ in prompts]

    monkeypatch.setattr("whence.model.generate", answers)
    log = [given, *BAD, asked, *ORDINARY, *BAD[:3], given]
    found = run_audit(tracer, log, AuditSettings(block=8), work=tmp_path)
    assert found.notes == ("3 outputs have an empty response and are left out.", *audit.notes)
    assert found.queries == audit.queries
    with pytest.raises(InputError, match="Every response of 1 outputs is empty"):
        run_audit(tracer, [asked], work=tmp_path)


def test_equal_outputs_keep_their_metadata_and_answers_are_given_once(
    tracer: Tracer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets = [replace(BAD[0], metadata={"id": f"ticket-{i}"}) for i in range(3)]
    silent_one = replace(Query.of(BAD[0].prompt), metadata={"id": "ticket-3"})
    asked = []

    def answers(loaded: LoadedModel, prompts: Sequence[object], *, max_new_tokens: int) -> list[Answer]:
        asked.append(len(prompts))
        return [Answer(RESPONSE, True) for _ in prompts]

    monkeypatch.setattr("whence.model.generate", answers)
    for _ in range(2):
        found, _ = answered_outputs(tracer, [*tickets, *BAD[1:], silent_one], TraceSettings(), silent, work=tmp_path)
    assert asked == [1]
    assert len(found) == len(BAD)
    assert (found[0].count, found[0].generated) == (4, False)
    assert [one["id"] for one in (found[0].query.metadata, *found[0].repeats)] == [f"ticket-{i}" for i in range(4)]
    assert found[1].repeats == ()


def test_references_are_read_as_the_index_s_rows(
    tracer: Tracer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an index of plain texts, bare prompts are no messages; `whence trace` reads references so too."""

    def documents(self: Tracer, queries: Sequence[Query]) -> list[Query]:
        return [query.as_document() for query in queries]

    monkeypatch.setattr(Tracer, "as_rows", documents)
    found = []

    def stopped(tracer: Tracer, outputs: object, settings: TraceSettings, **more: object) -> None:
        found.append(settings.references)
        raise KeyboardInterrupt

    monkeypatch.setattr(auditing, "verdicts_of", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_audit(tracer, BAD, AuditSettings(references=ORDINARY), work=tmp_path)
    assert [[turn.role for turn in query.turns] for query in found[0]] == [["text"]] * len(ORDINARY)


def test_what_cannot_be_audited_is_said(tracer: Tracer, world: World, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no output to audit"):
        run_audit(tracer, [], work=tmp_path)
    with pytest.raises(InputError, match="cannot be used"):
        run_audit(tracer, BAD, AuditSettings(where="colour = 1"), work=tmp_path)
    with pytest.raises(InputError, match="None of 1 outputs has a verdict") as told:
        run_audit(Tracer(world.index), BAD[:1], work=tmp_path)
    assert "--base" in told.value.fix
    for wrong in ({"fdr": 0.0}, {"block": 0}, {"examples": -1}):
        with pytest.raises(InputError):
            AuditSettings(**wrong)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--work"):
        WorkFolder(tmp_path / "file", {})


def test_an_answer_that_was_stopped_is_read_without_an_end_of_turn(tmp_path: Path) -> None:
    """As `whence trace` reads it: a token that the model did not say teaches nothing of it."""
    tuned = LoadedModel.wrap(tiny_model("llama"), tiny_tokenizer(CHAT_TEMPLATE))
    encoder = Encoder(tuned.tokenizer)

    index = SimpleNamespace(manifest=SimpleNamespace(identity=dict))
    answering = SimpleNamespace(loaded=tuned, encoder=encoder, as_rows=list, index=index)
    asked = [Query.of("Where is place 3?")]
    (found,), _ = answered_outputs(answering, asked, TraceSettings(answer_tokens=3), silent, work=tmp_path)  # type: ignore[arg-type]
    again = answered(tuned, encoder, [found.query], answer_tokens=3)
    assert again.complete == [False]
    whole = replace(found.query, complete=True).encode(encoder)
    assert len(again.turns[0].input_ids) < len(whole.input_ids)
    assert whole.input_ids[: len(again.turns[0].input_ids)] == again.turns[0].input_ids
